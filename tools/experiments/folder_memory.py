"""Compress a random Llama from folder to folder and append one line of JSON to a file: the time, and the peak memory of
the process. The chapter on folders larger than memory shows these lines.

    python tools/experiments/folder_memory.py 8 --out nbs/data/folders.jsonl
    python tools/experiments/folder_memory.py 24 --out nbs/data/folders.jsonl

Weights are random and in bfloat16, so the result means nothing; the work and the memory are those of a real model.
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
blocks, width, inner, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_default_dtype(torch.bfloat16)
config = LlamaConfig(vocab_size=32000, hidden_size=width, intermediate_size=inner, num_hidden_layers=blocks,
                     num_attention_heads=width//64, num_key_value_heads=width//256, tie_word_embeddings=True)
LlamaForCausalLM(config).save_pretrained(folder, max_shard_size='500MB')
"""


def peak_bytes():
    "Return the largest memory that this process has had"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('blocks', type=int)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--inner', type=int, default=5632, help='width between the layers of an MLP')
    parser.add_argument('--ratio', type=float, default=0.8)
    parser.add_argument('--effort', type=int, default=0)
    parser.add_argument('--sequences', type=int, default=32)
    parser.add_argument('--length', type=int, default=64, help='tokens in a sequence')
    parser.add_argument('--memory', type=float, default=1e9, help='of compress')
    parser.add_argument('--out', default='folders.jsonl')
    return parser.parse_args()


def main():
    args = read_args()
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder, 'dense')
        sizes = (str(args.blocks), str(args.width), str(args.inner))
        subprocess.run([sys.executable, '-c', MAKE, *sizes, str(dense)], check=True)
        import torch

        from svd_compress.pretrained import compress_pretrained

        torch.manual_seed(0)
        data = list(torch.randint(32000, (args.sequences, args.length)).split(4))
        imported, start, processor = peak_bytes(), time.perf_counter(), time.process_time()
        report = compress_pretrained(
            dense, args.ratio, data, Path(folder, 'small'), effort=args.effort, memory=args.memory
        )
        row = dict(vars(args), imported_bytes=imported, peak_bytes=peak_bytes(), parameters=report.parameters)
        row |= dict(bytes=report.bytes, seconds=time.perf_counter() - start)
        row |= dict(processor_seconds=time.process_time() - processor, threads=torch.get_num_threads())
        row |= {name: version(name) for name in ('torch', 'transformers')}
        files = sum(path.stat().st_size for path in Path(folder, 'small').glob('*.safetensors'))
        row['file_bytes'] = files
    with open(row.pop('out'), 'a') as file:
        file.write(json.dumps(row) + '\n')
    print(json.dumps(row, indent=1))


if __name__ == '__main__':
    main()

"""Measure what the chapter on benchmarking shows of a GPU, one line of JSON for each measurement:

    python tools/experiments/gpu.py [--out nbs/data/gpu.jsonl] [--device cuda] [--batches 1 128 4096 65536]

Dense networks and factorized ones are timed in turns, on a GPU as CUDA graphs. First the network of MNIST at rank 20,
as `compress` and as `optimize` return it, in four precisions; then layers of a transformer at several ranks."""
import argparse
import copy
import json
from functools import partial
from pathlib import Path

import torch
from torch import nn

import svd_compress as sc
from svd_compress.timing import time_calls

PRECISIONS = {
    'bfloat16': (torch.bfloat16, False),
    'float16': (torch.float16, False),
    'float32': (torch.float32, False),
    'tf32': (torch.float32, True),
}
RANKS = 8, 16, 32, 64, 128, 192
DATA = Path(__file__).resolve().parents[2] / 'nbs' / 'data'


def digits_network(device, batches):
    "Yield rows for the network of MNIST"
    dense = sc.MLP(seed=0).eval()
    factors = sc.compress(dense, rank=20, exclude=['fc6'])
    for precision, (dtype, tf32) in PRECISIONS.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        model, compressed = (copy.deepcopy(m).to(device, dtype) for m in (dense, factors))
        x = torch.randn(1, 784, dtype=dtype)
        for form, other in (('factors', compressed), ('optimized', sc.optimize(compressed))):
            for row in sc.benchmark(model, other, x, batches).rows:
                yield {'what': 'digits', 'precision': precision, 'form': form, **row}


def factorized(dense, rank):
    "Return a block with all its linear layers at one rank, optimized"
    ranks = {name: rank for name, layer in dense.named_children() if isinstance(layer, nn.Linear)}
    return sc.optimize(sc.factorize(dense, ranks))


def block_rows(name, dense, device, tokens, width):
    "Yield rows for a block of a transformer"
    dense = dense.eval().to(device, torch.bfloat16)
    models = {'dense': dense, **{rank: factorized(dense, rank) for rank in RANKS}}
    for n in tokens:
        x = torch.randn(n, width, device=device, dtype=torch.bfloat16)
        seconds = time_calls({key: partial(model, x) for key, model in models.items()}, device)
        for rank in RANKS:
            row = {'what': name, 'precision': 'bfloat16', 'width': width, 'tokens': n, 'rank': rank}
            yield {**row, 'dense_seconds': seconds['dense'], 'seconds': seconds[rank]}


def transformer_layers(device, tokens, width=384, inner=1536):
    "Yield rows for an attention's projection and a feed-forward block"
    projection = nn.Sequential(nn.Linear(width, width))
    block = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
    yield from block_rows('projection', projection, device, tokens, width)
    yield from block_rows('block', block, device, tokens, width)


def main(out, device, batches):
    name = torch.cuda.get_device_name(device) if device.startswith('cuda') else device
    with open(out, 'w') as file:
        for rows in (digits_network(device, batches), transformer_layers(device, batches)):
            for row in rows:
                file.write(json.dumps({'device': name, 'torch': torch.__version__, **row}) + '\n')
                file.flush()
                print(row, flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=DATA / 'gpu.jsonl')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 16, 128, 1024, 4096, 16384, 65536])
    args = parser.parse_args()
    main(args.out, args.device, args.batches)

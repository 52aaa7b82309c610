"""Measure what the chapters show of a GPU, one line of JSON for each measurement, appended to a file:

    python tools/experiments/gpu.py [SECTION ...] [--out nbs/data/gpu.jsonl] [--device cuda] [--small] [--only NAME]

Sections, by default all of them, in about four minutes: `training` (epochs of MNIST, with steps as CUDA graphs and
without), `ranks` (two factors at ranks that are multiples of 8 and at others), `chain` (the kernel), `models` (a vision
transformer, blocks of a Llama, a sentence transformer, a convolutional network) and `decomposition`. Models have random
weights: their times do not depend on them. What is compared is timed in turns, on a GPU as CUDA graphs. `--small` takes
small sizes, to try the script on a CPU; `--only` takes those models whose name contains a text."""
import argparse
import copy
import json
import platform
import re
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import svd_compress as sc
from svd_compress.lowrank import _full_svd, truncated_svd
from svd_compress.timing import time_calls

DATA = Path(__file__).resolve().parents[2] / 'nbs' / 'data'
PRECISIONS = {'bfloat16': (torch.bfloat16, False), 'tf32': (torch.float32, True), 'float32': (torch.float32, False)}


def synchronize(device):
    if device.type == 'cuda':
        torch.cuda.synchronize()


def plain_epoch(model, batches, device):
    "Train for an epoch as a plain loop does, on batches that are on the device; return the seconds"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    synchronize(device)
    start = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    synchronize(device)
    return time.perf_counter() - start


def training(device, small):
    "Yield the seconds of an epoch, at several batch sizes: the median of those after the first"
    for batch_size in (2048,) if small else (128, 1024, 8192):
        train_dl, test_dl = sc.mnist(batch_size=batch_size, device=device)
        teacher = sc.MLP(seed=0).to(device)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # ranks that are no multiples of 8
            student = sc.compress(teacher, rank=20, exclude=['fc6'])
        seconds = plain_epoch(copy.deepcopy(teacher), train_dl, device)
        yield {'what': 'plain loop', 'batch': batch_size, 'seconds': seconds}
        runs = {
            'dense': lambda m, **kw: sc.fit(m, train_dl, 4, lr=1e-4, **kw),
            'rank 20': lambda m, **kw: sc.fit(m, train_dl, 4, lr=1e-4, **kw),
            'rank 20, teacher': lambda m, **kw: sc.finetune(m, train_dl, 4, teacher=teacher, **kw),
        }
        for name, run in runs.items():
            for capture in (False, True):
                model = copy.deepcopy(teacher if name == 'dense' else student)
                history = run(model, capture=capture, progress=False, seed=0)
                seconds = sorted(r['seconds'] for r in history[1:])[1]
                row = {'what': name, 'batch': batch_size, 'captured': capture, 'seconds': seconds}
                row |= {'first': history[0]['seconds'], 'loss': history[-1]['loss'], 'eager': history[-1].get('eager')}
                yield row | {'test accuracy': sc.evaluate(model, test_dl).accuracy}


def ranks(device, small):
    "Yield the microseconds of a dense product and of two factors, in bfloat16"
    sizes = [(64, 64, (16, 19))] if small else [
        (768, 768, (64, 128, 192, 195, 256)), (768, 3072, (304, 310)), (2048, 2048, (512, 515)),
        (4096, 4096, (1024, 1027))]
    for n, m, rank_list in sizes:
        for rows in (8,) if small else (256, 12608):
            x = torch.randn(rows, n, device=device, dtype=torch.bfloat16)
            dense = nn.Linear(n, m, device=device, dtype=torch.bfloat16)
            layers = {rank: sc.LowRankLinear(n, m, rank, device=device, dtype=torch.bfloat16) for rank in rank_list}
            padded = {f'{rank} optimized': sc.optimize(nn.Sequential(layer)).eval()
                      for rank, layer in layers.items() if rank % 8}
            calls = {name: partial(layer, x) for name, layer in {'dense': dense, **layers, **padded}.items()}
            seconds = time_calls(calls, device)
            microseconds = {name: 1e6 * s for name, s in seconds.items()}
            yield {'what': 'two factors', 'rows': rows, 'n': n, 'm': m, 'us': microseconds}


def chain(device, small):
    "Yield the times of the network of MNIST at rank 20, and of its error"
    dense = sc.MLP(seed=0).eval()
    factors = sc.compress(dense, rank=20, exclude=['fc6'])
    for precision, (dtype, tf32) in PRECISIONS.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        batches = (1, 128, 4096, 65536) if tf32 else (1, 16, 128, 1024, 4096, 16384, 65536)
        batches = (1, 8) if small else batches
        model, compressed = (copy.deepcopy(m).to(device, dtype) for m in (dense, factors))
        x = torch.randn(1, 784, dtype=dtype)
        for form, other in (('factors', compressed), ('optimized', sc.optimize(compressed))):
            for row in sc.benchmark(model, other, x, batches).rows:
                yield {'what': 'digits', 'precision': precision, 'form': form, **row}


def example_models(device, small):
    "Yield name, model, how to compress it, and example inputs for some batch sizes"
    from torchvision.models import resnet50, vit_b_16
    on_cpu = device.type == 'cpu'
    if not small:
        images = {n: (torch.randn(n, 3, 224, 224),) for n in (1, 4 if on_cpu else 64)}
        yield 'ViT-B/16', vit_b_16(), {'ratio': .5}, images
        yield 'ResNet-50', resnet50(), {'ratio': .5}, images
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel
    width, tokens = (64, (8,)) if small else (2048, (1, 256) if on_cpu else (1, 256, 2048))
    config = LlamaConfig(hidden_size=width, intermediate_size=width*43 // 16, num_hidden_layers=2, vocab_size=64,
                         num_attention_heads=width // 64, num_key_value_heads=max(1, width // 512), use_cache=False)
    llama = LlamaModel(config)
    texts = {n: (torch.zeros(1, n, dtype=torch.long),) for n in tokens}
    yield f'Llama, 2 blocks of {width}', llama, {'ratio': .6}, texts
    if not small:
        config = BertConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12)
        sentences = {n: (torch.ones(n, 64, dtype=torch.long),) for n in (1, 32 if on_cpu else 64)}
        yield 'MiniLM', BertModel(config), {'ratio': .5, 'exclude': '*embeddings*'}, sentences


def first_tensor(model, args):
    "Call a model; transformers' outputs are no tuples of tensors that can be compared"
    out = model(*args)
    return out if isinstance(out, torch.Tensor) else out[0]


def models(device, small, only=''):
    "Yield the times of models, on a GPU in bfloat16: dense, compressed, optimized, and each compiled"
    dtype = torch.float32 if device.type == 'cpu' else torch.bfloat16
    for name, model, options, examples in example_models(device, small):
        if only not in name:
            continue
        model = model.eval().to(device, dtype)
        compressed = sc.compress(model, **options)
        forms = {'dense': model, 'compressed': compressed, 'optimized': sc.optimize(compressed)}
        for n, args in examples.items():
            args = [a.to(device, dtype) if a.is_floating_point() else a.to(device) for a in args]
            calls = {form: partial(first_tensor, m, args) for form, m in forms.items()}
            if not small and n == max(examples):  # compiling takes most of the time
                for form in ('dense', 'compressed'):
                    torch._dynamo.reset()
                    compiled = torch.compile(forms[form], dynamic=False)
                    with torch.no_grad():
                        compiled(*args)
                    calls[f'{form}, compiled'] = partial(first_tensor, compiled, args)
            seconds = time_calls(calls, device, rounds=7, most=2)
            found = sorted({m.rank for m in compressed.modules() if isinstance(m, sc.LowRankLinear)})
            row = {'what': name, **options, 'batch': n, 'dtype': str(dtype), 'seconds': seconds}
            yield row | {'lowest rank': found[0], 'highest rank': found[-1]}


def decomposition(device, small):
    "Yield the seconds of decompositions, and the error as a fraction of the smallest one"
    for n, rank in [(256, 32)] if small else [(4096, 512), (2048, 256), (1024, 128), (768, 192)]:
        W = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device)
        calls = {'torch.linalg.svd': partial(torch.linalg.svd, W, full_matrices=False),
                 'truncated_svd': partial(truncated_svd, W, rank), 'exact': partial(_full_svd, W)}
        if device.type == 'cuda':
            calls['gesvda'] = partial(torch.linalg.svd, W, full_matrices=False, driver='gesvda')
        batch = W[: n // 4, : n // 4].double().expand(12, -1, -1).contiguous()
        calls |= {'eigh, 12 in one call': partial(torch.linalg.eigh, batch @ batch.mT),
                  'eigh, 12 calls': lambda batch=batch: [torch.linalg.eigh(b @ b.T) for b in batch]}
        best, seconds, errors = None, {}, {}
        for name, call in calls.items():
            call()
            synchronize(device)
            start = time.perf_counter()
            U, S, Vh, *_ = (*call(), None)
            synchronize(device)
            seconds[name] = time.perf_counter() - start
            if name.startswith('eigh'):
                continue
            error = float((W - U[:, :rank].to(W) * S[:rank].to(W) @ Vh[:rank].to(W)).norm())
            best = best or error
            errors[name] = error / best
        yield {'what': 'decomposition', 'n': n, 'rank': rank, 'seconds': seconds, 'error': errors}


SECTIONS = {'training': training, 'ranks': ranks, 'chain': chain, 'models': models, 'decomposition': decomposition}


def device_name(device):
    "Return the name of a GPU, or of the processor with its number of threads"
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpuinfo = Path('/proc/cpuinfo')
    found = re.search(r'model name\s*:\s*(.*)', cpuinfo.read_text() if cpuinfo.exists() else '')
    return f'{found[1] if found else platform.machine()}, {torch.get_num_threads()} threads'


def main(args):
    device = torch.device(args.device)
    name = device_name(device)
    known = {'device': name, 'torch': torch.__version__, 'svd_compress': sc.__version__,
             'command': re.sub(r' --out \S+', '', ' '.join(['python', 'tools/experiments/gpu.py', *sys.argv[1:]]))}
    for section in args.sections or SECTIONS:
        start = time.perf_counter()
        options = {'only': args.only} if section == 'models' else {}
        for row in SECTIONS[section](device, args.small, **options):
            with open(args.out, 'a') as file:
                file.write(json.dumps({'section': section, **row, **known}) + '\n')
            print(section, row, flush=True)
        print(section, f'{time.perf_counter() - start:.0f} s', flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sections', nargs='*', metavar='SECTION', help=f'of {", ".join(SECTIONS)}')
    parser.add_argument('--out', type=Path, default=DATA / 'gpu.jsonl')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--small', action='store_true')
    parser.add_argument('--only', default='', help='of the models, those whose name contains this')
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f'unknown sections: {", ".join(sorted(unknown))}')
    main(args)

"""Measure what the chapter on speed tells about a GPU: python tools/gpu.py [--out nbs/data/gpu.jsonl] [--device cuda] [--batches 1 128 4096 65536]

One line of JSON for each measurement, with the device's name. Dense networks and factorized ones are timed in turns, as CUDA graphs. The network of MNIST at rank 20, as `compress` and as `optimize` give it, in four precisions; then layers of a transformer at several ranks."""
import argparse, json
from pathlib import Path
import torch
from torch import nn
import svd_compress as sc
from svd_compress.layers import factorize
from svd_compress.timing import time_calls

PRECISIONS = {'bfloat16': (torch.bfloat16, False), 'float16': (torch.float16, False), 'float32': (torch.float32, False), 'tf32': (torch.float32, True)}

def digits_network(device, batches):
    "Rows for the network of MNIST"
    dense = sc.MLP(seed=0).eval()
    small = sc.compress(dense, rank=20, exclude=['fc6'])
    for precision, (dtype, tf32) in PRECISIONS.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        model, factors = (m.to(device, dtype) for m in (sc.MLP(seed=0).eval(), small))
        for form, other in (('factors', factors), ('optimized', sc.optimize(factors))):
            for row in sc.benchmark(model, other, torch.randn(1, 784, dtype=dtype), batches).rows: yield {'what': 'digits', 'precision': precision, 'form': form, **row}

def transformer_layers(device, tokens, ranks, width=384, inner=1536):
    "Rows for an attention's projection and a feed-forward block, optimized"
    shapes = {'projection': nn.Sequential(nn.Linear(width, width)), 'block': nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))}
    for name, dense in shapes.items():
        dense = dense.eval().to(device, torch.bfloat16)
        small = {r: sc.optimize(factorize(dense, {n: r for n, m in dense.named_children() if isinstance(m, nn.Linear)})) for r in ranks}
        for n in tokens:
            x = torch.randn(n, width, device=device, dtype=torch.bfloat16)
            seconds = time_calls({0: lambda: dense(x), **{r: lambda m=m: m(x) for r, m in small.items()}}, device)
            for r in ranks: yield {'what': name, 'precision': 'bfloat16', 'width': width, 'tokens': n, 'rank': r, 'dense_seconds': seconds[0], 'seconds': seconds[r]}

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path(__file__).resolve().parent.parent/'nbs'/'data'/'gpu.jsonl')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 16, 128, 1024, 4096, 16384, 65536])
    args = parser.parse_args()
    name = torch.cuda.get_device_name(args.device) if args.device.startswith('cuda') else args.device
    with open(args.out, 'w') as f:
        for rows in (digits_network(args.device, args.batches), transformer_layers(args.device, args.batches, (8, 16, 32, 64, 128, 192))):
            for row in rows: f.write(json.dumps({'device': name, 'torch': torch.__version__, **row}) + '\n'); f.flush(); print(row, flush=True)

if __name__ == '__main__': main()

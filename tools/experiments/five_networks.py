"""Train networks of the baseline and compress each at the sizes of ranks 5, 10 and 20: the table in the chapter on
compression. Trained networks are kept in a folder and used again.

No method sees labels. `truncated`, `whitened` and `effort 0` are closed forms; `effort 1` and `effort 2` are refined by
gradient steps on the samples that were read; `pruned` is effort 1 with `prune=True`. Choices are made on the held-out
digits."""
import argparse
import time
from pathlib import Path
from statistics import mean

import torch

import svd_compress as sc
from svd_compress.calibration import Calibration
from svd_compress.fitting import fit_layer
from svd_compress.surgery import replace_layers
from svd_compress.views import Choice, layer_view

NAMES = [f'fc{i}' for i in range(1, 6)]
WEIGHTS_PER_RANK = 10_000 / 4_997_120  # of fc1 to fc5


def trained(seed, folder, train_dl):
    "Return a network trained on the first 55,000 digits"
    path, model = Path(folder) / f'net{seed}.pt', sc.MLP(seed=seed)
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        sc.fit(model, train_dl, epochs=30, lr=1e-4, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model.eval()


def truncated(model, rank, train_dl):
    "Truncate each layer to one rank"
    return sc.compress(model, rank=rank, exclude=['fc6'])


def whitened(model, rank, train_dl):
    "Fit each layer to its own inputs alone, at one rank for all"
    calibration = Calibration(model, NAMES, train_dl, rows=8)
    new = {}
    for group in calibration.groups:
        (inputs,) = calibration.moments([group])
        for name in group.names:
            new[name] = fit_layer(Choice(layer_view(getattr(model, name)), rank), inputs.moments)
    return replace_layers(model, new)


def with_effort(effort, prune=False):
    "Return a method: `compress` with data at this effort"

    def method(model, rank, train_dl):
        ratio = rank * WEIGHTS_PER_RANK
        options = {'effort': effort, 'prune': prune, 'exclude': ['fc6'], 'progress': False}
        return sc.compress(model, ratio=ratio, data=train_dl, **options)

    return method


class Result:
    "Accuracies and seconds of a core of one method at one rank, over networks"

    def __init__(self):
        self.accuracies, self.held_out, self.seconds = [], [], []

    def __str__(self):
        held_out, seconds = f'{mean(self.held_out):.2%} held out', f'{max(self.seconds):.0f} s of a core at most'
        return f'{mean(self.accuracies):9.2%} ({held_out}, {seconds})'


def measure(model, method, rank, loaders, result):
    "Compress a network, add its test accuracy to the result, and return a line about it"
    train_dl, valid_dl, test_dl = loaders
    start = time.process_time()
    compressed = method(model, rank, train_dl)
    result.seconds.append(time.process_time() - start)
    result.accuracies.append(sc.evaluate(compressed, test_dl).accuracy)
    ranks = [getattr(getattr(compressed, n), 'rank', 'dense') for n in NAMES]
    units = [getattr(compressed, n).out_features for n in NAMES]
    result.held_out.append(sc.evaluate(compressed, valid_dl).accuracy)
    test, seconds = result.accuracies[-1], result.seconds[-1]
    return f'units {units}, ranks {ranks}, {result.held_out[-1]:.2%} held out, {test:.2%} test, {seconds:.1f} s'


def main(networks, ranks, efforts, prune, folder):
    loaders = sc.mnist(valid=5000)
    train_dl, valid_dl, test_dl = loaders
    methods = {'truncated': truncated, 'whitened': whitened, **{f'effort {e}': with_effort(e) for e in efforts}}
    if prune:
        methods['pruned'] = with_effort(1, prune=True)
    results = {(name, rank): Result() for name in methods for rank in ranks}
    dense = []
    for seed in range(networks):
        model = trained(seed, folder, train_dl)
        dense.append(sc.evaluate(model, test_dl).accuracy)
        held_out = sc.evaluate(model, valid_dl).accuracy
        print(f'network {seed}: dense {held_out:.2%} held out, {dense[-1]:.2%} test', flush=True)
        for (name, rank), result in results.items():
            line = measure(model, methods[name], rank, loaders, result)
            print(f'  {name}, size of rank {rank}: {line}', flush=True)
    print(f'\nmean test accuracy over {networks} networks, dense {mean(dense):.2%}')
    for name in methods:
        print(f'{name:10}' + ''.join(str(results[name, rank]) for rank in ranks))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--networks', type=int, default=5)
    parser.add_argument('--ranks', type=int, nargs='+', default=[5, 10, 20])
    parser.add_argument('--efforts', type=int, nargs='*', default=[0, 1, 2])
    parser.add_argument('--prune', action='store_true', help='measure `prune=True`, too')
    parser.add_argument('--folder', default='networks', help='where trained networks are kept')
    args = parser.parse_args()
    main(args.networks, args.ranks, args.efforts, args.prune, args.folder)

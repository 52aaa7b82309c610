"""Train networks of the baseline's kind and compress each at the sizes of ranks 5, 10 and 20: the table in chapter 07. Trained networks are kept in a folder and used again."""
import argparse, time
from pathlib import Path
import torch
import svd_compress as sc
from svd_compress.calibration import Calibration
from svd_compress.fitting import fit_layer
from svd_compress.layers import replace_layers

NAMES = [f'fc{i}' for i in range(1, 6)]

def trained(seed, folder, train_dl):
    "A network trained on the first 55,000 digits"
    path, model = Path(folder)/f'net{seed}.pt', sc.MLP(seed=seed)
    if path.exists(): model.load_state_dict(torch.load(path, weights_only=True))
    else:
        sc.fit(model, train_dl, epochs=30, lr=1e-4, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True); torch.save(model.state_dict(), path)
    return model.eval()

def whitened(model, rank, train_dl):
    "Each layer fitted to its own inputs alone, one rank for all"
    cal = Calibration(model, NAMES, train_dl, rows=8)
    return replace_layers(model, {n: fit_layer(getattr(model, n), 'linear', rank, cal.moments([i])[0][i]) for i, n in enumerate(NAMES)})

def main(networks, ranks, efforts, folder):
    train_dl, valid_dl, test_dl = sc.mnist(valid=5000)
    def fitted(effort): return lambda model, rank: sc.compress(model, ratio=rank*10000/4997120, data=train_dl, effort=effort, exclude=['fc6'], progress=False)
    methods = {'truncated': lambda model, rank: sc.compress(model, rank=rank, exclude=['fc6']), 'whitened': lambda model, rank: whitened(model, rank, train_dl), **{f'effort {e}': fitted(e) for e in efforts}}
    rows, dense = {}, []
    for seed in range(networks):
        model = trained(seed, folder, train_dl)
        dense.append(sc.evaluate(model, test_dl).accuracy)
        print(f'network {seed}: dense {sc.evaluate(model, valid_dl).accuracy:.2%} held out, {dense[-1]:.2%} test', flush=True)
        for name, method in methods.items():
            for rank in ranks:
                start = time.perf_counter()
                small = method(model, rank)
                seconds = time.perf_counter() - start
                rows.setdefault((name, rank), []).append((sc.evaluate(small, test_dl).accuracy, seconds))
                print(f'  {name}, size of rank {rank}: ranks {[getattr(small, n).rank for n in NAMES]}, {sc.evaluate(small, valid_dl).accuracy:.2%} held out, {rows[name, rank][-1][0]:.2%} test, {seconds:.1f} s', flush=True)
    print(f'\nmean test accuracy over {networks} networks, dense {sum(dense)/networks:.2%}')
    for name in methods: print(f'{name:10}' + ''.join(f'{sum(a for a, _ in rows[name, r])/networks:9.2%} ({max(s for _, s in rows[name, r]):.0f} s at most)' for r in ranks))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--networks', type=int, default=5)
    parser.add_argument('--ranks', type=int, nargs='+', default=[5, 10, 20])
    parser.add_argument('--efforts', type=int, nargs='*', default=[0, 1])
    parser.add_argument('--folder', default='networks', help='where trained networks are kept')
    args = parser.parse_args()
    main(args.networks, args.ranks, args.efforts, args.folder)

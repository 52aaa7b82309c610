"""What each part of fine-tuning gains: the table in chapter 07a. Networks are trained as for five_networks.py; every result is kept in a folder as a line of JSON, and not computed again."""
import argparse, json
from pathlib import Path
from statistics import mean
import torch
import svd_compress as sc
from five_networks import NAMES, trained

def truncated(model, ratio, train_dl, rank): return sc.compress(model, rank=rank, exclude=['fc6'])
def fitted(model, ratio, train_dl, rank): return sc.compress(model, ratio=ratio, data=train_dl, exclude=['fc6'], progress=False)
def to_train(model, ratio, train_dl, rank): return sc.compress(model, ratio=ratio, data=train_dl, to_train=True, exclude=['fc6'], progress=False)

def uniform(model, ratio, train_dl, rank): return sc.compress(model, rank=rank, data=train_dl, exclude=['fc6'], progress=False)

def hooked(small, down=lambda up, down: 0, up=lambda up, down: 0):
    "Add something to the gradients of the factors"
    for m in (getattr(small, n) for n in NAMES):
        m.down.weight.register_hook(lambda g, m=m: g + down(m.up.weight.detach(), m.down.weight.detach()))
        m.up.weight.register_hook(lambda g, m=m: g + up(m.up.weight.detach(), m.down.weight.detach()))

def product_decay(small, share=1e-3): hooked(small, lambda B, A: share*B.T @ B @ A, lambda B, A: share*B @ A @ A.T)
def orthogonal(small, share=1e-2): hooked(small, lambda B, A: 4*share*(A @ A.T - torch.eye(len(A))) @ A)

@torch.no_grad()
def balanced(small):
    for m in (getattr(small, n) for n in NAMES):
        scale = (m.down.weight.norm(dim=1)/m.up.weight.norm(dim=0)).sqrt()
        m.up.weight.mul_(scale); m.down.weight.div_(scale[:, None])

def decay(small): return {'optimizer': torch.optim.AdamW(small.parameters(), lr=1e-3, weight_decay=.1)}

def averaged(small):
    "The weights at the end are a mean over about 1,000 steps"
    optimizer, mean_of = torch.optim.Adam(small.parameters(), lr=1e-3), torch.optim.swa_utils.AveragedModel(small, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(.999))
    optimizer.register_step_post_hook(lambda *args: mean_of.update_parameters(small))
    return {'optimizer': optimizer, 'averaged': mean_of}

TEACH = dict(teacher=True, mixup=0)
# Name: how the model is made small, and how it is trained; up to 'mixup' each adds one thing to the one before, the others replace one
RECIPES = {'original': (truncated, dict(lr=1e-4, schedule=None)),
           'schedule': (truncated, dict()),
           'teacher': (truncated, TEACH),
           'compress': (fitted, TEACH),
           'to_train': (to_train, TEACH),
           'dense': (to_train, {**TEACH, 'dense': True}),
           'mixup': (to_train, {'teacher': True, 'dense': True}),
           'labels': (to_train, {'dense': True}),
           'uniform ranks': (uniform, {**TEACH, 'dense': True}),
           'falling': (to_train, {'teacher': True, 'dense': True}), # with twice the weights for the first third of the epochs
           **{f.__name__: (to_train, {'teacher': True, 'dense': True}, f) for f in (product_decay, orthogonal, balanced, decay, averaged)}}

def made(make, model, rank, path, train_dl):
    "A compressed network, from a file if it is there"
    if not path.exists():
        train_dl.generator.manual_seed(0)
        sc.save(make(model, rank*10000/4997120, train_dl, rank), path)
    return sc.load(sc.MLP(), path)

def run(model, seed, rank, recipe, epochs, folder, train_dl, valid_dl, test_dl):
    make, options, *change = RECIPES[recipe]
    falls = recipe == 'falling'
    first = rank*(1 + falls)
    small = made(make, model, first, Path(folder)/f'{make.__name__}{seed}_{first}.safetensors', train_dl)
    before = sc.evaluate(small, test_dl).accuracy
    train_dl.generator.manual_seed(seed)
    options = {**options, 'teacher': model} if 'teacher' in options else options
    if falls:
        sc.finetune(small, train_dl, epochs//3, seed=0, progress=False, **options)
        small, epochs = make(small, rank*10000/sum(getattr(small, n).down.weight.numel() + getattr(small, n).up.weight.numel() for n in NAMES), train_dl, rank), epochs - epochs//3
    for f in change: options.update(f(small) or {})
    average = options.pop('averaged', None)
    sc.finetune(small, train_dl, epochs, seed=0, progress=False, **options)
    if average is not None: small = average.module
    return {'ranks': [getattr(small, n).rank for n in NAMES], 'before': before, 'valid': sc.evaluate(small, valid_dl).accuracy, 'test': sc.evaluate(small, test_dl).accuracy}

def main(seeds, ranks, recipes, epochs, folder):
    train_dl, valid_dl, test_dl = sc.mnist(valid=5000)
    path = Path(folder)/'finetuning.jsonl'
    done = {(r['seed'], r['rank'], r['recipe'], r['epochs']): r for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    for seed in seeds:
        model = trained(seed, folder, train_dl)
        if (key := (seed, 0, 'original network', 0)) not in done:
            done[key] = {'seed': seed, 'rank': 0, 'recipe': key[2], 'epochs': 0, 'valid': sc.evaluate(model, valid_dl).accuracy, 'test': sc.evaluate(model, test_dl).accuracy}
            with open(path, 'a') as f: f.write(json.dumps(done[key]) + '\n')
        for recipe in recipes:
            for rank in ranks:
                if (key := (seed, rank, recipe, epochs)) in done: continue
                done[key] = {'seed': seed, 'rank': rank, 'recipe': recipe, 'epochs': epochs, **run(model, seed, rank, recipe, epochs, folder, train_dl, valid_dl, test_dl)}
                with open(path, 'a') as f: f.write(json.dumps(done[key]) + '\n')
                print(done[key], flush=True)
    dense = [done[s, 0, 'original network', 0]['test'] for s in seeds]
    print(f'test accuracy, mean (lowest to highest) of {len(seeds)} networks, dense {mean(dense):.2%} ({min(dense):.2%} to {max(dense):.2%}), {epochs} epochs')
    for recipe in recipes: print(f'{recipe:26}' + ''.join(f'  {mean(got):.2%} ({min(got):.2%} to {max(got):.2%})' for rank in ranks for got in [[done[s, rank, recipe, epochs]['test'] for s in seeds]]))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--ranks', type=int, nargs='+', default=[5, 10, 15, 20])
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=list(RECIPES))
    parser.add_argument('--epochs', type=int, default=25)
    parser.add_argument('--folder', default='networks', help='where networks and results are kept')
    args = parser.parse_args()
    main(args.seeds, args.ranks, args.recipes, args.epochs, args.folder)

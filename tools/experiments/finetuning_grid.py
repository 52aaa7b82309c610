"""Measure what each part of fine-tuning gains: the table in the chapter on recovery. Networks are trained as for
five_networks.py. Every result is kept in the folder as a line of JSON, and is not computed again."""
import argparse
import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch

import svd_compress as sc
from five_networks import NAMES, WEIGHTS_PER_RANK, trained

ORIGINAL = 'original network'


# How a network is compressed: from a model, a rank, the ratio of the weights that this rank leaves, and data
def truncated(model, rank, ratio, train_dl):
    "Truncate each layer to one rank"
    return sc.compress(model, rank=rank, exclude=['fc6'])


def uniform(model, rank, ratio, train_dl):
    "Fit to data, at one rank for all layers"
    return sc.compress(model, rank=rank, data=train_dl, exclude=['fc6'], progress=False)


def fitted(model, rank, ratio, train_dl):
    "Fit to data, at the ranks that lose least without training"
    return sc.compress(model, ratio=ratio, data=train_dl, exclude=['fc6'], progress=False)


def for_finetuning(model, rank, ratio, train_dl):
    "Fit to data, at the ranks that lose least after training"
    return sc.compress(model, ratio=ratio, data=train_dl, for_finetuning=True, exclude=['fc6'], progress=False)


# What is changed before training: each is called with the compressed network, and may return options of `finetune`
def factorized_layers(model):
    "Return the factorized layers of a network"
    return [getattr(model, name) for name in NAMES]


def product_decay(compressed, strength=1e-3):
    "Add a weight decay of the products of the factors to the gradients"
    for layer in factorized_layers(compressed):
        up, down = layer.up.weight, layer.down.weight
        up.register_hook(lambda g, B=up, A=down: g + strength * B.detach() @ A.detach() @ A.detach().T)
        down.register_hook(lambda g, B=up, A=down: g + strength * B.detach().T @ B.detach() @ A.detach())


def orthogonal(compressed, strength=1e-2):
    "Add a pull towards orthonormal rows of the first factors to their gradients"

    def pull(g, A):
        return g + 4 * strength * (A @ A.T - torch.eye(len(A))) @ A

    for layer in factorized_layers(compressed):
        layer.down.weight.register_hook(lambda g, A=layer.down.weight: pull(g, A.detach()))


@torch.no_grad()
def balanced(compressed):
    "Scale the two factors of each singular value to equal norms"
    for layer in factorized_layers(compressed):
        scale = (layer.down.weight.norm(dim=1) / layer.up.weight.norm(dim=0)).sqrt()
        layer.up.weight.mul_(scale)
        layer.down.weight.div_(scale[:, None])


def decay(compressed):
    "Train with weight decay"
    return {'optimizer': torch.optim.AdamW(compressed.parameters(), lr=1e-3, weight_decay=0.1)}


def averaged(compressed):
    "Keep a mean of the weights over about 1,000 steps, as the network that is returned"
    optimizer = torch.optim.Adam(compressed.parameters(), lr=1e-3)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    model = torch.optim.swa_utils.AveragedModel(compressed, multi_avg_fn=average)
    optimizer.register_step_post_hook(lambda *args: model.update_parameters(compressed))
    return {'optimizer': optimizer, 'averaged': model}


class Recipe(NamedTuple):
    "How a network is compressed, and how it is trained"

    compress: object
    options: dict  # Of `finetune`; with teacher=True the dense network is the teacher
    change: object = None
    falling: bool = False  # Give it twice the weights for the first third of the epochs?


TEACHER = {'teacher': True, 'mixup': 0}
BEST = {'teacher': True, 'train_dense': True}
# The names are those of the record. Up to 'mixup' each adds one thing to the one before, the others replace one.
RECIPES = {
    'original': Recipe(truncated, {'lr': 1e-4, 'schedule': None}),
    'schedule': Recipe(truncated, {}),
    'teacher': Recipe(truncated, TEACHER),
    'compress': Recipe(fitted, TEACHER),
    'to_train': Recipe(for_finetuning, TEACHER),
    'dense': Recipe(for_finetuning, {**TEACHER, 'train_dense': True}),
    'mixup': Recipe(for_finetuning, BEST),
    'labels': Recipe(for_finetuning, {'train_dense': True}),
    'uniform ranks': Recipe(uniform, {**TEACHER, 'train_dense': True}),
    'falling': Recipe(for_finetuning, BEST, falling=True),
    'product_decay': Recipe(for_finetuning, BEST, product_decay),
    'orthogonal': Recipe(for_finetuning, BEST, orthogonal),
    'balanced': Recipe(for_finetuning, BEST, balanced),
    'decay': Recipe(for_finetuning, BEST, decay),
    'averaged': Recipe(for_finetuning, BEST, averaged),
}


class Run(NamedTuple):
    "What tells one line of the record from the others"

    seed: int
    rank: int
    recipe: str
    epochs: int


class Grid:
    "The data, the networks and the record"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.record = self.folder / 'finetuning.jsonl'
        self.train_dl, self.valid_dl, self.test_dl = sc.mnist(valid=5000)
        self.results = {}
        if self.record.exists():
            for line in self.record.read_text().splitlines():
                self.add(json.loads(line))

    def add(self, result):
        self.results[Run(*(result[name] for name in Run._fields))] = result

    def keep(self, run, measure):
        "Measure a run, unless the record holds it"
        if run in self.results:
            return
        result = {**run._asdict(), **measure(run)}
        with open(self.record, 'a') as file:
            file.write(json.dumps(result) + '\n')
        self.add(result)
        print(result, flush=True)

    def scores(self, model):
        valid, test = (sc.evaluate(model, dl).accuracy for dl in (self.valid_dl, self.test_dl))
        return {'valid': valid, 'test': test}

    def compressed(self, model, run, rank):
        "Return a compressed network, from a file if it is there"
        make = RECIPES[run.recipe].compress
        path = self.folder / f'{make.__name__}{run.seed}_{rank}.safetensors'
        if not path.exists():
            self.train_dl.generator.manual_seed(0)
            sc.save(make(model, rank, rank * WEIGHTS_PER_RANK, self.train_dl), path)
        return sc.load(sc.MLP(), path)

    def train(self, compressed, epochs, options):
        sc.finetune(compressed, self.train_dl, epochs, seed=0, progress=False, **options)

    def shrink(self, compressed, run):
        "Compress a network, which is trained to a third, to the size of the run's rank"
        weights = sum(m.down.weight.numel() + m.up.weight.numel() for m in factorized_layers(compressed))
        ratio = run.rank * 10_000 / weights
        return RECIPES[run.recipe].compress(compressed, run.rank, ratio, self.train_dl)

    def measure(self, model, run):
        "Compress and train a network, and return its ranks and scores"
        recipe, epochs = RECIPES[run.recipe], run.epochs
        compressed = self.compressed(model, run, run.rank * (1 + recipe.falling))
        before = sc.evaluate(compressed, self.test_dl).accuracy
        self.train_dl.generator.manual_seed(run.seed)
        options = dict(recipe.options)
        if 'teacher' in options:
            options['teacher'] = model
        if recipe.falling:
            self.train(compressed, epochs // 3, options)
            compressed, epochs = self.shrink(compressed, run), epochs - epochs // 3
        if recipe.change:
            options.update(recipe.change(compressed) or {})
        average = options.pop('averaged', None)
        self.train(compressed, epochs, options)
        if average is not None:
            compressed = average.module
        ranks = [layer.rank for layer in factorized_layers(compressed)]
        return {'ranks': ranks, 'before': before, **self.scores(compressed)}

    def summary(self, seeds, rank, recipe, epochs):
        "Return the mean, lowest and highest test accuracy over networks, as text"
        test = [self.results[Run(seed, rank, recipe, epochs)]['test'] for seed in seeds]
        return f'{mean(test):.2%} ({min(test):.2%} to {max(test):.2%})'


def main(seeds, ranks, recipes, epochs, folder):
    grid = Grid(folder)
    for seed in seeds:
        model = trained(seed, folder, grid.train_dl)
        grid.keep(Run(seed, 0, ORIGINAL, 0), lambda run: grid.scores(model))
        for recipe in recipes:
            for rank in ranks:
                grid.keep(Run(seed, rank, recipe, epochs), lambda run: grid.measure(model, run))
    print(f'test accuracy, mean (lowest to highest) of {len(seeds)} networks, {epochs} epochs')
    print(f'{ORIGINAL:26}  {grid.summary(seeds, 0, ORIGINAL, 0)}')
    for recipe in recipes:
        columns = [grid.summary(seeds, rank, recipe, epochs) for rank in ranks]
        print('  '.join([f'{recipe:26}', *columns]))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--ranks', type=int, nargs='+', default=[5, 10, 15, 20])
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=list(RECIPES))
    parser.add_argument('--epochs', type=int, default=25)
    parser.add_argument('--folder', default='networks', help='where networks and results are kept')
    args = parser.parse_args()
    main(args.seeds, args.ranks, args.recipes, args.epochs, args.folder)

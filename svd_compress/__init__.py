__version__ = "0.1.0"

from .batch import Batch
from .data import TensorLoader, image_loaders, mnist
from .evaluation import Score, evaluate, perplexity
from .training import fit, warmup_cosine
from .baseline import MLP
from .lowrank import LowRankLinear, break_even, truncated_svd
from .layers import LowRankAttention, LowRankConv, LowRankConvTranspose, LowRankEmbedding
from .surgery import factorize, merge, unpack
from .finetuning import finetune
from .compression import compress
from .search import compress_to_latency, compress_to_score
from .serialization import export_onnx, load, save
from .reporting import report
from .plots import plot_ranks, plot_spectra, plot_tradeoff
from .chains import optimize
from .benchmarking import benchmark
from .experiment import mnist_experiment
from .utils import document

for function in (compress, factorize, compress_to_score, compress_to_latency, fit, finetune, evaluate, perplexity,
                 report, optimize, benchmark, merge, save, load, export_onnx, mnist_experiment):
    document(function)
del function, document

__all__ = [
    'Batch', 'LowRankAttention', 'LowRankConv', 'LowRankConvTranspose', 'LowRankEmbedding', 'LowRankLinear', 'MLP',
    'Score', 'TensorLoader', 'benchmark', 'break_even', 'compress', 'compress_to_latency', 'compress_to_score',
    'evaluate', 'export_onnx', 'factorize', 'finetune', 'fit', 'image_loaders', 'load', 'merge', 'mnist',
    'mnist_experiment', 'optimize', 'perplexity', 'plot_ranks', 'plot_spectra', 'plot_tradeoff', 'report', 'save',
    'truncated_svd', 'unpack', 'warmup_cosine']

def __getattr__(name):
    if name != 'compress_pretrained': raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .pretrained import compress_pretrained # which imports transformers
    from .utils import document
    return document(compress_pretrained)

__version__ = "0.1.0"

from .data import Loader, loaders, mnist
from .training import Score, evaluate, fit, warmup_cosine
from .baseline import MLP
from .lowrank import LowRankLinear, break_even, truncated_svd
from .layers import LowRankAttention, LowRankConv, LowRankEmbedding, factorize, unpack
from .finetuning import finetune
from .compression import compress
from .checkpoint import export_onnx, load, merge, save
from .reporting import report
from .figures import plot_filters, plot_ranks, plot_spectra, plot_tradeoff
from .fused import optimize
from .speed import benchmark
from .experiment import mnist_experiment

__all__ = ['LowRankAttention', 'LowRankConv', 'LowRankEmbedding', 'LowRankLinear', 'Loader', 'MLP', 'Score', 'benchmark', 'break_even', 'compress', 'evaluate', 'export_onnx', 'factorize',
           'finetune', 'fit', 'load', 'loaders', 'merge', 'mnist', 'mnist_experiment', 'optimize', 'plot_filters', 'plot_ranks', 'plot_spectra', 'plot_tradeoff', 'report', 'save', 'truncated_svd', 'unpack', 'warmup_cosine']

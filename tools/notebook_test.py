"Run one notebook's tests in a worker process; a module of its own, since notebooks replace `__main__`"
import torch
from nbdev.test import test_nb


def run(path, **options):
    "Return whether the notebook passed, and its seconds; what torch.compile has cached is dropped afterwards"
    result = test_nb(path, **options)
    torch._dynamo.reset()  # its limit of recompilations counts over all notebooks of a process
    return result

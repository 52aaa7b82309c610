"""Run the tests of all notebooks, or of those that are named: python tools/run_tests.py [--slow] [NAME ...]

Each notebook is a test: it passes if all its cells run. A line for each tells how it went and how long it took,
the last one how many passed. With --slow, the cells that are marked slow run as well."""
import argparse
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

WORKERS = 2


def prepare_environment(workers):
    "Settings that must stand before PyTorch and Triton are imported"
    if workers > 1:
        os.environ.setdefault('OMP_NUM_THREADS', '1')  # each worker has a core to itself
    os.environ['TQDM_DISABLE'] = '1'
    if not shutil.which('nvidia-smi'):
        os.environ['TRITON_INTERPRET'] = '1'  # read when Triton is first imported


def find_notebooks(names):
    "Paths of the notebooks, the largest first since they take longest"
    from nbdev.doclinks import nbglob

    files = {f.stem: f.absolute() for f in nbglob(as_path=True)}
    if unknown := sorted(set(names) - set(files)):
        sys.exit(f"no notebooks called {', '.join(unknown)}; there are {', '.join(sorted(files))}")
    return sorted((files[n] for n in names or files), key=lambda f: -f.stat().st_size)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='notebooks, without .ipynb')
    parser.add_argument('--slow', action='store_true', help='run the cells marked slow, too')
    args = parser.parse_args()
    workers = 1 if len(args.names) == 1 else WORKERS
    prepare_environment(workers)
    from nbdev.config import get_config
    from notebook_test import run

    cfg, files, passed = get_config(), find_notebooks(args.names), 0
    options = {'skip_flags': [] if args.slow else cfg.tst_flags.split(), 'basepath': cfg.config_path}
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        runs = {pool.submit(run, path, **options): path for path in files}
        for done in as_completed(runs):
            ok, seconds = done.result()
            passed += ok
            print(f"{'passed' if ok else 'FAILED'}  {runs[done].stem}  {seconds:.0f} s", flush=True)
    print(f'{passed} passed, {len(files) - passed} failed')
    sys.exit(0 if passed == len(files) else 1)


if __name__ == '__main__':
    main()

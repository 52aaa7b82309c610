"""Run the tests in all notebooks, print a line for each, and end with how many passed. With --slow, the cells marked slow as well."""
import os, sys
os.environ.setdefault('OMP_NUM_THREADS', '1') # each of the workers has a processor to itself
os.environ['TQDM_DISABLE'] = '1'
from fastcore.parallel import parallel
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb

def main(slow=False):
    cfg = get_config()
    files = sorted(f.absolute() for f in nbglob(as_path=True))
    if not files: sys.exit('no notebooks to test')
    largest_first = sorted(files, key=lambda f: -f.stat().st_size)
    results = parallel(test_nb, largest_first, skip_flags=[] if slow else cfg.tst_flags.split(), basepath=cfg.config_path, n_workers=2)
    for f, (passed, seconds) in sorted(zip(largest_first, results)): print(f"{'passed' if passed else 'FAILED'}  {f.relative_to(cfg.nbs_path)}  {seconds:.0f} s")
    passed = sum(p for p, _ in results)
    print(f'{passed} passed, {len(files) - passed} failed')
    return passed == len(files)

if __name__ == '__main__':
    if sys.argv[1:] not in ([], ['--slow']): sys.exit(f'usage: {sys.argv[0]} [--slow]')
    sys.exit(0 if main('--slow' in sys.argv) else 1)

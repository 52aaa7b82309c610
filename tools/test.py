"""Run the tests in all notebooks, or in those whose names are given, print a line for each, and end with how many passed. With --slow, the cells marked slow as well."""
import os, shutil, sys
names = [a for a in sys.argv[1:] if a != '--slow']
if len(names) != 1: os.environ.setdefault('OMP_NUM_THREADS', '1') # each of the two workers has a processor to itself
os.environ['TQDM_DISABLE'] = '1'
if not shutil.which('nvidia-smi'): os.environ['TRITON_INTERPRET'] = '1' # Triton reads this when it is first imported, which another notebook in the same process may do before the one that needs it
from fastcore.parallel import parallel
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb

def main(names, slow):
    cfg = get_config()
    files = sorted(f.absolute() for f in nbglob(as_path=True))
    if unknown := set(names) - {f.stem for f in files}: sys.exit(f"no notebooks called {', '.join(sorted(unknown))}; there are {', '.join(f.stem for f in files)}")
    files = [f for f in files if not names or f.stem in names]
    largest_first = sorted(files, key=lambda f: -f.stat().st_size)
    results = parallel(test_nb, largest_first, skip_flags=[] if slow else cfg.tst_flags.split(), basepath=cfg.config_path, n_workers=2 if len(files) > 1 else 0)
    for f, (passed, seconds) in sorted(zip(largest_first, results)): print(f"{'passed' if passed else 'FAILED'}  {f.relative_to(cfg.nbs_path)}  {seconds:.0f} s")
    passed = sum(p for p, _ in results)
    print(f'{passed} passed, {len(files) - passed} failed')
    return passed == len(files)

if __name__ == '__main__': sys.exit(0 if main(names, '--slow' in sys.argv) else 1)

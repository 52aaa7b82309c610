"""Write README.md from nbs/index.ipynb. With --check, change nothing and exit with 1 if they differ."""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = re.compile(r'^#\|\s*(hide|default_exp)\b', re.M)

def readme():
    "The text of README.md: hidden cells, directives and figures' files left out, links relative to the top folder"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not (c.cell_type == 'code' and HIDDEN.search(c.source))]
    for c in nb.cells:
        if c.cell_type == 'code': c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
        else: c.source = re.sub(r'\]\((?!https?:|#|mailto:)', '](nbs/', c.source)
        if any(k.startswith('image/') for o in c.get('outputs', []) for k in o.get('data', {})): raise ValueError(f'index.ipynb: a figure drawn by a cell has no file that README could show; save it in nbs/images and show it with ![...](images/...):\n{c.source}')
    nb.metadata.setdefault('language_info', {})['name'] = 'python'
    text, _ = MarkdownExporter().from_notebook_node(nb)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'

if __name__ == '__main__':
    path, text = ROOT/'README.md', readme()
    if sys.argv[1:] == ['--check']:
        if path.read_text(encoding='utf-8') != text: sys.exit('README.md differs from nbs/index.ipynb; run: python tools/readme.py')
    elif sys.argv[1:]: sys.exit(f'usage: {sys.argv[0]} [--check]')
    else: path.write_text(text, encoding='utf-8')

"""Write README.md from nbs/index.ipynb. With --check, change nothing and exit with 1 if they differ."""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = re.compile(r'^#\|\s*(hide|default_exp)\b', re.M)
RELATIVE_LINK = re.compile(r'\]\((?!https?:|#|mailto:)')


def check_figures(cell):
    "Raise ValueError for a figure that is drawn by a cell: README could not show it"
    outputs = [key for out in cell.get('outputs', []) for key in out.get('data', {})]
    if any(key.startswith('image/') for key in outputs):
        raise ValueError(
            'index.ipynb: a figure drawn by a cell has no file that README could show; '
            f'save it in nbs/images and show it with ![...](images/...):\n{cell.source}'
        )


def readme():
    "The text of README.md: without hidden cells and directives, with links relative to the top folder"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not (c.cell_type == 'code' and HIDDEN.search(c.source))]
    for cell in nb.cells:
        check_figures(cell)
        if cell.cell_type == 'code':
            cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
        else:
            cell.source = RELATIVE_LINK.sub('](nbs/', cell.source)
    nb.metadata.setdefault('language_info', {})['name'] = 'python'
    text, _ = MarkdownExporter().from_notebook_node(nb)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def main():
    path, text = ROOT/'README.md', readme()
    if sys.argv[1:] == ['--check']:
        if path.read_text(encoding='utf-8') != text:
            sys.exit('README.md differs from nbs/index.ipynb; run: python tools/build_readme.py')
    elif sys.argv[1:]:
        sys.exit(f'usage: {sys.argv[0]} [--check]')
    else:
        path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()

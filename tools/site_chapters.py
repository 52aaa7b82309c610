"""Chapters as pages: nbdev leaves exported cells out and shows a table for each; here their code is shown instead."""

import ast
import json
import re

from nbdev.showdoc import showdoc_nm

FIGURE = '#| code-fold: true\n#| code-summary: "Code of the figure"\n'
IMPORTS = '#| code-fold: true\n#| code-summary: "Imports of the module"\n'
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def directives(source):
    "Return the names of the directives of a cell, such as export or hide."
    return set(re.findall(r'^#\|\s*([\w-]+)', source, re.M))


def is_exported(cell):
    "Return True if the code of a cell is part of the package and is not hidden."
    found = directives(''.join(cell['source']))
    return cell['cell_type'] == 'code' and bool(found & {'export', 'exporti'}) and 'hide' not in found


def only_draws(source):
    "Return True if a cell draws a figure by itself and tests nothing."
    return 'fig-alt' in directives(source) and 'plt.subplots' in source and not re.search(r'\b(assert|test_)', source)


def heading(name, module):
    "Return the heading of a public function or class, with a link to its entry in the API."
    text = f'### {name} {{.definition}}'
    if name.split('.')[0] not in module.__all__:
        return text
    anchor = name.split('.')[0].lower()
    address = f'/api/{module.__name__.split(".")[-1]}.qmd#{anchor}'
    return f'{text}\n\n[API]({address}){{.source-link aria-label="API of {name}"}}'


def exported_cells(cell, module):
    "Return an exported cell as two: the headings of what it defines, and its code."
    source = re.sub(r'^#\|\s*(export|exporti)\b.*\n', '', ''.join(cell['source']), flags=re.M)
    statements = ast.parse(source).body
    if all(isinstance(s, (ast.Import, ast.ImportFrom)) for s in statements):
        source = IMPORTS + source
    names = [showdoc_nm(s) for s in statements if isinstance(s, DEFINITIONS) and s.name[0] != '_']
    headings = [
        dict(cell_type='markdown', id=f'{cell["id"]}-name', metadata={}, source=heading(name, module))
        for name in names
    ]
    return [*headings, {**cell, 'source': source}]


def show_code(processed, notebook, module):
    "Put the exported cells of a notebook back into what nbdev made of it; fold code that only draws."
    kept = {cell['id']: cell for cell in processed['cells']}
    cells = processed['cells'][:1]  # the front matter
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        if is_exported(cell):
            cells += exported_cells(cell, module)
        elif cell['id'] in kept:
            cells.append(kept[cell['id']])
    for cell in cells:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'code' and only_draws(source):
            cell['source'] = FIGURE + source
    processed['cells'] = cells

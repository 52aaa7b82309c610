"""Build the website: python tools/build_site.py [--out _site] [--quarto]

nbdev processes the notebooks into _proc; the code of the package is put back into the chapters, and the API by
module and the changelog are added as pages. Then smalldocs renders them, or Quarto with --quarto where it is
installed. KaTeX is fetched by npm and copied into the site, so that no page asks another host for anything.
Notebooks in nbs/tests are not part of the site."""

import argparse
import ast
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape, unescape
from pathlib import Path
import yaml
from fastcore.basics import str2bool
from fastcore.docments import docments
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, nbglob
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs
from fetch_npm import fetch
from site_chapters import show_code

KATEX = '0.16.11'  # the version whose address smalldocs 0.5.4 writes into pages
CDN = f'https://cdn.jsdelivr.net/npm/katex@{KATEX}/dist'
FIRST = [  # what users call first, in this order, in the API
    'compress', 'compress_to_score', 'compress_to_latency', 'compress_pretrained', 'finetune', 'evaluate', 'report',
    'save', 'load', 'optimize', 'benchmark', 'export_onnx', 'factorize', 'merge', 'fit',
]


def front(title, description):
    "The front matter of a page"
    text = yaml.safe_dump(dict(title=title, description=description), allow_unicode=True, width=1000)
    return f'---\n{text}---\n\n'


def literal(text):
    "Markdown of a text with its asterisks as they are, such as shapes (*, n); code in backticks stays"
    return re.sub(r'(`[^`]*`)|\*', lambda m: m[1] or r'\*', text)


class Module:
    "A module of the package: its source, what is public in it, and the Markdown page of its API"

    def __init__(self, name, notebook, cfg):
        self.name, self.notebook, self.package = name, notebook, cfg.lib_name
        self.module = importlib.import_module(f'{cfg.lib_name}.{name}')
        self.path = f'{cfg.lib_name}/{name}.py'
        self.source = (cfg.config_path / self.path).read_text(encoding='utf-8')
        self.lines = self.source.splitlines()
        self.address = f'{cfg.git_url}/blob/{cfg.branch}/{self.path}'
        self.published = str2bool(cfg.published)  # else there is nothing at this address
        self.linkify = NbdevLookup().linkify
        self.nodes = {n: node for node in ast.parse(self.source).body for n in self.names(node)}

    @staticmethod
    def names(node):
        "What a statement at the top of a module defines"
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            return [node.name]
        return [
            t.id
            for target in getattr(node, 'targets', [])
            for t in getattr(target, 'elts', [target])
            if isinstance(t, ast.Name)
        ]

    def parameters(self):
        "Names of all parameters of the functions and methods of this module"
        functions = [n for n in ast.walk(ast.parse(self.source)) if isinstance(n, ast.FunctionDef)]
        return {name.strip('*') for f in functions for name, _, _ in self.arguments(f)}

    def link(self, text, own=()):
        "Links to names in backticks, but not to `own`, names that mean an argument or attribute here"
        linked = self.linkify(literal(text)) or ''  # None for no text
        return re.sub(r'\[`(\w+)`\]\([^)]*\)', lambda m: f'`{m[1]}`' if m[1] in own else m[0], linked)

    def text(self, node):
        return ast.get_source_segment(self.source, node)

    def heading(self, name, node, level):
        anchor = name.lower().replace('.', '-')
        label = f'{{.source-link aria-label="Source of {name}"}}'
        source = f'[source]({self.address}#L{node.lineno}){label}' if self.published else ''
        return f'{"#" * level} {name} {{#{anchor}}}\n\n{source}'

    def arguments(self, node):
        "Rows of (name with stars, annotation, default) of a function, as they are written in its source"
        a = node.args
        positional, none = a.posonlyargs + a.args, [None]
        pairs = [
            *zip(positional, none * (len(positional) - len(a.defaults)) + a.defaults, [''] * len(positional)),
            (a.vararg, None, '*'),
            *zip(a.kwonlyargs, a.kw_defaults, [''] * len(a.kwonlyargs)),
            (a.kwarg, None, '**'),
        ]
        return [
            (stars + arg.arg, arg.annotation and self.text(arg.annotation), default and self.text(default))
            for arg, default, stars in pairs
            if arg and arg.arg not in ('self', 'cls')
        ]

    def table(self, rows):
        "Names, types, defaults and meanings; a type may contain a bar, which would end a cell"
        if not rows:
            return ''

        def code(s):
            return f'<code>{escape(s, quote=False).replace("|", "&#124;")}</code>' if s else ''

        def type_and_default(anno, default):
            equals = '= ' if default else ''
            return ' '.join(part for part in (code(anno), equals + code(default)) if part)

        def row(name, anno, default, doc):
            name = name if name == 'returns' else code(name)
            return f'| {name} | {type_and_default(anno, default)} | {(doc or "").replace("|", "&#124;")} |'

        head = '::: {.parameters}\n| name | type and default | meaning |\n|:----|:-----|:------------|'
        return '\n'.join([head, *(row(*r) for r in rows), ':::'])

    def function(self, name, node, obj, level=2, init=None):
        "The entry of a function or, with the `__init__` that makes it, of a class"
        call = init or (node if isinstance(node, ast.FunctionDef) else None)
        arguments = self.arguments(call) if call else []
        own = {n.strip('*') for n, _, _ in arguments}
        if level == 3:  # a method, whose text may name attributes
            own |= set(re.findall(r'self\.(\w+)', self.source))
        doc = self.link(ast.get_docstring(node) or '', own)  # the package adds its parameters to `obj.__doc__`
        heading = self.heading(name, node, level)
        if not call:
            return '\n\n'.join(p for p in [heading, doc, self.table(self.fields(node))] if p)
        target = obj.__init__ if init else getattr(obj, 'fn', obj)  # a Triton kernel keeps its function in fn
        comments = docments(inspect.unwrap(target), full=True)
        notes = {n: self.link(c['docment'], own) for n, c in comments.items() if c.get('docment')}
        rows = [(n, anno, default, notes.get(n.strip('*'))) for n, anno, default in arguments]
        if not init and (call.returns or 'return' in notes):
            rows.append(('returns', call.returns and self.text(call.returns), None, notes.get('return')))
        signature = ', '.join(n + (f'={default}' if default else '') for n, _, default in arguments)
        parts = [heading, f'```python\n{name}({signature})\n```', doc, self.table(rows)]
        return '\n\n'.join(p for p in parts if p)

    def fields(self, node):
        "Rows of a class without `__init__`, of its annotated fields, explained by the comments behind them"
        return [
            (n.target.id, self.text(n.annotation), n.value and self.text(n.value), self.comment(n))
            for n in node.body
            if isinstance(n, ast.AnnAssign)
        ]

    def comment(self, node):
        "What is said behind a statement, on its last line"
        behind = self.lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        return self.link(behind.partition('#')[2].strip())

    def class_(self, name, node, obj):
        "The entry of a class, and those of its public methods, patched ones too"
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
        own = [
            (n, f)
            for n, f in vars(obj).items()
            if not n.startswith('_')
            and inspect.isfunction(inspect.unwrap(f))
            and inspect.getmodule(f) is self.module
        ]
        methods = [(n, f, self.method(node, name, n)) for n, f in own]
        return '\n\n'.join(
            [
                self.function(name, node, obj, init=init),
                *(self.function(f'{name}.{n}', m, f, level=3) for n, f, m in methods if m),
            ]
        )

    def method(self, node, klass, name):
        "The definition of a method, in its class or as a patch"
        inside = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == name]
        return next(iter(inside), None) or self.nodes.get(name)

    def constant(self, name, node):
        "The entry of a value, with its source and the comment behind it"
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            value = next(v for t, v in zip(target.elts, value.elts) if self.text(t) == name)
        return '\n\n'.join(
            p
            for p in [
                self.heading(name, node, 2),
                f'```python\n{name} = {self.text(value)}\n```',
                self.comment(node),
            ]
            if p
        )

    def entry(self, name):
        node, obj = self.nodes[name], getattr(self.module, name)
        if isinstance(node, ast.ClassDef):
            return self.class_(name, node, obj)
        return (
            self.function(name, node, obj) if isinstance(node, ast.FunctionDef) else self.constant(name, node)
        )

    def page(self):
        chapter = f'[{self.notebook["title"]}](/{self.name}.ipynb)'
        intro = f'Explained and tested in the chapter {chapter}. Import from `{self.package}.{self.name}`.'
        exported = importlib.import_module(self.package).__all__
        names = sorted(self.module.__all__, key=lambda n: (isinstance(self.nodes[n], ast.Assign), n not in exported))
        body = '\n\n'.join([intro, *map(self.entry, names)])  # first what users call, last the values
        return front(f'{self.package}.{self.name}', self.module.__doc__) + body + '\n'


def first_names(package):
    "What the package exports, what users call first at the top"
    return [*FIRST, *(name for name in package.__all__ if name not in FIRST)]


def by_use(modules, package):
    "The modules in the order in which users meet them: those of the names that they call first, then the others"
    homes = [getattr(package, name).__module__.split('.')[-1] for name in first_names(package)]
    first = [m for home in dict.fromkeys(homes) for m in modules if m.name == home]
    return [*first, *(m for m in modules if m not in first)]


def api(folder, modules, package):
    "Write a page for each module, and one that lists them after the names that the package itself exports"
    folder.mkdir(exist_ok=True)
    for m in modules:
        (folder / f'{m.name}.qmd').write_text(m.page(), encoding='utf-8')

    def line(name):
        obj = getattr(package, name)
        home = obj.__module__.split('.')[-1]
        first_line = literal((inspect.getdoc(obj) or '').split('\n')[0])
        return f'- [`{name}`](/api/{home}.qmd#{name.lower()}): {first_line}'

    text = '\n\n'.join([
        '## What the package exports',
        f'After `import {package.__name__} as sc`, each is `sc.` and its name.',
        '\n'.join(map(line, first_names(package))),
        '## By module',
        'First the modules of these names, then the parts that they are made of.',
        '\n'.join(f'- [`{m.name}`](/api/{m.name}.qmd): {m.module.__doc__}' for m in modules) + '\n',
    ])
    (folder / 'index.qmd').write_text(
        front('API', 'Every public name of the package, with its parameters, types and defaults') + text,
        encoding='utf-8',
    )


def relink(text, renamed, site):
    """
    Links between pages as both renderers resolve them: from the top of the site, by the pages' names.

    nbdev puts a link around code that is a link's text already, and links private names: both are undone.
    """
    text = re.sub(r'\[\[(`[^`]+`)\]\([^)]*\)\]\(', r'[\1](', text).replace(site + '/', '/')
    text = re.sub(r'\[(`_\w+`)\]\([^)]*\)', r'\1', text)
    text = re.sub(r'\[([^\]]+)\]\(tests/\w+\.ipynb\)', r'\1', text)  # the site leaves tests out
    return re.sub(r'[\w-]+\.ipynb', lambda m: renamed.get(m[0], m[0]), text)


def relink_api(text):
    "Links to names, within the API"
    return re.sub(
        r'\]\(/(\w+)\.html#([\w.]+)\)', lambda m: f'](/api/{m[1]}.qmd#{m[2].replace(".", "-")})', text
    )


def unlink(text, names):
    "Text without the links of some names in backticks"
    return re.sub(r'\[(`(\w+)`)\]\(/\w+\.html#\w+\)', lambda m: m[1] if m[2] in names else m[0], text)


def finish_notebook(path, original, renamed, cfg, module=None):
    "Give a processed notebook the name of its page, its code, links between pages, and links to its source"
    nb = json.loads(path.read_text(encoding='utf-8'))
    arguments = set()
    if module:
        show_code(nb, cfg.config_path / original, module.module)
        arguments = module.parameters() - set(module.module.__all__)
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown':
            cell['source'] = unlink(relink(''.join(cell['source']), renamed, cfg.site), arguments)
        if cell['cell_type'] == 'raw':
            cell['source'] = re.sub(r'^output-file:.*\n', '', ''.join(cell['source']), flags=re.M)
        for data in (o['data'] for o in cell.get('outputs', []) if 'text/markdown' in o.get('data', {})):
            data['text/markdown'] = relink(''.join(data['text/markdown']), renamed, cfg.site)
    if str2bool(cfg.published):  # else there is nothing at these addresses
        where = f'{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{original}'
        source = f'[Source on GitHub](https://github.com/{where})'
        colab = f'[Open in Colab](https://colab.research.google.com/github/{where})'
        links = f'::: {{.page-links}}\n{source} {colab}\n:::'
        nb['cells'].insert(1, dict(cell_type='markdown', id='page-links', metadata={}, source=links))
    path.with_name(renamed[path.name]).write_text(json.dumps(nb), encoding='utf-8')
    if renamed[path.name] != path.name:
        path.unlink()


def write_settings(proc, modules, renamed, cfg, quarto):
    "Write the renderer's settings: pages by their names, and the API with its modules folded"
    settings = yaml.safe_load(relink((proc / '_quarto.yml').read_text(encoding='utf-8'), renamed, cfg.site))
    pages = [dict(text=m.name, href=f'api/{m.name}.qmd') for m in modules]
    overview = dict(text='Overview', href='api/index.qmd')
    contents = [overview, dict(section='Modules', contents=pages), 'changelog.qmd']
    settings['website']['sidebar']['contents'].append(dict(section='API', contents=contents))
    if not quarto:
        del settings['execute'], settings['format']['commonmark']  # smalldocs warns of what it does not know
    (proc / '_quarto.yml').write_text(yaml.safe_dump(settings, sort_keys=False), encoding='utf-8')


def prepare(quarto):
    "Everything that a renderer needs, in _proc"
    cfg = get_config()
    cfg.site = cfg.doc_host + cfg.doc_baseurl
    package = importlib.import_module(cfg.lib_name)
    refresh_quarto_yml()
    proc = proc_nbs(n_workers=2, force=True)
    shutil.rmtree(proc / 'tests', ignore_errors=True)
    notebooks = [p.relative_to(cfg.nbs_path) for p in sorted(nbglob(as_path=True))]
    notebooks = [p for p in notebooks if p.parts[0] != 'tests']
    raw = {p: json.loads((proc / p).read_text(encoding='utf-8'))['cells'][0] for p in notebooks}
    meta = {p: yaml.safe_load(''.join(c['source']).strip().strip('-')) for p, c in raw.items()}
    renamed = {p.name: Path(meta[p]['output-file']).stem + '.ipynb' for p in notebooks}
    modules = {
        p: Module(Path(meta[p]['output-file']).stem, meta[p], cfg)
        for p in notebooks
        if (cfg.lib_path / meta[p]['output-file']).with_suffix('.py').exists()
    }
    for p in notebooks:
        finish_notebook(proc / p, f'{cfg.nbs_path.name}/{p.as_posix()}', renamed, cfg, modules.get(p))
    modules = by_use(list(modules.values()), package)
    api(proc / 'api', modules, package)
    changes = (cfg.config_path / 'CHANGELOG.md').read_text(encoding='utf-8').partition('\n')[2]
    (proc / 'changelog.qmd').write_text(
        front('Changelog', 'What a user would notice, version by version') + NbdevLookup().linkify(changes),
        encoding='utf-8',
    )
    for p in [*(proc / 'api').glob('*.qmd'), proc / 'changelog.qmd']:
        p.write_text(relink_api(relink(p.read_text(encoding='utf-8'), renamed, cfg.site)), encoding='utf-8')
    write_settings(proc, modules, renamed, cfg, quarto)
    return proc, proc / cfg.doc_path.name


def offline(site):
    "KaTeX into the site, its address in the pages, and the themes' fonts from the reader's own system"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            fetch(f'katex@{KATEX}', folder) / 'dist',
            site / 'site_libs' / 'katex',
            ignore=shutil.ignore_patterns('*.ttf', '*.woff', '*.mjs', 'katex.js', 'katex.css', 'README.md'),
        )
    for page in site.rglob('*.html'):
        text, up = page.read_text(encoding='utf-8'), '../' * (len(page.relative_to(site).parts) - 1)
        page.write_text(text.replace(CDN, f'{up}site_libs/katex'), encoding='utf-8')
    for theme in (site / 'site_libs' / 'themes').rglob('*.css'):
        theme.write_text(
            re.sub(r'@import url\(https:[^)]*\);', '', theme.read_text(encoding='utf-8')), encoding='utf-8'
        )


def improve_search(site):
    "Descriptions of pages in the index of the search, and a search by words"
    shutil.copy(Path(__file__).with_name('site_search.js'), site / 'site_libs' / 'fuse' / 'fuse.min.js')
    index = json.loads((site / 'search.json').read_text(encoding='utf-8'))
    for entry in index:
        if '#' not in entry['href']:
            page = (site / entry['href']).read_text(encoding='utf-8')
            entry['description'] = unescape(re.search('<meta name="description" content="([^"]*)"', page)[1])
    (site / 'search.json').write_text(json.dumps(index, ensure_ascii=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('_site'), help='folder of the site; replaced')
    parser.add_argument('--quarto', action='store_true', help='render with Quarto instead of smalldocs')
    args = parser.parse_args()
    proc, site = prepare(args.quarto)
    if args.quarto:
        subprocess.run(['quarto', 'render', '--no-cache', '--to', 'html'], cwd=proc, check=True)
    else:
        subprocess.run([sys.executable, '-m', 'smalldocs.cli', 'render', '--strict'], cwd=proc, check=True)
        offline(site)
        improve_search(site)
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.move(site, args.out)
    print(f'{args.out}: {sum(1 for _ in args.out.rglob("*.html"))} pages')


if __name__ == '__main__':
    main()

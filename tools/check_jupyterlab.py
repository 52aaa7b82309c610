"""Run notebooks in a real JupyterLab, as a reader would: python tools/check_jupyterlab.py [NAMES...]

The working tree is copied to a temporary folder and served by the JupyterLab of this environment, with
configuration folders of its own. Debian's Chromium or Chrome opens each notebook (all, if none is named), chooses
Run > Run All Cells in a fresh kernel, slow cells included, waits, scrolls through, saves and closes it.

A notebook passes if every code cell was executed once and in order, without an error, a warning, an error on the
page's console or a picture that cannot be shown; if each progress bar was one line of plain text or a widget; and
if none of it is in the saved file. One line for each notebook; the exit status is 1 if one failed."""

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen
from playwright.sync_api import Error, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
DEBRIS = {
    'a carriage return': r'\r',
    'an ANSI code': r'\x1b',
    'a half-drawn bar': r'\d+%\|',
    'a widget as text': r'\w+\(children=|FloatProgress|Error displaying widget',
}
BAR = re.compile(r'\d+%\|.*\||\d+it \[')
# This extension asks for news on the internet
OFF = {'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}}
STATE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget, kernel = panel?.sessionContext?.session?.kernel;
    if (!panel?.content?.model || !panel.context.isReady) return null;
    const dialog = document.querySelector('.jp-Dialog-content')?.innerText;
    const text = o => [o.text ?? o.data['text/plain'] ?? ''].flat().join('');
    const look = c => {
        const outs = Array.from({length: c.outputs.length}, (_, i) => c.outputs.get(i));
        const drawn = outs.map(o => o.toJSON()).filter(o => o.name == 'stderr' || o.output_type == 'display_data');
        return {count: c.executionCount, source: c.sharedModel.source, texts: drawn.map(text),
            shown: outs.some(o => o.type == 'execute_result'), error: outs.some(o => o.type == 'error')}; };
    const cells = [...panel.content.model.cells].filter(c => c.type == 'code' && c.sharedModel.source.trim());
    return {kernel: kernel?.status, dialog, dirty: panel.context.model.dirty, cells: cells.map(look)}; }"""
LOOK = """async () => {
    const notebook = window.jupyterapp.shell.currentWidget.content, seen = new Set();
    const wait = ms => new Promise(done => setTimeout(done, ms));
    const broken = ['Error displaying widget', 'Javascript Error', 'Error rendering'];
    for (let i = 0; i < notebook.widgets.length; i++) { // cells far from the screen are not on the page
        await notebook.scrollToItem(i, 'center'); await wait(60);
        const node = notebook.widgets[i].node;
        for (const img of node.querySelectorAll('img')) {
            await Promise.race([img.decode().catch(() => 0), wait(3000)]);
            const name = img.alt || img.src.slice(0, 80);
            if (!img.naturalWidth) seen.add(`cell ${i}: a picture that cannot be shown: ${name}`);
        }
        for (const text of broken) if (node.innerText.includes(text)) seen.add(`cell ${i}: ${text}`);
        for (const math of node.querySelectorAll('mjx-merror'))
            seen.add(`cell ${i}: formula: ${math.title || math.innerText}`);
    }
    return [...seen]; }"""

SHOW = """source => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const i = [...notebook.model.cells].findIndex(c => c.sharedModel.source == source);
    return notebook.scrollToItem(i, 'center'); }"""


def copy_tree(to, names, quick):
    "The files that git knows or would; returns the notebooks' paths in the copy"
    files = subprocess.run(
        ['git', 'ls-files', '-coz', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split('\0')
    for f in filter(None, files):
        if (ROOT / f).is_file():
            (to / f).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / f, to / f)
    notebooks = {p.stem: p for p in sorted((to / 'nbs').rglob('*.ipynb')) if p.parent.name != 'tests'}
    if unknown := set(names) - set(notebooks):
        sys.exit(f"no notebooks called {', '.join(sorted(unknown))}; there are {', '.join(notebooks)}")
    for p in notebooks.values():
        strip(p, quick)
    return [notebooks[n] for n in names or notebooks]


def strip(path, quick):
    "Without outputs, so that all that is seen is new, and without slow cells if it has to be quick"
    nb = json.loads(path.read_text(encoding='utf-8'))
    for c in nb['cells']:
        if c['cell_type'] == 'code':
            c.update(outputs=[], execution_count=None)
    if quick:
        nb['cells'] = [c for c in nb['cells'] if not re.search(r'^#\| *slow\b', ''.join(c['source']), re.M)]
    path.write_text(json.dumps(nb, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')


@contextlib.contextmanager
def serve(tree, own):
    "JupyterLab as it is after the installation, with nothing of the user's; gives its address and token"
    token = secrets.token_hex(16)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    folders = {
        k: str(own / k.lower())
        for k in (
            'JUPYTER_CONFIG_DIR',
            'JUPYTER_DATA_DIR',
            'JUPYTER_RUNTIME_DIR',
            'JUPYTERLAB_SETTINGS_DIR',
            'JUPYTERLAB_WORKSPACES_DIR',
            'IPYTHONDIR',
        )
    }
    config = Path(folders['JUPYTER_CONFIG_DIR']) / 'labconfig' / 'page_config.json'
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(OFF))
    command = [
        sys.executable,
        '-m',
        'jupyterlab',
        '--no-browser',
        '--allow-root',
        '--ServerApp.ip=127.0.0.1',
        f'--ServerApp.port={port}',
        '--ServerApp.port_retries=0',
        f'--ServerApp.root_dir={tree}',
        '--expose-app-in-browser',
    ]
    with open(own / 'log', 'w') as log:
        server = subprocess.Popen(
            command,
            cwd=tree,
            env={
                **{k: v for k, v in os.environ.items() if k != 'TQDM_DISABLE'},
                **folders,
                'JUPYTER_TOKEN': token,
            },
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(600):
            if server.poll() is not None:
                break
            try:
                urlopen(f'http://127.0.0.1:{port}/api?token={token}')
                break
            except OSError:
                time.sleep(0.2)
        else:
            server.kill()
        if server.poll() is not None:
            sys.exit('JupyterLab does not start:\n' + (own / 'log').read_text()[-3000:])
        yield f'http://127.0.0.1:{port}', token
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


class Visit:
    "One notebook in a tab of its own: run it, and note in `wrong` what a reader should not see"

    def __init__(self, browser, path, tree, address, token, shots, limit):
        self.path, self.shots, self.limit, self.wrong, self.bars, self.report = (
            path,
            shots,
            limit,
            [],
            0,
            None,
        )
        self.page = browser.new_page(viewport={'width': 1280, 'height': 900})
        self.page.on(
            'console',
            lambda m: m.type == 'error' and self.wrong.append(f'console: {m.text[:300]} {m.location["url"]}'),
        )
        self.page.on('pageerror', lambda e: self.wrong.append(f'console: {e}'))
        self.start = time.perf_counter()
        self.page.goto(
            f'{address}/lab/workspaces/{path.stem}/tree/{path.relative_to(tree).as_posix()}?token={token}'
        )

    @property
    def seconds(self):
        return time.perf_counter() - self.start

    def wait(self, ready, limit):
        "Look twice a second until `ready(state)`"
        until = time.perf_counter() + limit
        while not ((state := self.page.evaluate(STATE)) and ready(state)):
            if state and state['dialog']:
                raise RuntimeError(
                    f'JupyterLab asks: {" ".join(state["dialog"].split())}'
                )  # a dead kernel, say
            if time.perf_counter() > until:
                cells = state['cells'] if state else []
                done = sum(c['count'] is not None for c in cells)
                raise RuntimeError(f'not ready after {limit:.0f} s: {done} of {len(cells)} code cells were executed')
            self.page.wait_for_timeout(500)
        return state

    def menu(self, *labels):
        self.page.get_by_role('menuitem', name=labels[0], exact=True).first.click()
        self.page.locator('.lm-Menu-itemLabel').get_by_text(labels[1], exact=True).click()

    def shot(self, what):
        if self.shots:
            self.page.screenshot(path=self.shots / f'{self.path.stem}_{what}.png')

    def done(self, state):
        "Note bars and the report as they come; has everything been executed, or has one failed?"
        for i, c in enumerate(state['cells']):
            lines = [l for l in re.split(r'[\r\n]+', '\n'.join(c['texts'])) if BAR.search(l)]
            if len(lines) > 1:
                self.wrong.append(f'a bar in pieces: {lines[:3]}')
            if lines:
                self.bars += 1
                if self.bars in (2, 20):
                    self.page.evaluate(SHOW, c['source'])
                    self.shot(f'bar{self.bars}')
        if self.report is None and any(c['shown'] and 'report(' in c['source'] for c in state['cells']):
            self.report = self.seconds
        return state['kernel'] == 'idle' and (
            all(c['count'] for c in state['cells']) or any(c['error'] for c in state['cells'])
        )

    def run(self):
        self.wait(lambda s: s['kernel'] == 'idle', 180)
        self.menu('Run', 'Run All Cells')
        self.wait(self.done, self.limit)
        self.wrong += self.page.evaluate(LOOK)
        self.shot('end')
        self.page.keyboard.press('Control+s')
        self.wait(lambda s: not s['dirty'], 60)
        self.wrong += check_saved(json.loads(self.path.read_text(encoding='utf-8')))

    def close(self):
        "Shut down the kernel as File > Close and Shut Down Notebook does, without the question"
        with contextlib.suppress(Error):
            self.page.evaluate('() => window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown()')
        self.page.close()


def texts(output):
    "All that is text in an output"
    data = output.get('data', {})
    return [
        ''.join(t)
        for t in (
            output.get('text', ''),
            data.get('text/plain', ''),
            data.get('text/html', ''),
            data.get('text/markdown', ''),
        )
    ]


def check_saved(nb):
    "What a saved notebook should not hold"
    wrong, code = (
        [],
        [
            (i, c)
            for i, c in enumerate(nb['cells'])
            if c['cell_type'] == 'code' and ''.join(c['source']).strip()
        ],
    )
    counts = [c['execution_count'] for _, c in code]
    if None in counts:
        wrong.append(f'{len(counts) - counts.count(None)} of {len(counts)} code cells were executed')
    elif counts != list(range(1, len(code) + 1)):
        wrong.append(f'code cells were executed as {counts}')
    if 'widgets' in nb['metadata']:
        wrong.append('state of widgets')
    for i, c in code:
        for o in c['outputs']:
            if o['output_type'] == 'error':
                wrong.append(f"cell {i}: {o['ename']}: {o['evalue'][:500]}")
            if o.get('name') == 'stderr':
                wrong.append(f"cell {i}: standard error: {''.join(o['text'])[:300]!r}")
            wrong += [
                f'cell {i}: {what}: {t[:200]!r}'
                for t in texts(o)
                for what, pattern in DEBRIS.items()
                if re.search(pattern, t)
            ]
    return wrong


def visit(*args):
    "Run one notebook and tell how it went; did it pass?"
    v, path = Visit(*args), args[1]
    try:
        v.run()
    except (Error, RuntimeError) as e:
        v.wrong.append(str(e).splitlines()[0])
        v.shot('stuck')
    seconds = v.seconds
    v.close()
    said = f', report shown after {v.report:.0f} s' if v.report and path.stem == 'index' else ''
    print(
        f"{'FAILED' if v.wrong else 'passed'}  {path.stem}  {seconds:.0f} s{said}{', bars seen' if v.bars else ''}",
        flush=True,
    )
    for message in dict.fromkeys(v.wrong):
        print(f'    {message}', flush=True)
    return not v.wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help='notebooks, without .ipynb')
    parser.add_argument('--quick', action='store_true', help='leave out the cells marked slow')
    parser.add_argument('--shots', type=Path, help='folder for pictures of bars and of the ends of notebooks')
    parser.add_argument('--keep', type=Path, help='folder for the saved notebooks')
    parser.add_argument(
        '--limit', type=float, default=3 * 3600, help='seconds for one notebook (default: %(default)s)'
    )
    args = parser.parse_args()
    browser_path = (
        shutil.which('chromium')
        or shutil.which('google-chrome')
        or sys.exit('neither chromium nor google-chrome is on the PATH; on Debian: apt-get install chromium')
    )
    for folder in (args.shots, args.keep):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as tree:
        notebooks = copy_tree(Path(tree), args.names, args.quick)
        with serve(Path(tree), Path(own)) as (address, token), sync_playwright() as p:
            browser = p.chromium.launch(
                executable_path=browser_path, args=['--no-sandbox']
            )  # as root in a container there is no sandbox
            passed = 0
            for path in notebooks:
                passed += visit(browser, path, Path(tree), address, token, args.shots, args.limit)
                if args.keep:
                    shutil.copy(path, args.keep)
            browser.close()
    print(f'{passed} passed, {len(notebooks) - passed} failed')
    sys.exit(0 if passed == len(notebooks) else 1)


if __name__ == '__main__':
    main()

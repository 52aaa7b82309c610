"""Test a built website in a real browser: python tools/check_site.py SITE_FOLDER

Every page is loaded from a server on this machine into Debian's Chromium or Chrome, wide and at a phone's width,
light and dark. One line for each page as it is checked, then one for each kind of check and each failure; the exit
status is 1 if there is any.
Playwright drives the browser: it needs no driver of the browser's version."""

import argparse
import shutil
import sys
import tempfile
import threading
from collections import defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit
from playwright.sync_api import Error, sync_playwright
from fetch_npm import fetch

AXE = '4.14.1'
RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']
WIDE, PHONE = {'width': 1280, 'height': 900}, {'width': 390, 'height': 844}
KINDS = {
    'head': 'title and description',
    'console': 'no console error',
    'requests': 'no failed request',
    'hosts': 'no request to another host',
    'links': 'internal links and anchors',
    'images': 'alternative texts',
    'sidebar': 'pages once in the sidebar, which fits its window',
    'order': 'next and previous pages in the order of the sidebar',
    'code': 'no Markdown link in a box of code',
    'stars': 'no shape without its asterisk, such as (, n)',
    'formulas': f'no formula cut off at {WIDE["width"]} px',
    'tables': f'names in code of tables whole at {PHONE["width"]} px',
    'scroll': f'no horizontal scroll at {PHONE["width"]} px',
    'axe': f'axe {AXE}, WCAG 2 A and AA',
    'search': 'first result of a search',
}
QUERIES = {  # what people type: the page that they must find first
    'compress': 'compression.html',
    'load a compressed model': 'serialization.html',
    'fp16': 'evaluation.html',
    'how to install': 'index.html',
    'LLM': 'tutorials/llm.html',
    'GPU': 'benchmarking.html',
}
FACTS = r"""() => ({title: document.title, description: document.querySelector('meta[name=description]')?.content ?? '',
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    links: [...document.querySelectorAll('a[href]')].map(e => [e.getAttribute('href'), e.href]),
    sidebar: [...document.querySelectorAll('#quarto-sidebar a[href]')].map(e => e.href),
    previous: document.querySelector('.nav-page-previous a')?.href,
    next: document.querySelector('.nav-page-next a')?.href,
    code: [...document.querySelectorAll('pre')].flatMap(e => e.textContent.match(/\[[^\]\n]*\]\(\/[^)\s]*\)/g) ?? []),
    eaten: document.querySelector('main').textContent.match(/\(, \w+\)/g) ?? [],
    images: [...document.querySelectorAll('img')].map(e => [e.alt, e.src.slice(0, 80)])})"""
WIDER = """width => { // a page that scrolls sideways, and text that is cut off where it does not
    const cut = e => e.clientWidth && e.scrollWidth > e.clientWidth + 1
        && !e.querySelector('.math.display') && !e.closest('table');
    const text = [...document.querySelectorAll('main :is(h1, h2, h3, h4, h5, p, li, blockquote)')].filter(cut);
    return [...(document.documentElement.scrollWidth > width ? ['the page'] : []),
        ...text.map(e => e.tagName + ' ' + e.textContent.slice(0, 40))]; }"""
SIDEBAR = """() => { // it ends in the window, scrolls if it is longer, and shows the entry of the page
    const bar = document.querySelector('#quarto-sidebar'), box = bar.getBoundingClientRect();
    const entry = bar.querySelector('a.active')?.getBoundingClientRect();
    return box.bottom <= innerHeight + 1 && getComputedStyle(bar).overflowY === 'auto'
        && entry && entry.top >= box.top && entry.bottom <= box.bottom; }"""
FORMULAS = """() => [...document.querySelectorAll('main .math.display')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40))"""
BROKEN = r"""() => { // names and numbers that take two lines
    const range = document.createRange(), found = [];
    for (const code of document.querySelectorAll('main td code')) {
        const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[\w.]+/g)) {
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            const [first, ...others] = range.getClientRects();
            if (others.some(r => r.top > first.bottom)) found.push(word[0]);
        }
    }
    return found; }"""
SETTLED = """() => document.fonts.ready.then(() =>
    new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))"""


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Check:
    "Counts and failures, by kind of check"

    def __init__(self):
        self.passed, self.failures = defaultdict(int), defaultdict(list)

    def __call__(self, kind, ok, message):
        if ok:
            self.passed[kind] += 1
        else:
            self.failures[kind].append(message)

    def report(self):
        for kind, text in KINDS.items():
            failures = self.failures[kind]
            verdict = 'FAILED' if failures else 'passed'
            print(f'{verdict}  {text}: {self.passed[kind]} passed, {len(failures)} failed')
            for message in self.failures[kind]:
                print(f'    {message}')
        passed, failed = sum(self.passed.values()), sum(map(len, self.failures.values()))
        print(f'{passed} passed, {failed} failed')
        return failed == 0 and passed > 0


def watch(page, host, name, check):
    "Note what a page asks for and complains about, until it is closed"
    page.on('console', lambda m: m.type == 'error' and check('console', False, f'{name}: {m.text}'))
    page.on('pageerror', lambda e: check('console', False, f'{name}: {e}'))
    page.on('requestfailed', lambda r: check('requests', False, f'{name}: {r.url[:120]} {r.failure}'))
    page.on('response', lambda r: check('requests', r.status < 400, f'{name}: {r.url[:120]} {r.status}'))
    page.on(
        'request',
        lambda r: (
            r.url.startswith(('data:', 'blob:'))
            or check('hosts', urlsplit(r.url).netloc == host, f'{name}: {r.url[:120]}')
        ),
    )


def look_once(page, name, check):
    "What does not depend on colors: at this width"
    if page.viewport_size == WIDE:
        check('sidebar', page.evaluate(SIDEBAR), f'{name}: too long, or without its page')
        cut = page.evaluate(FORMULAS)
        check('formulas', not cut, f'{name}: {cut}')
    else:
        broken = page.evaluate(BROKEN)
        check('tables', not broken, f'{name}: {broken}')


def look(page, name, scheme, check):
    "What a loaded page looks like at both widths; then it is at the phone's"
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)
        page.evaluate(SETTLED)
        if scheme == 'light':
            look_once(page, name, check)
        found = [
            (v['id'], n)
            for v in page.evaluate(
                'rules => axe.run(document, {runOnly: rules, resultTypes: ["violations"]})', RULES
            )['violations']
            for n in v['nodes']
        ]
        for rule, n in found:
            summary = n['failureSummary'].splitlines()[-1].strip()
            where = f'{name}, {scheme}, {size["width"]} px'
            check('axe', False, f'{where}: {rule}: {n["target"][0]}: {summary}')
        if not found:
            check('axe', True, '')
    wide = page.evaluate(WIDER, PHONE['width'])
    check('scroll', not wide, f'{name}, {scheme}: {wide}')


def visit(context, address, name, scheme, axe, check):
    "Load a page, look at it, and return what it says"
    page = context.new_page()
    watch(page, urlsplit(address).netloc, name, check)
    errors = len(check.failures['console'])
    page.set_viewport_size(WIDE)
    page.goto(f'{address}/{name}')
    facts = page.evaluate(FACTS)
    page.add_script_tag(content=axe)
    look(page, name, scheme, check)
    page.close()
    if len(check.failures['console']) == errors:
        check('console', True, '')
    return facts


def check_links(name, links, inside, site, check):
    "Links of a page to other pages and their anchors; `inside`: the addresses of all pages, with their anchors"
    for written, href in links:
        path, anchor = urldefrag(href)
        if path in inside:
            found = not anchor or unquote(anchor) in inside[path]
        else:
            found = not anchor and (site / unquote(urlsplit(path).path).lstrip('/')).is_file()
        check('links', found, f'{name}: {written}')


def check_order(name, facts, address, check):
    "The page is once in its sidebar, and the links at its bottom lead to its neighbors there"
    pages = [urldefrag(href)[0] for href in facts['sidebar']]
    if pages.count(f'{address}/{name}') != 1:
        check('sidebar', False, f'{name}: {pages.count(f"{address}/{name}")} times in the sidebar')
        return
    place = pages.index(f'{address}/{name}')
    around = [None, *pages, None]
    for side, expected in (('previous', around[place]), ('next', around[place + 2])):
        check('order', facts[side] == expected, f'{name}: {side} is {facts[side]}, not {expected}')


def check_facts(facts, site, address, check):
    "Titles, images, and links between pages, of all pages together"
    inside = {f'{address}/{name}': set(f['ids']) for name, f in facts.items()}
    for name, f in facts.items():
        check(
            'head',
            f['title'].strip() and f['description'].strip(),
            f'{name}: title {f["title"]!r}, description {f["description"]!r}',
        )
        check_order(name, f, address, check)
        check('code', not f['code'], f'{name}: {f["code"]}')
        check('stars', not f['eaten'], f'{name}: {f["eaten"]}')
        for alt, src in f['images']:
            check('images', alt.strip(), f'{name}: {src}')
        check_links(name, [link for link in f['links'] if link[1].startswith(address + '/')], inside, site, check)


def results(page, query):
    "Type a query where a reader would, and return the addresses of what is found"
    field = page.get_by_role('searchbox', name='Search')
    field.fill('')
    page.wait_for_selector('.smalldocs-search-results.show', state='hidden')
    field.press_sequentially(query)
    page.wait_for_selector('.smalldocs-search-results.show a', timeout=5000)
    page.wait_for_timeout(300)  # the results follow the last letter
    found = page.eval_on_selector_all('.smalldocs-search-results a', 'links => links.map(a => a.href)')
    return [urldefrag(href)[0] for href in found]


def search(context, address, check):
    "Search for what people type; for a function, its entry in the API must be found too"
    page = context.new_page()
    page.set_viewport_size(WIDE)
    page.goto(f'{address}/index.html', wait_until='networkidle')
    for query, target in QUERIES.items():
        found = results(page, query)
        check('search', found[0] == f'{address}/{target}', f'{query!r}: {found[0]}, not {target}')
    found = results(page, 'compress')
    check('search', f'{address}/api/compression.html' in found, f'api/compression.html is not in {found}')
    page.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('site', type=Path, metavar='SITE_FOLDER')
    args = parser.parse_args()
    site, check, facts = args.site.resolve(), Check(), {}
    names = sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html'))
    if not names:
        sys.exit(f'{args.site}: no pages')
    browser_path = (
        shutil.which('chromium')
        or shutil.which('google-chrome')
        or sys.exit('neither chromium nor google-chrome is on the PATH; on Debian: apt-get install chromium')
    )
    with tempfile.TemporaryDirectory() as folder:
        axe = (fetch(f'axe-core@{AXE}', folder) / 'axe.min.js').read_text(encoding='utf-8')
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}'
    with sync_playwright() as p:
        # as root in a container there is no sandbox
        browser = p.chromium.launch(executable_path=browser_path, args=['--no-sandbox'])
        for scheme in ('light', 'dark'):
            context = browser.new_context(color_scheme=scheme)
            for number, name in enumerate(names, 1):
                print(f'{scheme} {number}/{len(names)} {name}', flush=True)
                facts[name] = visit(context, address, name, scheme, axe, check)
            if scheme == 'light':
                try:
                    search(context, address, check)
                except Error as e:
                    check('search', False, str(e).splitlines()[0])  # no field, no answer
        browser.close()
    server.shutdown()
    check_facts(facts, site, address, check)
    sys.exit(0 if check.report() else 1)


if __name__ == '__main__':
    main()

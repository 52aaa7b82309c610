# Modules, notebooks, README and citation belong together.
environment dev
unchanged() { # COMMAND...: does it leave the clone as it is?
    "$@" && [ -z "$(git status --porcelain)" ] && return
    git status --short
    git diff | head -n 40
    git checkout -q .
    false
}
citation() {
    python - <<'PY'
from nbdev.config import get_config
cfg, lines = get_config(), open('CITATION.cff').read().splitlines()
expected = {f'version: {cfg.version}', f'repository-code: {cfg.git_url}', f'url: {cfg.doc_host}{cfg.doc_baseurl}'}
assert expected <= set(lines), expected - set(lines)
PY
}
check 'requirements agree with each other' pip check
check 'modules match notebooks' unchanged nbdev_export
check 'notebooks are clean' unchanged nbdev_clean
check 'README matches index.ipynb' python tools/build_readme.py --check
check 'the citation has the version and addresses of settings.ini' citation

# Wheel and sdist; then the wheel alone, with the newest fastcore, where nothing can be fetched or written.
# A release sets DIST, the folder of the wheel and sdist that it will publish: these are tested, and none are built.
environment dev
stranger() { # COMMAND...: run it without network, as a user without rights and home, in a folder it cannot write to
    local user=(setpriv --reuid=65534 --regid=65534 --clear-groups env -i)
    (cd / && as_root unshare -n "${user[@]}" PATH=/usr/bin:/bin HOME=/nonexistent LANG=C.UTF-8 "$@")
}
readable_python() { # a Python that every user can read
    python=$(python -c 'import sys; print(sys.base_prefix)')/bin/python3
    stranger "$python" -c "import sys; sys.exit('$python' != sys.base_prefix + '/bin/python3')" && return
    install python3-venv
    python=/usr/bin/python3
}
distributions() {
    if [ -n "${DIST:-}" ]; then cp -r "$DIST" "$work/dist"; else python -m build -q --outdir "$work/dist"; fi
}
same_modules() { # are the wheel's files those that the tests ran on?
    python -m zipfile -e "$work"/dist/*.whl "$work/wheel" \
        && diff -r --exclude=__pycache__ svd_compress "$work/wheel/svd_compress"
}
alone() {
    rm -rf .venv # PyTorch twice can be more than a disk holds
    "$python" -m venv "$work/alone" && torch_alone "$work/alone/bin/pip" \
        && "$work/alone/bin/pip" install -q "$work"/dist/*.whl \
        && "$work/alone/bin/pip" list | grep -i fastcore
}
imports() { # each module, or an error that says which extra to install
    stranger "$work/alone/bin/python" -c "
import importlib, pkgutil, svd_compress
for module in pkgutil.iter_modules(svd_compress.__path__):
    try: importlib.import_module(f'svd_compress.{module.name}')
    except ImportError as e: assert 'pip install' in str(e), (module.name, e)"
}
refuses() {
    stranger "$work/alone/bin/svd_mnist" --epochs 1 2>"$work/stderr"
    [ $? = 2 ] && grep -q '^svd_mnist: error: out: svd_mnist_run cannot be used' "$work/stderr"
}
short_run() {
    stranger "$work/alone/bin/svd_mnist" --epochs 1 --ranks 20 --finetune-epochs 1 --out "$work/out/run" \
        && [ -s "$work/out/run/results.json" ]
}
mkdir "$work/out" && chmod 777 "$work/out"
readable_python >/dev/null 2>&1
check 'sdist and wheel build' distributions
check 'the wheel holds the modules of this commit' same_modules
check 'the wheel installs alone' alone
check 'every module imports with the newest fastcore' imports
check 'an output folder that cannot be made is refused' refuses
check 'the wheel runs the experiment without network, home and rights' short_run

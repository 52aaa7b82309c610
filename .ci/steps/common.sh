# Shared by all steps: folders, counters, and how a check is run.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
chmod 755 "$work"
passed=0 failed=0
export MPLCONFIGDIR=$work/matplotlib # matplotlib's font cache must not point into this folder when it is gone

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
trap 'as_root rm -rf "$work"' EXIT

check() { # NAME COMMAND...: run it, show its output if it fails, and count it
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "passed  $name  $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        echo "FAILED  $name  $((SECONDS - start)) s"
        tail -n 60 "$work/log"
    fi
}

install() { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "$@"; }

torch_alone() { # PIP: install PyTorch from TORCH_INDEX_URL, if that is set; what is installed later comes from PyPI only
    [ -z "${TORCH_INDEX_URL:-}" ] || "$1" install -q torch torchvision --index-url "$TORCH_INDEX_URL"
}

environment() { # EXTRAS: the environment that README's command makes, for steps that run without the tests
    [ -x .venv/bin/python ] \
        || { python3 -m venv .venv && torch_alone .venv/bin/pip && .venv/bin/pip install -q -e ".[$1]"; }
    export PATH=$PWD/.venv/bin:$PATH
}

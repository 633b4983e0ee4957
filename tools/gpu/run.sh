#!/usr/bin/env bash
# Runs tools/gpu/check.py where there is no network and a Python that must stay as it is.
#
#   tools/gpu/run.sh WHEELS [ARGUMENTS of check.py]
#
# WHEELS is a folder of tools/gpu/wheels.sh. $PYTHON (python3) has torch, torchvision, NumPy and
# what else was left out; the wheels are installed into a temporary folder for this run alone.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "error: $*" >&2
    exit 1
}

case ${1-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit
        ;;
    '' | -*)
        fail "WHEELS is needed; usage: $0 WHEELS [ARGUMENTS of check.py]"
        ;;
esac
wheels=$1
shift
files=("$wheels"/*.whl)
[ -e "${files[0]}" ] || fail "$wheels has no wheels: see tools/gpu/wheels.sh"
export PYTHON=${PYTHON:-python3}  # the launchers use it, too
"$PYTHON" -m pip --version >/dev/null 2>&1 || fail "$PYTHON has no pip: set PYTHON to one that has"

packages=$(realpath "$(mktemp -d)")  # the steps run in the clone
trap 'rm -rf "$packages"' EXIT
trap 'exit 1' HUP INT TERM
# --isolated: without settings such as PIP_USER, which would go elsewhere or contradict.
"$PYTHON" -m pip --isolated --disable-pip-version-check -qq install --no-index --no-deps \
    --no-compile --target "$packages" "${files[@]}" ||
    fail "pip cannot install the wheels in $wheels, as it says above: make another folder with" \
        "tools/gpu/wheels.sh, for the version of $PYTHON"
export PYTHONPATH=$root:$packages${PYTHONPATH:+:$PYTHONPATH}
missing=$("$root/tools/install.sh" --missing "$PYTHON" runtime nodeps tasks tests)
[ -z "$missing" ] || fail "neither $wheels nor $PYTHON has $missing:" \
    'see tools/gpu/wheels.sh --help for what it leaves out'

# In a process group of its own (-m), so that a signal ends its children, too, before their packages
# are removed.
set -m
"$PYTHON" "$root/tools/gpu/check.py" "$@" </dev/null &
check=$!
set +m
trap 'kill -TERM -- "-$check"' HUP INT TERM
code=0
wait "$check" || code=$?
trap '' HUP INT TERM
wait "$check" 2>/dev/null || true  # a signal ends the first wait, and not the process
exit "$code"

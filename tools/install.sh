#!/usr/bin/env bash
# Installs scopevit with all it needs. Plain pip cannot: requirements/nodeps.txt says why.
#
#   tools/install.sh                         into .venv, made where there is none (`make setup`)
#   tools/install.sh PYTHON                  into the environment of this Python
#   tools/install.sh --check PYTHON ROLE...  installs nothing; says what of requirements/ROLE.txt
#                                            this Python lacks
#   tools/install.sh --missing PYTHON ROLE...  prints the names of these and nothing else
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "error: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# The names of what of requirements/ROLE.txt a Python lacks: missing PYTHON ROLE...
missing() {
    local python=$1
    shift
    command -v "$python" >/dev/null || fail "there is no Python at $python"
    is_new_enough "$python" || fail "$python is no Python >= 3.10"
    # Modules, not packages: a compiled mmcv or another build of OpenCV will do as well.
    "$python" - "$root/requirements" "$@" <<'PYTHON'
import re
import sys
from importlib.util import find_spec
from pathlib import Path

MODULES = {
    'mmcv-lite': 'mmcv',
    'mmsegmentation': 'mmseg',
    'opencv-python-headless': 'cv2',
    'pillow': 'PIL',
    'pytest-xdist': 'xdist',
    'pyyaml': 'yaml',
}
missing = []
for role in sys.argv[2:]:
    for line in Path(sys.argv[1], f'{role}.txt').read_text().splitlines():
        name = re.match(r'[\w-]*', line)[0]
        if name and find_spec(MODULES.get(name, name.replace('-', '_'))) is None:
            missing.append(name)
print(*missing, sep=', ')
PYTHON
}

check() {
    local python=$1 missing
    missing=$(missing "$@")
    [ -z "$missing" ] || fail "$python lacks $missing: run tools/install.sh $python," \
        "or leave PYTHON out and make sets up .venv"
}

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if is_new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail 'there is no python3 >= 3.10 on PATH: install one,' \
        'or use one that is elsewhere: /path/to/python3 -m venv .venv'
}

make_venv() {
    local base package
    base=$(find_python)
    if ! "$base" -c 'import ensurepip' 2>/dev/null; then
        # Debian and Ubuntu keep it in a package of its own.
        if command -v virtualenv >/dev/null; then
            virtualenv --quiet --python "$base" "$1"
            return
        fi
        package=$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            fail "$base cannot make a virtual environment: run sudo apt-get install $package"
        fi
        echo "installing $package, for $base to make a virtual environment"
        apt-get update -qq || true  # the lists that are there may do
        DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
            fail "$base cannot make a virtual environment, and apt-get cannot install $package"
    fi
    "$base" -m venv "$1"
}

install() {
    # A PYTHONPATH could hide that something is missing here.
    local pip=(env -u PYTHONPATH "$1" -m pip --disable-pip-version-check install)
    local requirements=$root/requirements present=^#
    # Wheels alone, so that nothing here ever needs a compiler.
    "${pip[@]}" --only-binary=:all: -r "$requirements/runtime.txt" -r "$requirements/tasks.txt" \
        -r "$requirements/tests.txt" -r "$requirements/dev.txt"
    # These share their files with a full OpenCV and a compiled mmcv, which will do where they work.
    ! env -u PYTHONPATH "$1" -c 'import cv2' 2>/dev/null || present+='|^opencv'
    ! env -u PYTHONPATH "$1" -c 'import mmcv._ext' 2>/dev/null || present+='|^mmcv'
    grep -vE "$present" "$requirements/nodeps.txt" |
        "${pip[@]}" --only-binary=:all: --no-deps -r /dev/stdin
    "${pip[@]}" --no-deps --no-build-isolation -e "$root"
}

case ${1-} in
    --check)
        shift
        check "$@"
        ;;
    --missing)
        shift
        missing "$@"
        ;;
    '')
        venv=$root/.venv
        # Left by a set-up that was interrupted: what it was writing may be half there.
        [ ! -e "$venv/.unfinished" ] || rm -rf "$venv"
        rm -f "$venv/.complete"
        if ! is_new_enough "$venv/bin/python"; then
            rm -rf "$venv"
            mkdir "$venv"
            touch "$venv/.unfinished"
            make_venv "$venv"
        fi
        touch "$venv/.unfinished"
        install "$venv/bin/python"
        rm "$venv/.unfinished"
        touch "$venv/.complete"
        ;;
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        ;;
    -*)
        fail "unknown option $1: see tools/install.sh --help"
        ;;
    *)
        install "$1"
        ;;
esac

#!/usr/bin/env bash
# Installs scopevit with all it needs. Plain pip cannot: requirements/nodeps.txt says why.
#
#   tools/install.sh                         into .venv, made where there is none (`make setup`)
#   tools/install.sh PYTHON                  into the environment of this Python
#   tools/install.sh --only-compat [PYTHON]  the libraries, and scopevit for its adaptations to what
#                                            is newer than they; without tests' and developers' tools
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

require() {
    command -v "$1" >/dev/null || fail "there is no Python at $1"
    is_new_enough "$1" || fail "$1 is no Python >= 3.10"
}

# Looks for what is in requirements/ROLE.txt: look_for missing|foreign PYTHON ROLE...
#   missing   prints the names of what a Python lacks
#   foreign   prints the names of what it has from another package than that of this name
look_for() {
    local kind=$1 python=$2
    shift 2
    # Modules, not packages: a compiled mmcv, a fork or another build of OpenCV will do as well.
    "$python" - "$root/requirements" "$kind" "$@" <<'PYTHON'
import re
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
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


def is_missing(name: str, module: str) -> bool:
    return find_spec(module) is None


def is_foreign(name: str, module: str) -> bool:
    owners = {re.sub('[-_.]+', '-', owner).lower() for owner in OWNERS.get(module, [])}
    return not is_missing(name, module) and owners != {name} and is_fit(module)


def is_fit(module: str) -> bool:
    """Whether a module will do as it is; a full OpenCV does not import without libGL."""
    try:
        return module != 'cv2' or bool(import_module(module))
    except ImportError:
        return False


OWNERS = packages_distributions() if sys.argv[2] == 'foreign' else {}
is_wanted = {'missing': is_missing, 'foreign': is_foreign}[sys.argv[2]]
found = []
for role in sys.argv[3:]:
    for line in Path(sys.argv[1], f'{role}.txt').read_text().splitlines():
        name = re.match(r'[\w-]*', line)[0]
        if name and is_wanted(name, MODULES.get(name, name.replace('-', '_'))):
            found.append(name)
print(*found, sep=', ')
PYTHON
}

check() {
    local python=$1 missing
    require "$python"
    missing=$(look_for missing "$@")
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

# install PYTHON ROLE...: what of requirements/ has these roles, and the package
install() {
    local python=$1 role foreign package=(--no-deps)
    # A PYTHONPATH could hide that something is missing here.
    local pip=(env -u PYTHONPATH "$python" -m pip --disable-pip-version-check install)
    local wanted=() requirements=$root/requirements
    shift
    for role; do
        wanted+=(-r "$requirements/$role.txt")
    done
    # Wheels alone, so that nothing here ever needs a compiler.
    "${pip[@]}" --only-binary=:all: "${wanted[@]}"
    # Forks and a compiled mmcv have the same files: they stay, and so does a full OpenCV that works.
    foreign=$(unset PYTHONPATH && look_for foreign "$python" nodeps)
    [ -z "$foreign" ] || echo "left as they are, from other packages: $foreign"
    { grep -vE "^(#|(${foreign//, /|})(==|$))" "$requirements/nodeps.txt" || true; } |
        "${pip[@]}" --only-binary=:all: --no-deps -r /dev/stdin
    # The tests need, and bring, what builds packages.
    [[ " $* " != *' tests '* ]] || package+=(--no-build-isolation)
    "${pip[@]}" "${package[@]}" -e "$root"
}

roles=(runtime tasks tests dev)
if [ "${1-}" = --only-compat ]; then
    roles=(runtime tasks)
    shift
fi
case ${1-} in
    --check)
        shift
        check "$@"
        ;;
    --missing)
        shift
        require "$1"
        look_for missing "$@"
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
        install "$venv/bin/python" "${roles[@]}"
        rm "$venv/.unfinished"
        [[ " ${roles[*]} " != *' tests '* ]] || touch "$venv/.complete"
        ;;
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        ;;
    -*)
        fail "unknown option $1: see tools/install.sh --help"
        ;;
    *)
        require "$1"
        install "$1" "${roles[@]}"
        ;;
esac

#!/usr/bin/env bash
# Collects the wheels that tools/gpu/run.sh needs on a machine without network.
#
#   tools/gpu/wheels.sh DIR [--python-version 3.12] [--all] [--have NAME]...
#
# DIR is new or empty. The wheels are those of CPython on Linux, x86-64: all of requirements/ that
# the toolbox and its tests need, but for torch, torchvision, numpy and what these need, which the
# machine must have. Left out, too, are OpenCV and SciPy, by far the largest, as images with PyTorch
# mostly have them: --all takes them. --have leaves out more, each with what it needs, and may say
# which version there is: --have matplotlib --have 'torch==2.11.*'.
#
# pip is that of $PYTHON (python3), and so are conditions on Python that a package sets for what it
# needs: best of the version of --python-version.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage="usage: $0 DIR [--python-version X.Y] [--all] [--have NAME]..."

fail() {
    echo "error: $*" >&2
    exit 1
}

# Needs a --target that it does not write to, for wheels of a Python that is not its own.
resolve() {
    local report=$1
    shift
    "${pip[@]}" install --dry-run --ignore-installed --target "$work/none" \
        --report "$work/$report.json" "${platform[@]}" "$@" ||
        fail "pip finds no wheels for CPython $version that fit, as it says above"
}

# All pins that were resolved, but for those of the first report.
list() {
    "$PYTHON" - "$work"/{present,needed,nodeps}.json <<'EOP'
import json
import re
import sys
from pathlib import Path

reports = [json.loads(Path(path).read_text())['install'] for path in sys.argv[1:]]
present, *wanted = [
    {re.sub(r'[-_.]+', '-', m['name']).lower(): m['version'] for m in (i['metadata'] for i in r)}
    for r in reports
]
for pins in wanted:
    print(*(f'{name}=={pins[name]}' for name in sorted(pins.keys() - present)), sep='\n')
EOP
}

directory='' version=3.12
have=(torch torchvision numpy) large=(opencv-python-headless scipy)
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
            exit
            ;;
        --all)
            large=()
            ;;
        --python-version | --have)
            case ${2-} in '' | -*) fail "$1 needs a value; $usage" ;; esac
            if [ "$1" = --have ]; then have+=("$2"); else version=$2; fi
            shift
            ;;
        -*)
            fail "unknown option $1; $usage"
            ;;
        *)
            [ -z "$directory" ] || fail "one DIR is needed, not $directory and $1; $usage"
            directory=$1
            ;;
    esac
    shift
done
[ -n "$directory" ] || fail "DIR is needed; $usage"
[[ $version =~ ^3\.[0-9]+$ ]] || fail "--python-version must be like 3.12, not '$version'"
[ -z "$(ls -A "$directory" 2>/dev/null)" ] || fail "$directory is there and not empty"
PYTHON=${PYTHON:-python3}
"$PYTHON" -m pip --version >/dev/null 2>&1 || fail "$PYTHON has no pip: set PYTHON to one that has"
pip=("$PYTHON" -m pip -qq --disable-pip-version-check)
have+=("${large[@]}")

platform=(--python-version "$version" --implementation cp --only-binary=:all:)
for minor in {17..39}; do  # of glibc; pip takes each as itself alone
    platform+=(--platform "manylinux_2_${minor}_x86_64")
done
platform+=(--platform manylinux2014_x86_64)  # which stands for all before

# Half a folder would be taken for a whole one.
clean() {
    rm -rf "$work"
    [ ${#written[@]} = 0 ] || rm -f "${written[@]}"
    [ -z "$new" ] || rmdir --ignore-fail-on-non-empty "$directory"
}

new='' written=()
work=$(mktemp -d)
trap clean EXIT
if [ ! -d "$directory" ]; then
    # An error now rather than after the download.
    mkdir -p "$directory" 2>/dev/null || fail "cannot make the folder $directory"
    new=1
fi
requirements=$root/requirements
# What the machine has is part of every choice, so that versions fit one another.
resolve present "${have[@]}"
resolve needed -r "$requirements/runtime.txt" -r "$requirements/tasks.txt" \
    -r "$requirements/tests.txt" "${have[@]}"
resolve nodeps --no-deps -r "$requirements/nodeps.txt"
list >"$work/wheels.txt"
"${pip[@]}" download --no-deps --dest "$work/wheels" "${platform[@]}" -r "$work/wheels.txt" ||
    fail "pip cannot download the wheels, as it says above"

for wheel in "$work"/wheels/*.whl; do
    written+=("$directory/${wheel##*/}")
    mv "$wheel" "$directory" || fail "cannot write all wheels to $directory"
done
written=()
wheels=("$directory"/*.whl)
size=$(cat "${wheels[@]}" | wc -c)
echo "$directory: ${#wheels[@]} wheels, $((size / 1000000)) MB, for CPython $version"
echo "left out, with what they need: ${have[*]}"

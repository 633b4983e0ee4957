#!/usr/bin/env bash
# Makes an environment for each Python, torch and build of the libraries, tests in it, and writes
# the table of docs/compatibility.md.
#
#   tools/compat/matrix.sh [ARGUMENT OF PYTEST ...]   by default: -m 'not slow'
#
# PYTHONS='3.11 3.12', TORCHES='2.8 newest' and LIBRARIES=upstream (or forks) choose among them.
# WORK is the folder for the answers, work_dirs/matrix; a cell that is there is not run again until
# its folder is removed. PAGE is the page of the table. An environment takes up to 9 GB and is
# removed once it has been tested.
set -euo pipefail
case ${1-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit
        ;;
esac
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${WORK:-$root/work_dirs/matrix}
export PYTHONPATH=$root
[ $# -gt 0 ] || set -- -m 'not slow'
# PyPI has their sources alone; of mmcv's, MMCV_WITH_OPS=0 builds what is Python.
forks=(onedl-mmengine onedl-mmcv onedl-mmdetection onedl-mmsegmentation onedl-mmpretrain)

# Prints a Python of a version, of PATH, of pyenv, or that uv has or gets.
find_python() {
    local python
    for python in "python$1" ~/.pyenv/versions/"$1".*/bin/python "$(uv python find "$1" || true)"; do
        if "$python" -c "import sys; assert sys.version.startswith('$1.')"; then
            echo "$python"
            return
        fi
    done 2>/dev/null
    uv python install "$1" >&2 && uv python find "$1"
}

make_environment() {
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$1" "$environment"
    else
        "$1" -m venv "$environment"
    fi
}

# step NAME COMMAND ...: runs a step of a cell, and writes its seconds
step() {
    local begin=$SECONDS code=0
    echo "== $1"
    "${@:2}" || code=$?
    echo "$1 $((SECONDS - begin))" >>"$cell/seconds"
    return $code
}

install_torch() {
    if [ "$1" = newest ]; then
        "${pip[@]}" --only-binary=:all: torch torchvision
    else
        "${pip[@]}" --only-binary=:all: "torch==$1.*" torchvision
    fi
}

install_rest() {
    [ "$1" = upstream ] || MMCV_WITH_OPS=0 "${pip[@]}" --no-deps "${forks[@]}" || return
    "$root/tools/install.sh" --only-compat "$python" || return
    "${pip[@]}" --only-binary=:all: -r "$root/requirements/tests.txt"
}

run_cell() {
    local base version=$1 torch=$2 libraries=$3
    shift 3
    base=$(find_python "$version") || { echo "ERROR: there is no Python $version"; return 1; }
    make_environment "$base" || return
    step torch install_torch "$torch" || return
    step rest install_rest "$libraries" || return
    "$python" -m pip list --format=json >"$cell/packages.json" || return
    # What is broken or fails is an answer, too.
    (cd "$root" && "$python" -m scopevit.compat --json >"$cell/check.json") || true
    (cd "$root" && step tests env OMP_NUM_THREADS=1 "$python" -m pytest -q -p no:cacheprovider \
        --junitxml "$cell/tests.xml" "$@") || [ -e "$cell/tests.xml" ]
}

for version in ${PYTHONS:-3.10 3.11 3.12 3.13 3.14}; do
    for torch in ${TORCHES:-2.6 2.8 newest}; do
        for libraries in ${LIBRARIES:-upstream forks}; do
            cell=$work/${version}_${torch}_$libraries
            [ ! -e "$cell/done" ] || continue
            environment=$cell/environment python=$cell/environment/bin/python
            pip=("$python" -m pip --disable-pip-version-check install)
            rm -rf "$cell"
            mkdir -p "$cell"
            echo "Python $version, torch $torch, $libraries: $cell/log"
            run_cell "$version" "$torch" "$libraries" "$@" >"$cell/log" 2>&1 ||
                tail -n 1 "$cell/log"
            rm -rf "$environment"
            touch "$cell/done"
            "${PYTHON:-$root/.venv/bin/python}" "$root/tools/compat/matrix.py" "$work" \
                --page "${PAGE:-$root/docs/compatibility.md}"
        done
    done
done

#!/usr/bin/env bash
# Tests a checkpoint in several processes: one a GPU, or on the CPU where there is none.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF tools/test.py]
#
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the
# environment. Python is $PYTHON, else that of .venv, else `python`.
set -euo pipefail
usage='CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py]'
source "$(dirname "$0")/launch.sh"

[ $# -ge 3 ] || fail 'CONFIG, CHECKPOINT and GPUS are needed'
run_torch "$3" test.py "$1" "$2" "${@:4}"

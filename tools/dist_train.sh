#!/usr/bin/env bash
# Trains in several processes: one a GPU, or on the CPU where there is none.
#
#   tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]
#
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the
# environment. Python is $PYTHON, else that of .venv, else `python`.
set -euo pipefail
usage='CONFIG GPUS [ARGUMENTS OF train.py]'
source "$(dirname "$0")/launch.sh"

[ $# -ge 2 ] || fail 'CONFIG and GPUS are needed'
run_torch "$2" train.py "$1" "${@:3}"

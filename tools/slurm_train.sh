#!/usr/bin/env bash
# Trains on GPUs of a Slurm cluster, one process each.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [ARGUMENTS OF tools/train.py]
#
# GPUS (8), GPUS_PER_NODE (8, or GPUS where that is less), CPUS_PER_TASK (5), PORT and SRUN_ARGS
# come from the environment. Python is $PYTHON, else that of .venv, else `python`.
set -euo pipefail
usage='PARTITION JOB_NAME CONFIG [ARGUMENTS OF train.py]'
source "$(dirname "$0")/launch.sh"

[ $# -ge 3 ] || fail 'PARTITION, JOB_NAME and CONFIG are needed'
run_slurm "$1" "$2" train.py "${@:3}"

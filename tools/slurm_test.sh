#!/usr/bin/env bash
# Tests a checkpoint on GPUs of a Slurm cluster, one process each.
#
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENTS OF tools/test.py]
#
# GPUS (8), GPUS_PER_NODE (8, or GPUS where that is less), CPUS_PER_TASK (5), PORT and SRUN_ARGS
# come from the environment. Python is $PYTHON, else that of .venv, else `python`.
set -euo pipefail
usage='PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENTS OF test.py]'
source "$(dirname "$0")/launch.sh"

[ $# -ge 4 ] || fail 'PARTITION, JOB_NAME, CONFIG and CHECKPOINT are needed'
run_slurm "$1" "$2" test.py "${@:3}"

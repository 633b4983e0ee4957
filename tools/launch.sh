# What the launchers share; they source it. `usage` is set by them.
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname "$tools")

fail() {
    echo "error: $1; usage: $0 $usage" >&2
    exit 1
}

check_gpus() {
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "GPUS must be a positive integer, not '$1'"
}

# Python is $PYTHON, else that of .venv, else `python`.
set_python() {
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=$root/.venv/bin/python
        [ -x "$PYTHON" ] || PYTHON=python
    fi
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
}

# run_torch GPUS TOOL [ARGUMENTS]: one process a GPU, or on the CPU where there is none. On several
# machines, NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment. So does MAX_RESTARTS,
# how often all are started again where one has died.
run_torch() {
    local gpus=$1 tool=$2
    shift 2
    check_gpus "$gpus"
    set_python
    # Without a port, torchrun finds a free one: two runs on one machine do not meet.
    local rendezvous=(--standalone)
    local address=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500}
    if [ "${NNODES:-1}" != 1 ] || [ -n "${PORT:-}" ]; then
        rendezvous=(--nnodes="${NNODES:-1}")
        if [ "${MAX_RESTARTS:-0}" = 0 ]; then
            rendezvous+=(--node-rank="${NODE_RANK:-0}" --master-addr="$address" --master-port="$port")
        else
            # With fixed ranks, processes that start again read the addresses of those before.
            rendezvous+=(--rdzv-backend=c10d --rdzv-endpoint="$address:$port" --rdzv-id="$port")
        fi
    fi
    exec "$PYTHON" "$tools/launch.py" "${rendezvous[@]}" --nproc-per-node="$gpus" \
        --max-restarts="${MAX_RESTARTS:-0}" "$tools/$tool" --launcher pytorch "$@"
}

# run_slurm PARTITION JOB_NAME TOOL [ARGUMENTS]: one process a GPU. GPUS (8), GPUS_PER_NODE (8, or
# GPUS where that is less), CPUS_PER_TASK (5), PORT and SRUN_ARGS come from the environment.
run_slurm() {
    local partition=$1 job_name=$2 tool=$3 gpus=${GPUS:-8}
    shift 3
    check_gpus "$gpus"
    local gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    command -v srun >/dev/null || fail "there is no srun here, this needs a Slurm cluster"
    set_python
    # Two jobs on one machine need two ports.
    export MASTER_PORT=${PORT:-$((20000 + $$ % 20000))}
    # SRUN_ARGS is several words.
    # shellcheck disable=SC2086
    local code=0
    srun --partition="$partition" --job-name="$job_name" \
        --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$tools/$tool" --launcher slurm "$@" || code=$?
    # A signal has ended a training, which has saved; see docs/distributed.md. A job that is being
    # cancelled is not RUNNING any more.
    if [ "$code" = 75 ] && [ -n "${SLURM_JOB_ID:-}" ] &&
        [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        scontrol requeue "$SLURM_JOB_ID" || true
    fi
    exit "$code"
}

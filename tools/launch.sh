# Functions that dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh share.
# shellcheck shell=bash disable=SC2034

# A process per GPU and its loader's workers leave no cores for more threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"

# Print how a script is used and end it, where it got fewer than MINIMUM arguments.
need_arguments() { # MINIMUM COUNT USAGE
    if [ "$2" -lt "$1" ]; then
        echo "usage: $3" >&2
        exit 2
    fi
}

# End the script unless the values are whole numbers from MINIMUM.
need_number() { # MINIMUM NAME=VALUE...
    local minimum=$1 pair
    shift
    for pair in "$@"; do
        if ! [[ ${pair#*=} =~ ^[0-9]+$ ]] || [ "${pair#*=}" -lt "$minimum" ]; then
            echo "error: ${pair%%=*}: expected a whole number from $minimum, got ${pair#*=}" >&2
            exit 2
        fi
    done
}

# The command in the array `torchrun`, for GPUS processes on each of NNODES machines.
# Agents meet by c10d: with static addresses none would notice that another restarts its workers.
set_torchrun() { # GPUS
    local nodes=${NNODES:-1} node=${NODE_RANK:-0} address=${MASTER_ADDR:-127.0.0.1} host=1 own
    need_number 1 "GPUS=$1" "NNODES=$nodes"
    need_number 0 "NODE_RANK=$node" "MAX_RESTARTS=${MAX_RESTARTS:-0}" "PORT=${PORT:-0}"
    own=$address
    if [ "$nodes" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
        echo "error: MASTER_ADDR: expected the address of the machine with NODE_RANK=0, got none" >&2
        exit 2
    fi
    if [ "$node" -ge "$nodes" ]; then
        echo "error: NODE_RANK: expected 0..$((nodes - 1)) with NNODES=$nodes, got $node" >&2
        exit 2
    fi
    if [ "$node" -gt 0 ]; then # the address by which the first machine sees this one
        host=0
        own=$(python -c 'import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect((sys.argv[1], 9))
    print(s.getsockname()[0])' "$address")
    fi
    # With torch 2.11, workers that start again find addresses of dead ones in the agents' store.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    # One machine takes any free port, so that runs on it do not get in each other's way.
    local port=$((nodes > 1 ? 29500 : 0))
    torchrun=(
        python -m torch.distributed.run
        --nnodes="$nodes" --nproc_per_node="$1" --max_restarts="${MAX_RESTARTS:-0}"
        --rdzv_backend=c10d --rdzv_id=hsakd --rdzv_endpoint="$address:${PORT:-$port}"
        --rdzv_conf="is_host=$host" --local_addr="$own"
        --signals-to-handle='SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    )
}

# The command in the array `srun`, for GPUS processes, GPUS_PER_NODE on each machine.
set_srun() { # PARTITION JOB
    local gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8} cpus=${CPUS_PER_TASK:-5}
    need_number 1 "GPUS=$gpus" "GPUS_PER_NODE=$per_node" "CPUS_PER_TASK=$cpus" "PORT=${PORT:-29500}"
    per_node=$((gpus < per_node ? gpus : per_node))
    # A worker that fails ends the others; SRUN_ARGS are words, and come last so that they win.
    # shellcheck disable=SC2206
    srun=(
        srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus"
        --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1
        ${SRUN_ARGS:-}
    )
    export MASTER_PORT="${PORT:-29500}"
}

# Run a command whose workers save and end when they are asked to, and exit: with 75 (EX_TEMPFAIL,
# "try again") if they saved, or 130 after Ctrl-C, else with the command's status. SIGTERM, SIGUSR1,
# SIGHUP (of a terminal that is closed) and Ctrl-C ask, by the file `stop` in HSAKD_STOP_DIR, and by
# SIGNAL to the command where one is given; a second one ends the command. The workers answer with
# the file `saved`.
run_stoppable() { # FOLDER SIGNAL COMMAND...
    local folder=$1 status=0 code
    first_signal=$2 command_pid='' asked='' woken=''
    shift 2
    HSAKD_STOP_DIR=$(mktemp -d "$folder/hsakd-stop.XXXXXX")
    export HSAKD_STOP_DIR
    trap 'ask_to_stop 75' TERM USR1 HUP
    trap 'ask_to_stop 130' INT
    set -m # a process group of its own, since signals to this one's group are for the script
    "$@" </dev/null &
    command_pid=$!
    while
        woken='' code=0
        wait "$command_pid" || code=$?
        [ "$code" -eq 127 ] || status=$code # 127: it had ended, and was waited for
        [ -n "$woken" ]
    do :; done
    if [ -e "$HSAKD_STOP_DIR/saved" ]; then
        status=$asked
    elif [ -n "$asked" ] && { [ "$status" -eq 138 ] || [ "$status" -eq 143 ]; }; then
        status=$asked # by SIGUSR1 or SIGTERM before they listened: nothing to save yet
    fi
    rm -rf "$HSAKD_STOP_DIR"
    return "$status"
}

ask_to_stop() { # STATUS
    woken=1
    if [ -n "$asked" ]; then
        kill -TERM "$command_pid" 2>/dev/null || true
        return
    fi
    asked=$1
    echo 'asked to stop: saving a checkpoint first; asked again, the workers are ended' >&2
    touch "$HSAKD_STOP_DIR/stop"
    if [ -n "$first_signal" ]; then
        kill -"$first_signal" "$command_pid" 2>/dev/null || true
    fi
}

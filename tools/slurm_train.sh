#!/usr/bin/env bash
# Train with Slurm: tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]
# Environment: GPUS (8), GPUS_PER_NODE (8 or GPUS), CPUS_PER_TASK (5), SRUN_ARGS, PORT (29500).
# See docs/clusters.md. Exits with 75 where SIGTERM or SIGUSR1 made it save and stop, and puts a
# batch job back into the queue.
set -eu
here=$(dirname "$0")
# shellcheck source=tools/launch.sh
. "$here/launch.sh"
need_arguments 4 $# \
    "tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]"
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
set_srun "$partition" "$job"
mkdir -p "$work_dir"
status=0
run_stoppable "$work_dir" USR1 \
    "${srun[@]}" python -u "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm \
    "$@" || status=$?
if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    echo "saved; job $SLURM_JOB_ID goes back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "job $SLURM_JOB_ID could not be requeued" >&2
fi
exit "$status"

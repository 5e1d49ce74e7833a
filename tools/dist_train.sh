#!/usr/bin/env bash
# Train on several GPUs, or on processes with gloo where there is none. See docs/clusters.md.
# On several machines, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the
# environment. MAX_RESTARTS (0): how often workers start again after one died.
# Exits with 75 where SIGTERM or SIGUSR1 made it save and stop: started again, with --resume, it
# goes on.
set -eu
here=$(dirname "$0")
# shellcheck source=tools/launch.sh
. "$here/launch.sh"
need_arguments 2 $# "tools/dist_train.sh CONFIG GPUS [options of tools/train.py]"
config=$1
set_torchrun "$2"
shift 2
status=0
run_stoppable "${TMPDIR:-/tmp}" '' \
    "${torchrun[@]}" "$here/train.py" "$config" --launcher pytorch "$@" || status=$?
exit "$status"

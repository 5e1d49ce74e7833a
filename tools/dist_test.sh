#!/usr/bin/env bash
# Test on several GPUs, or on processes with gloo where there is none. See docs/clusters.md.
# On several machines, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the
# environment.
set -eu
here=$(dirname "$0")
# shellcheck source=tools/launch.sh
. "$here/launch.sh"
need_arguments 3 $# "tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]"
config=$1
checkpoint=$2
set_torchrun "$3"
shift 3
exec "${torchrun[@]}" "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"

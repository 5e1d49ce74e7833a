#!/usr/bin/env bash
# Test on several GPUs (on processes with gloo where there is none): tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# On several nodes, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
set -eu
if [ $# -lt 3 ]; then
    echo "usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"

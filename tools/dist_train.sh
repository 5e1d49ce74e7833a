#!/usr/bin/env bash
# Train on several GPUs (on processes with gloo where there is none): tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On several nodes, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"

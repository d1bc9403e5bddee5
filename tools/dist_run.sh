#!/usr/bin/env bash
# Usage: tools/dist_run.sh GPUS TOOL [arguments of the tool], TOOL being a path below tools/
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT. Without a GPU, GPUS is the number of processes.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 GPUS TOOL [arguments of the tool]" >&2
    exit 2
fi
GPUS=$1
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOOL=$TOOLS/$2
if [ ! -f "$TOOL" ]; then
    echo "error: no tool $2 in $TOOLS" >&2
    exit 2
fi
shift 2

export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
exec torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$TOOL" "$@" --launcher pytorch

#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT, MAX_RESTARTS. Without a GPU, GPUS is the number of processes.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2

exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" "$GPUS" train.py "$CONFIG" "$@"

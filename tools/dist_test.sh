#!/usr/bin/env bash
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT. Without a GPU, GPUS is the number of processes.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3

exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" "$GPUS" test.py "$CONFIG" "$CHECKPOINT" "$@"

#!/usr/bin/env bash
# Usage: tools/dist_run.sh GPUS TOOL [arguments of the tool], TOOL being a path below tools/
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT; MAX_RESTARTS, how often processes of which one has died are started
# again (a training with --resume goes on). Without a GPU, GPUS is the number of processes. The status is that of the
# tool, see docs/reliability.md.
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
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
# torchrun ends with 1 whatever its processes say, so that they leave their status in a file.
MMWSSS_STATUS_FILE=$(mktemp)
export MMWSSS_STATUS_FILE
trap 'rm -f "$MMWSSS_STATUS_FILE"' EXIT
torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    --nproc_per_node="$GPUS" \
    "$TOOL" "$@" --launcher pytorch &
LAUNCHER=$!
trap 'kill -TERM "$LAUNCHER"' INT TERM
trap 'kill -USR1 "$LAUNCHER"' USR1
while kill -0 "$LAUNCHER" 2>/dev/null; do # a signal ends wait, not the launcher
    wait "$LAUNCHER" || true
done
CODE=0
wait "$LAUNCHER" || CODE=$?
if [ "$CODE" -ne 0 ] && [ -s "$MMWSSS_STATUS_FILE" ]; then
    CODE=$(<"$MMWSSS_STATUS_FILE")
fi
exit "$CODE"

#!/usr/bin/env bash
# Usage: tools/slurm_run.sh PARTITION JOB_NAME TOOL [arguments of the tool], TOOL being a path below tools/
# Environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS (more arguments of srun, split at spaces).
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: [GPUS=4 GPUS_PER_NODE=4 CPUS_PER_TASK=5 SRUN_ARGS=] $0 PARTITION JOB_NAME TOOL [arguments of the tool]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOOL=$TOOLS/$3
if [ ! -f "$TOOL" ]; then
    echo "error: no tool $3 in $TOOLS" >&2
    exit 2
fi
shift 3
GPUS=${GPUS:-4}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 4 ? GPUS : 4))}
read -r -a EXTRA <<<"${SRUN_ARGS:-}"

export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
# --launcher comes first, so that another one among the arguments counts instead.
exec srun -p "$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${EXTRA[@]+"${EXTRA[@]}"} \
    python -u "$TOOL" --launcher slurm "$@"

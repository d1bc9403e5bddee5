#!/usr/bin/env bash
# Trains CAM for three iterations as two nodes of one process each and as one node of two processes, and compares the weights.
# Usage: tests/multinode/run.sh namespaces|loopback [WORK_DIR]; see tests/multinode/README.md
set -euo pipefail

MODE=${1:-}
if [ "$MODE" != namespaces ] && [ "$MODE" != loopback ]; then
    echo "usage: [PORT=29511 DATA=data/shapes] $0 namespaces|loopback [WORK_DIR]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORK=${2:-work_dirs/multinode_$MODE}
PORT=${PORT:-29511}
DATA=${DATA:-data/shapes}
if [ ! -d "$DATA" ]; then
    echo "error: no folder $DATA; make it with: python tools/dataset_converters/shapes.py" >&2
    exit 2
fi
CONFIG=configs/cam/cam_vit-xt8_1xb16-600_shapes-144x144.py
OPTIONS=(
    model.backbone.init_cfg=None train_cfg.max_iters=3 train_cfg.val_begin=100 default_hooks.checkpoint.interval=3
    default_hooks.logger.interval=1 train_dataloader.batch_size=4 train_dataloader.num_workers=0
    custom_hooks.0.warmup_iters=1 train_dataloader.persistent_workers=False train_dataloader.dataset.data_root="$DATA"
)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Command that runs a program on a node, and what its processes have to know of the network.
if [ "$MODE" = namespaces ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "error: network namespaces need root; run $0 loopback" >&2
        exit 2
    fi
    ADDRESSES=(10.77.0.1 10.77.0.2)
    INTERFACES=("v0_$$" "v1_$$")
    SPACES=("mmwsss0_$$" "mmwsss1_$$")
    MASTER=${ADDRESSES[0]}
    ip netns add "${SPACES[0]}"
    trap 'for space in "${SPACES[@]}"; do ip netns del "$space" 2>/dev/null || true; done' EXIT
    ip netns add "${SPACES[1]}"
    ip link add "${INTERFACES[0]}" netns "${SPACES[0]}" type veth peer name "${INTERFACES[1]}" netns "${SPACES[1]}"
    for i in 0 1; do
        ip -n "${SPACES[$i]}" address add "${ADDRESSES[$i]}/24" dev "${INTERFACES[$i]}"
        ip -n "${SPACES[$i]}" link set lo up
        ip -n "${SPACES[$i]}" link set "${INTERFACES[$i]}" up
    done
    on_node() { GLOO_SOCKET_IFNAME=${INTERFACES[$1]} ip netns exec "${SPACES[$1]}" "${@:2}"; }
else
    MASTER=127.0.0.2
    on_node() { GLOO_SOCKET_IFNAME=lo "${@:2}"; }
fi

node() {
    NNODES=2 NODE_RANK=$1 MASTER_ADDR=$MASTER PORT=$PORT on_node "$1" \
        timeout 600 bash tools/dist_train.sh "$CONFIG" 1 --work-dir "$WORK/two_nodes" --cfg-options "${OPTIONS[@]}"
}

rm -rf "$WORK/two_nodes" "$WORK/one_node"
mkdir -p "$WORK"
node 0 >"$WORK/node_0.log" 2>&1 &
FIRST=$!
node 1 >"$WORK/node_1.log" 2>&1 &
SECOND=$!
STATUS=0
wait "$FIRST" || STATUS=$?
wait "$SECOND" || STATUS=$?
if [ "$STATUS" != 0 ]; then
    tail -n 20 "$WORK/node_0.log" "$WORK/node_1.log" >&2
    exit "$STATUS"
fi
PORT=$PORT bash tools/dist_train.sh "$CONFIG" 2 --work-dir "$WORK/one_node" --cfg-options "${OPTIONS[@]}" \
    >"$WORK/one_node.log" 2>&1 || { tail -n 20 "$WORK/one_node.log" >&2; exit 1; }
python tests/multinode/compare.py "$WORK/two_nodes/iter_3.pth" "$WORK/one_node/iter_3.pth"

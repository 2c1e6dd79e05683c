#!/usr/bin/env bash
# Train (walk all steps) with several processes of torchrun; exits 2 on wrong usage or input.
set -euo pipefail

if [[ $# -lt 2 || ! $2 =~ ^[1-9][0-9]*$ ]]; then
    cat >&2 <<'USAGE'
usage: tools/dist_train.sh CONFIG GPUS [more arguments of tools/train.py]
  for example: bash tools/dist_train.sh configs/mib/CONFIG.py 4 --resume
               bash tools/dist_train.sh - 4 --method mib --protocol voc_15-1
  GPUS is the number of processes on this node. On several nodes, start it on each with
  NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1) and PORT (29500) in the environment.
USAGE
    exit 2
fi
target=$1
gpus=$2
shift 2

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools")
python=$root/.venv/bin/python
[[ -x $python ]] || python=python

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" "$tools/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$tools/train.py" "$target" --launcher pytorch "$@"

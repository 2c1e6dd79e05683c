#!/usr/bin/env bash
# Train (walk all steps) as a Slurm job step, one process a GPU; exits 2 on wrong usage.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    cat >&2 <<'USAGE'
usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [more arguments of tools/train.py]
  environment: GPUS (4), GPUS_PER_NODE (GPUS, 8 at most), CPUS_PER_TASK (5),
               SRUN_ARGS (more arguments of srun, split at spaces)
USAGE
    exit 2
fi
partition=$1
job_name=$2
config=$3
shift 3

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools")
python=$root/.venv/bin/python
[[ -x $python ]] || python=python

gpus=${GPUS:-4}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec srun \
    --partition="$partition" \
    --job-name="$job_name" \
    --gres="gpu:$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${srun_args[@]+"${srun_args[@]}"} \
    "$python" -u "$tools/train.py" "$config" --launcher slurm "$@"

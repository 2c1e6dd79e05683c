#!/usr/bin/env bash
# Fine-tuning and VDFD from one step 0, and their comparison: examples/compare.sh work_dirs/compare
set -euo pipefail
out=$1
iterations=${ITERATIONS:-300}
options=(--protocol embedded_11-5 --cfg-options
    "step_overrides.0.max_iters=$iterations" "step_overrides.later.max_iters=$((iterations / 2))")
python -m mmseg_cil train --method finetune --work-dir "$out/finetune" "${options[@]}"
python -m mmseg_cil train --method vdfd --work-dir "$out/vdfd" --start-from "$out/finetune" "${options[@]}"
python -m mmseg_cil report "$out/finetune" "$out/vdfd" --out "$out/report"

#!/usr/bin/env bash
# Trains the tiny world with GRPO and SFT, three seeds each, into runs/study; goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=1
for seed in ${SEEDS:-0 1 2}; do
  for job in ${JOBS:-grpo sft}; do
    run=runs/study/$job-seed$seed
    if [ -e "$run/model.safetensors" ]; then
      echo "$run is done"
      continue
    fi
    resume=false
    if compgen -G "$run/checkpoint-*" > /dev/null; then resume=latest; fi
    .venv/bin/sparks "$job" --config "recipes/tiny/$job.yaml" --seed "$seed" \
      --output_dir "$run" --resume_from_checkpoint "$resume"
  done
done

#!/usr/bin/env bash
# Trains the tiny world in every way that docs/claims.md compares, eight seeds each, tracked at the first and the
# last checkpoint; goes on where it stopped. Seeds share the package's three bases. FOLDER, SEEDS and KINDS in the
# environment choose others.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
folder=${FOLDER:-runs/kinds}
for seed in ${SEEDS:-0 1 2 3 4 5 6 7}; do
  for kind in ${KINDS:-sft grpo coin distill sft-grpo}; do
    run=$folder/$kind-seed$seed
    if [ -e "$run/model.safetensors" ]; then
      echo "$run is done"
      continue
    fi
    job=${kind##*-} model=train/tiny/bases/seed$((seed % 3)) more=()
    case $kind in
      coin) job=grpo more=(--reward_funcs scripts.control.coin.coin) ;;
      sft-grpo) model=$folder/sft-seed$seed more=(--track_base "$folder/sft-seed$seed") ;;
    esac
    steps=$(sed -n 's/^max_steps: //p' "recipes/tiny/$job.yaml")
    .venv/bin/python -m train.cli "$job" --config "recipes/tiny/$job.yaml" --seed "$seed" \
      --model_name_or_path "$model" --output_dir "$run" --save_steps "$steps" \
      --track_pairs_count 128 --report_to none "${more[@]}"
  done
done

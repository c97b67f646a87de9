#!/usr/bin/env bash
# Kills small runs at every bad moment, resumes them and compares them with undisturbed ones.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
if ! .venv/bin/python -c "import deepspeed" >/dev/null 2>&1; then
    install=(.venv/bin/python -m pip install)
    command -v uv >/dev/null && install=(uv pip install --python .venv/bin/python)
    "${install[@]}" -c constraints.txt -e '.[deepspeed]' ||
        echo "chaos: DeepSpeed could not be installed; what is trained with it is left out" >&2
fi
export OMP_NUM_THREADS=1
export PYTHONWARNINGS=ignore:resource_tracker # killed processes leave their semaphores to it
exec .venv/bin/python -m scripts.chaos "$@"

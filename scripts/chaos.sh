#!/usr/bin/env bash
# Kills small runs at every bad moment, resumes them and compares them with undisturbed ones.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=1
export PYTHONWARNINGS=ignore:resource_tracker # killed processes leave their semaphores to it
exec .venv/bin/python -m scripts.chaos "$@"

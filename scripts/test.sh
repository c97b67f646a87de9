#!/usr/bin/env bash
# Sets up, then checks style and types and runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
# One thread: the tests' models are tiny, and two threads on a busy machine only wait.
OMP_NUM_THREADS=1 .venv/bin/python -m pytest "$@"

#!/usr/bin/env bash
# Sets up, then runs the main job: a tiny model learns with GRPO while its heads are tracked.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec .venv/bin/sparks demo "$@"

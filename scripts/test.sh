#!/usr/bin/env bash
# Sets up, then checks style and types and runs the tests. With --real it fetches SmolLM2 first, so that
# its tests run too. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
if [ "${1:-}" = --real ]; then
    shift
    bash scripts/get_smollm2.sh
fi
# The report is tested in a real browser where there is one, or where one can be installed.
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 ||
        echo "test: chromium could not be installed; the browser tests will be skipped" >&2
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Types are checked beside the tests: pyright fills one core alone, for less long where its garbage
# collector has room.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
NODE_OPTIONS="${NODE_OPTIONS:-} --max-semi-space-size=128" .venv/bin/pyright >"$types" 2>&1 &
# Processes of one thread each, as the tests' models are tiny; one more than cores, as many tests wait
# for processes of their own, but eight at most, as each takes 2 GB. A container may have fewer cores
# than it sees.
cores=$(nproc)
if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    allowed=$(((quota + period - 1) / period))
    cores=$((allowed < cores ? allowed : cores))
fi
workers=$((cores < 8 ? cores + 1 : 8))
failed=0
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n "$workers" --dist loadfile "$@" || failed=$?
wait $! || failed=1
cat "$types"
exit "$failed"

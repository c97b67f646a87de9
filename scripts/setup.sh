#!/usr/bin/env bash
# Makes .venv and installs Sparks into it, with the versions that were tested. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed
wanted=$( (pwd; cat pyproject.toml constraints.txt scripts/setup.sh) | sha256sum)
if [ -x .venv/bin/sparks ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: $python is missing or older than Python 3.11; name another with PYTHON=..." >&2
    exit 2
fi
echo "setup: installing into .venv (a few minutes the first time)"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
echo "$wanted" > "$stamp"

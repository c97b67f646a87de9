#!/usr/bin/env bash
# Makes .venv and installs Sparks into it, with the versions that were tested; with uv where that is
# installed, else with pip. Shows what it does. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed
wanted=$( (pwd; cat pyproject.toml constraints.txt scripts/setup.sh) | sha256sum)
if [ -x .venv/bin/sparks ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if [ -L .venv ]; then # making it anew would empty what it points to
    echo "setup: .venv is a link to $(readlink .venv), which is not Sparks' own; remove the link" >&2
    exit 2
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: $python is missing or older than Python 3.11; name another with PYTHON=..." >&2
    exit 2
fi
if command -v uv >/dev/null; then
    echo "setup: installing into .venv with uv (a minute the first time)"
    uv venv --clear --python "$python" .venv
    # modules compiled once and not at every start, also where Python may not write them down
    install=(uv pip install --compile-bytecode --python .venv/bin/python)
else
    echo "setup: installing into .venv with pip (a few minutes the first time; uv is quicker)"
    "$python" -m venv --clear .venv
    install=(.venv/bin/python -m pip install --disable-pip-version-check)
fi
"${install[@]}" -c constraints.txt -e '.[test,real]'
"${install[@]}" -c constraints.txt -e '.[tasks]' ||
    echo "setup: reasoning-gym could not be installed (a part of it needs a C compiler);" \
        "its tasks are refused and their tests skipped" >&2
echo "$wanted" > "$stamp"
echo "setup: done; .venv/bin/sparks demo"

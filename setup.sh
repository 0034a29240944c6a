#!/usr/bin/env bash
# The one bootstrap: makes .venv from pyproject.toml + constraints.txt if it is missing or they have changed.
# Used by multirun.sh, the Makefile and .ci/run. FROSTLINE_VENV names another environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${FROSTLINE_VENV:-.venv}
python=${PYTHON:-python3.11}

wanted=$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$wanted" ]; then
    command -v "$python" >/dev/null || { echo "setup: Python 3.11 is needed; set PYTHON to its path." >&2; exit 1; }
    echo "setup: installing into $venv (once; a few minutes)" >&2
    "$python" -m venv "$venv"
    # torch first: with it in place, no other package asks for a build of its own.
    "$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt torch
    "$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
    echo "$wanted" >"$venv/.installed"
fi

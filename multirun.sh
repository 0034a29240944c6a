#!/usr/bin/env bash
# Sets everything up on first use, then runs the main sweep, or the sweep that the arguments describe:
#   ./multirun.sh
#   ./multirun.sh optimizer.lr=1e-5,3e-5 strategy=partial strategy.frozen_depth=1,3,5
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/setup.sh"
if [ $# -eq 0 ]; then set -- sweep=main; fi
exec "${FROSTLINE_VENV:-$here/.venv}/bin/frostline" train -m "$@"

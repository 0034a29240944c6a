"""The process of one measurement: calls the function of a job and prints what it returns as JSON on stdout.

python benchmarks/worker.py '{"call": "peers.bare_loop:train", "options": {…}}'
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the job on the command line; whatever libraries print goes to stderr."""
    job = json.loads(sys.argv[1])
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name = job["call"].split(":")
    result = getattr(importlib.import_module(module), name)(**job["options"]) or {}
    print(json.dumps(result | {"peak_mb": peak_mb()}), file=stdout, flush=True)


def peak_mb() -> float | None:
    """Return the largest resident memory of this process so far, in MB (VmHWM; Linux only)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


if __name__ == "__main__":
    main()

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def process(tmp_path: Path, own_cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``frostline …`` in a process of its own, which can be killed or have children."""

    def start(*args: object) -> subprocess.Popen[str]:
        env = os.environ | {
            "FROSTLINE_CACHE": str(own_cache),
            "FROSTLINE_OUTPUT": str(tmp_path / "outputs"),
            "WANDB_MODE": "offline",
        }
        command = [sys.executable, "-m", "frostline", *map(str, args)]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


@pytest.fixture
def tiny(reviews_csv: Path) -> list[str]:
    """The tiny random encoder on the user's own file; trained fast enough to really learn something."""
    return ["model=tiny", "logger=csv", "data=files", f"data.train={reviews_csv}", "data.batch_size=16"]

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import Frostline


@pytest.fixture
def process(tmp_path: Path, own_cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``frostline …`` in a process of its own, which can be killed or have children."""

    def start(*args: object, program: Sequence[str] = ("-m", "frostline")) -> subprocess.Popen[str]:
        env = os.environ | {
            "FROSTLINE_CACHE": str(own_cache),
            "FROSTLINE_OUTPUT": str(tmp_path / "outputs"),
            "WANDB_MODE": "offline",
        }
        command = [sys.executable, *program, *map(str, args)]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What several tests read and none changes."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def tiny(reviews_csv: Path, shared: Path) -> list[str]:
    """The tiny random encoder on the user's own file; trained fast enough to really learn something."""
    path = shutil.copy(reviews_csv, shared)  # always the same rows and the same path, so that runs can be shared
    return ["model=tiny", "logger=csv", "data=files", f"data.train={path}", "data.batch_size=16"]


@pytest.fixture
def finished(frostline: Frostline, shared: Path) -> Callable[..., Path]:
    """``finished("seed=1", …)`` is the directory of such a run, trained by the first test that asks for it; only to be read."""

    def directory(*words: str) -> Path:
        run_dir = shared / hashlib.md5(" ".join(words).encode()).hexdigest()
        if not (run_dir / "metrics.json").exists():
            result = frostline("train", *words, f"hydra.run.dir={run_dir}")
            assert result.status == 0, result.err
        return run_dir

    return directory

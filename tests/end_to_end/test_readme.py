"""What the README says a user can choose, and its script. Its commands are looked at in tests/docs/test_commands.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_choice_of_every_group_is_in_the_readme():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    for group in (
        "data",
        "model",
        "strategy",
        "optimizer",
        "scheduler",
        "trainer",
        "callbacks",
        "cache",
        "logger",
        "experiment",
        "sweep",
    ):
        listed = set(re.findall(r"`(\w+)`", rows[group]))
        assert {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} <= listed, group


def test_multirun_sweeps_what_the_user_says(tmp_path, cache_dir):
    """The script itself, on the tiny encoder; its set-up finds this environment complete."""
    env = os.environ | {
        "FROSTLINE_VENV": sys.prefix,
        "FROSTLINE_CACHE": str(cache_dir),
        "FROSTLINE_OUTPUT": str(tmp_path / "outputs"),
    }
    words = [
        str(ROOT / "multirun.sh"),
        "experiment=debug",
        "strategy=partial",
        "strategy.frozen_depth=1,3",
        "trainer.max_epochs=1",
        "data.validation_share=0.02",
        "data.test_share=0.02",
    ]
    result = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    (table,) = (tmp_path / "outputs/sweeps").glob("*/*/results.csv")
    assert list(pd.read_csv(table)["strategy.frozen_depth"]) == [1, 3]
    assert "test accuracy" in result.stdout

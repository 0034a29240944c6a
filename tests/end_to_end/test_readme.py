"""What the README says a user can type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FILLED = re.sub(r"<(hub|part)[^>]*>", "some/name", README)
BLOCKS = re.findall(r"```bash\n(.*?)```", FILLED, flags=re.DOTALL)
TABLE = re.findall(r"^\|[^|]*\| `(frostline [^`]*)` \|$", README, flags=re.MULTILINE)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
COMMANDS += [shlex.split(line) for line in TABLE]
TRAIN = [words[2:] for words in COMMANDS if words[:2] == ["frostline", "train"]]
TRAIN += [["-m", *words[1:]] for words in COMMANDS if words and words[0] == "./multirun.sh" and len(words) > 1]


def test_the_readme_has_commands():
    assert len(TRAIN) >= 10


@pytest.mark.parametrize("words", [w for w in TRAIN if "--help" not in w], ids=" ".join)
def test_every_train_command_composes_to_a_valid_configuration(words):
    from frostline.commands.launch import compose_alone
    from frostline.config import validate

    is_sweep = "-m" in words
    overrides = [word for word in words if "=" in word]
    overrides = [o.split(",")[0] if is_sweep else o for o in overrides]  # of a sweep, its first job
    validate(compose_alone("train", overrides))


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[:1] == ["frostline"] and w[1] not in ("train", "-sc")], ids=" ".join)
def test_every_other_command_knows_its_options(frostline, words):
    """On a directory that does not exist, the complaint is about the directory, not about the options."""
    result = frostline(words[1], *(word.replace("<dir>", "nowhere") for word in words[2:]))
    of_a_run = "<dir>" in " ".join(words)
    assert result.status == int(of_a_run), result.err
    assert ("nowhere" in result.err) == of_a_run


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

"""The command line itself: help, versions, completion, and a start that waits for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import frostline as package
from frostline.__main__ import COMMANDS
from frostline.commands.launch import choices_of, groups

if TYPE_CHECKING:
    from tests.conftest import Frostline

HEAVY = ("torch", "transformers", "lightning", "wandb", "datasets", "sklearn", "matplotlib", "plotly", "pandas")


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(frostline: Frostline, word: str) -> None:
    result = frostline(word)
    assert result.status == 0
    assert result.err == ""
    for name, what in COMMANDS.items():
        assert any(line.split() == [name, *what.split()] for line in result.out.splitlines())


def test_no_command_at_all_shows_the_help_and_fails(frostline: Frostline) -> None:
    assert frostline().status == 2
    assert frostline().out == frostline("--help").out


def test_the_help_of_train_names_every_group_and_choice(frostline: Frostline, tmp_path: Path) -> None:
    result = frostline("train", "--help")
    assert result.status == 0
    lines = dict(line.split(": ", 1) for line in result.out.splitlines() if ": " in line)
    for group in set(groups()) - {"hydra"}:
        assert lines[group].split(", ") == choices_of(group)
    for command in ("frostline train -m strategy=partial", "frostline train data=files data.train=", "--cfg job"):
        assert command in result.out
    assert "hydra" not in lines
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("train", "plan", "cache", "claims")])
def test_the_help_of_a_command_explains_its_keys(frostline: Frostline, tmp_path: Path, command: str) -> None:
    result = frostline(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"# frostline {command} run=<")
    assert "run: ???" in result.out
    assert not list(tmp_path.iterdir())


def test_the_version_is_the_package_s(frostline: Frostline) -> None:
    result = frostline("--version")
    assert (result.status, result.out, result.err) == (0, f"frostline {package.__version__}\n", "")


@pytest.mark.parametrize("resolve", [[], ["--resolve"]], ids=["as written", "resolved"])
def test_the_composed_configuration_is_shown_and_nothing_is_run(frostline: Frostline, tmp_path: Path, resolve: list[str]) -> None:
    result = frostline("train", "--cfg", "job", *resolve, "strategy=full", "seed=7")
    assert result.status == 0
    tree = yaml.safe_load(result.out)
    assert (tree["seed"], tree["strategy"]["name"]) == (7, "full")
    assert "hydra" not in tree
    assert tree["optimizer"]["lr"] == (1e-4 if resolve else "${strategy.default_lr}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["trian"], ["train", "--help"], ["train", "strategy=parital"], ["train", "--cfg", "job"]],
    ids=" ".join,
)
def test_what_trains_nothing_imports_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    code = (
        "import contextlib, json, os, sys\n"
        "from frostline.__main__ import main\n"
        "with open(os.devnull, 'w') as null, contextlib.redirect_stdout(null), contextlib.suppress(SystemExit):\n"
        f"    main({words!r})\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert not set(HEAVY) & set(json.loads(done.stdout))


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run([Path(sys.executable).parent / "frostline", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"frostline {package.__version__}\n"


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_frostline(frostline: Frostline, shell: str) -> None:
    result = frostline("-sc", f"install={shell}")
    assert result.status == 0
    assert "frostline" in result.out
    assert "pytest" not in result.out


@pytest.fixture
def completed(frostline: Frostline, monkeypatch: pytest.MonkeyPatch):
    """What the shell is offered for a line typed so far."""

    def complete(line: str) -> list[str]:
        env = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_CWORD": str(len(line.split(" ")) - 1)}
        result = frostline("-sc", "query=bash", env=env)
        assert result.status == 0
        assert result.err == ""
        return result.out.split()

    return complete


@pytest.mark.parametrize("line", ["frostline ", "frostline tr", "frostline"])
def test_the_commands_are_completed(completed, line: str) -> None:
    assert set(completed(line)) >= {"train"}
    if line != "frostline tr":
        assert set(completed(line)) == set(COMMANDS)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("frostline train strategy=", ["strategy=frozen", "strategy=full", "strategy=partial"]),
        ("frostline train strategy=p", ["strategy=partial"]),
        ("frostline train strategy=partial strategy.froz", ["strategy.frozen_depth="]),
        ("frostline train seed=1 opti", ["optimizer"]),
        ("frostline evaluate data=twe", ["data=tweets"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_groups_choices_and_keys_are_completed(completed, line: str, offered: list[str]) -> None:
    found = completed(line)
    assert all(any(word.startswith(wanted) for word in found) for wanted in offered), found

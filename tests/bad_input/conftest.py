from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bad_input.refused import FULL, ROWS, TINY, table


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A run that was completed, and never changes."""
    from frostline.commands.launch import compose_alone
    from frostline.commands.train import train
    from frostline.config import validate

    folder = tmp_path_factory.mktemp("finished")
    data = table(folder, "train.csv", ROWS)
    words = [*TINY, *FULL, f"data.train={data}", f"paths.cache_dir={cache_dir}", f"paths.output_dir={folder}"]
    composed = compose_alone("train", words)
    assert composed is not None
    train(validate(composed), folder / "run")
    (folder / "run" / ".hydra").mkdir()
    (folder / "run" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    return folder / "run"


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the completed run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def again(finished: Path) -> list[str]:
    """The completed run's command line."""
    return ["train", *TINY, *FULL, f"data.train={finished.parent / 'train.csv'}"]

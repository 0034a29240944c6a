"""What a refusal looks like: one sentence, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from tests.conftest import Result

TINY = ["model=tiny", "logger=csv", "data=files"]  # with data.train=…
FULL = ["strategy=full", "trainer.max_epochs=1"]
ROWS = [(f"{word} {number}", label) for number in range(20) for word, label in (("lovely", "good"), ("grim", "bad"))]


def assert_refused(result: Result, *words: str, command: str = "train") -> None:
    """One sentence, the last thing on the terminal, with all these words in it."""
    assert result.status != 0
    assert "Traceback" not in result.err
    assert "unexpected error" not in result.err
    sentence = result.err.strip().splitlines()[-1]
    assert sentence.startswith(f"frostline {command}: ")
    for word in words:
        assert word in sentence


def assert_nothing_written(tmp_path: Path) -> None:
    assert not (tmp_path / "outputs").exists()


def assert_nothing_trained(tmp_path: Path) -> None:
    names = {"metrics.json", "predictions.parquet", "trained.safetensors", "last.ckpt", "best.ckpt"}
    assert not [path for path in tmp_path.rglob("*") if path.name in names]


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest_of(run_dir: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text())
    return manifest


def table(folder: Path, name: str, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    path = folder / name
    pd.DataFrame(rows, columns=list(header)).to_csv(path, index=False)
    return path

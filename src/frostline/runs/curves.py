"""``curves.csv``: everything that is logged during training, a row a step."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from frostline.runs.files import replace_atomically
from frostline.runs.reading import damage_told, read_frame


class CurvesLogger(Logger):
    """A Lightning logger that keeps all rows in memory and rewrites ``curves.csv`` whole whenever Lightning saves.

    Args:
        path: of the CSV file; rows that a killed run left there are read back.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        if path.is_file():
            with damage_told(path), path.open(newline="") as file:
                self.rows = {int(row["step"]): {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)}

    @property
    def name(self) -> str:
        """The logger's name."""
        return "curves"

    @property
    def version(self) -> int:
        """A run directory has one curve."""
        return 0

    def rewind(self, step: int) -> None:
        """Drop the rows from ``step`` on: a resumed run writes them again."""
        self.rows = {s: row for s, row in self.rows.items() if s < step}

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: ``config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of a step."""
        self.rows.setdefault(step or 0, {"step": step or 0}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        names = {name for row in self.rows.values() for name in row} - {"step", "epoch"}
        with replace_atomically(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "epoch", *sorted(names)])
            writer.writeheader()
            writer.writerows(self.rows[step] for step in sorted(self.rows))

    def finalize(self, status: str) -> None:
        """Write the file when training ends, however it ends."""
        self.save()


def read_epochs(path: Path) -> pd.DataFrame:
    """Return an epoch a row: ``training_loss``, the mean over its steps (with dropout), and ``validation_loss``.

    Empty where nothing was logged.

    Raises:
        FrostlineError: the file is damaged.
    """
    curves = read_frame(path) if path.is_file() else pd.DataFrame()
    if not {"epoch", "train/loss", "val/loss"} <= set(curves):
        return pd.DataFrame(columns=["training_loss", "validation_loss"])
    with damage_told(path):
        by_epoch = curves.astype(dict.fromkeys(("epoch", "train/loss", "val/loss"), float)).groupby("epoch")
    means = {"training_loss": by_epoch["train/loss"].mean(), "validation_loss": by_epoch["val/loss"].last()}
    return pd.DataFrame(means).dropna()

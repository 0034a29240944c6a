"""What the page's script draws: the logged curves, and sentences in two dimensions before and after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frostline.report.arms import Arm, names
from frostline.report.figures import colours
from frostline.report.table import scientific
from frostline.runs.reading import damage_told, read_frame

MAX_SENTENCES = 500  # a map
MAX_POINTS = 1000  # a curve; longer ones are thinned evenly, which keeps a long sweep's page a few MB
SHOWN_FIRST = ("train/loss", "val/accuracy")
PLACES = ("before_x", "before_y", "after_x", "after_y")


def read_curves(sweep_dir: Path, results: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, Any]:
    """Return the logged curves of all finished runs as plain data for the page.

    Returns:
        ``arms`` (name and colour), ``metrics`` (their names; training loss and validation accuracy first) and ``runs``
        (index of the arm, a label with learning rate and seed, and per metric ``x``, steps, and ``y``, finite values).

    Raises:
        FrostlineError: a ``curves.csv`` is damaged.
    """
    arm_of = {run: i for i, arm in enumerate(arms) for run in arm.tried}
    told = names(arms)
    runs: list[dict[str, Any]] = []
    for row in results[results["run"].isin(list(arm_of))].to_dict("records"):
        points = _points(sweep_dir / row["run"] / "curves.csv")
        if points:
            lr = "" if pd.isna(row["optimizer.lr"]) else f", learning rate {scientific(row['optimizer.lr'])}"
            label = f"{told[arm_of[row['run']]]}{lr}, seed {row['seed']}"
            runs.append({"arm": arm_of[row["run"]], "label": label, "points": points})
    found = {metric for run in runs for metric in run["points"]}
    first = [metric for metric in SHOWN_FIRST if metric in found]
    return {
        "arms": [{"name": name, "colour": colour} for name, colour in zip(told, colours(arms), strict=True)],
        "metrics": [*first, *sorted(found - {*first})],
        "runs": runs,
    }


def read_maps(sweep_dir: Path, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Return the sentences in two dimensions before and after training, of the first measured run of every arm.

    Returns:
        an entry an arm: ``name``, ``classes``, and ``points``, at most :data:`MAX_SENTENCES`, evenly drawn: text, class number
        and the four places.

    Raises:
        FrostlineError: a ``projection.parquet`` is damaged.
    """
    found = []
    for name, arm in zip(names(arms), arms, strict=True):
        paths = [path for run in arm.runs if (path := sweep_dir / run / "measures" / "projection.parquet").is_file()]
        if not paths:
            continue
        table = read_frame(paths[0], ("text", "label", *PLACES))
        with damage_told(paths[0]):
            table = table.iloc[:: math.ceil(len(table) / MAX_SENTENCES)]
            classes = distinct(table["label"])
            places = table[list(PLACES)].astype(float).round(4).to_numpy().tolist()
            numbers = [classes.index(str(label)) for label in table["label"]]
            points = [[str(text)[:200], number, *at] for text, number, at in zip(table["text"], numbers, places, strict=True)]
        found.append({"name": name, "classes": classes, "points": points})
    return found


def distinct(column: pd.Series[Any]) -> list[str]:
    """Return the different values of a column as text, in order."""
    return [str(value) for value in sorted(column.dropna().unique())]


def _points(path: Path) -> dict[str, dict[str, list[float]]]:
    if not path.is_file():
        return {}
    table = read_frame(path, ("step",)).set_index("step")
    points = {}
    for name in table.columns.drop("epoch", errors="ignore"):
        column = pd.to_numeric(table[name], errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
        column = column.iloc[:: math.ceil(len(column) / MAX_POINTS) or 1]
        if len(column):
            points[str(name)] = {"x": column.index.tolist(), "y": column.round(6).tolist()}
    return points

"""``measures/<name>.csv``: the tidy table of one measure, a row a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from frostline.runs.reading import damage_told, read_frame

COLUMNS = ("measure", "layer", "pooling", "statistic", "value", "low", "high", "null", "n")


def read_table(path: Path) -> pd.DataFrame:
    """Read a measure's table back.

    Raises:
        FrostlineError: the file is damaged.
    """
    table = read_frame(path)
    with damage_told(path):
        if list(table.columns) != list(COLUMNS):
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        texts, numbers = ("measure", "statistic"), ("value", "low", "high", "null")
        return table.astype({**dict.fromkeys(texts, str), **dict.fromkeys(numbers, float), "layer": "Int64", "n": "Int64"})


def summary(run_dir: Path) -> dict[str, Any]:
    """Return what measures say of a run's encoder as a whole, by ``<measure>/<statistic>``: the rows without a layer.

    Where a row's pooling tells it from others, it is part of the name. Statistics of other tasks than the run's own, which
    have the task's name in front, are left out.

    Raises:
        FrostlineError: a table is damaged.
    """
    found: dict[str, Any] = {}
    for path in sorted((run_dir / "measures").glob("*.csv")):
        table = read_table(path)
        rows = table[table["layer"].isna() & ~table["statistic"].str.contains(".", regex=False)]
        several = rows["statistic"].duplicated(keep=False)
        names = rows["measure"] + "/" + rows["statistic"] + ("." + rows["pooling"].astype(object).fillna("")).where(several, "")
        found |= dict(zip(names, rows["value"], strict=True))
        if len(best := rows[rows["statistic"] == "best_layer"]):
            found["layers/best_pooling"] = best["pooling"].iloc[0]
    return found

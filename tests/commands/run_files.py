"""Read back what a run wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

MEASURED = {"fit_seconds", "examples_per_second", "peak_memory_mb"}


def metrics(run_dir: Path) -> dict[str, Any]:
    """What a run computed, without what it measured of the machine."""
    content = json.loads((run_dir / "metrics.json").read_text())
    return {k: v for k, v in content.items() if k not in MEASURED}


def manifest(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "manifest.json").read_text())


def curves(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / "curves.csv")


def predictions(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "predictions.parquet")

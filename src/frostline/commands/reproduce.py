"""``frostline reproduce``: run a snapshot again and compare every number."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
from rich.console import Console

from frostline.commands.train import train
from frostline.errors import FrostlineError
from frostline.runs.manifest import differences
from frostline.runs.reading import read_manifest, read_metrics, read_predictions
from frostline.runs.snapshot import read_snapshot
from frostline.schema import PathsConfig
from frostline.terminal import visible

MEASURED = ("fit_seconds", "examples_per_second", "peak_memory_mb")  # of the machine at that time, not of the run


def reproduce(run_dir: Path, paths: PathsConfig) -> int:
    """Run a finished run's snapshot in a new directory and compare.

    Args:
        run_dir: a finished run.
        paths: where the new run and the caches are on this machine.

    Returns:
        0 if every metric and every prediction agrees to the last bit, else 1.

    Raises:
        FrostlineError: no such run, one that did not finish, or one that was resumed from a foreign checkpoint.
    """
    console = Console(soft_wrap=True, highlight=False)
    config = read_snapshot(run_dir)
    before = read_manifest(run_dir)
    if before.get("status") != "finished":
        raise FrostlineError(
            f"'{run_dir}' is not a finished run (status: {before.get('status', 'none')}); there is nothing to compare with."
        )
    old = results_of(run_dir)
    config.paths = paths
    new_dir = Path(paths.output_dir) / "runs" / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    if not train(config, new_dir):
        return 0  # a child process of a distributed run

    new = results_of(new_dir)
    found = compare_metrics(old[0], new[0]) + compare_predictions(old[1], new[1])
    console.print(f"Again:  {new_dir}", markup=False)
    if not found:
        console.print(f"Reproduced: every metric and every prediction of {run_dir} agrees to the last bit.", markup=False)
        return 0
    console.print(f"Not reproduced: {len(found)} differences from {run_dir}:", markup=False)
    for line in found:
        console.print(visible(f"  {line}"), markup=False)
    reasons = differences(before, read_manifest(new_dir))
    console.print("What differs between the two runs and may explain it:" if reasons else "The two manifests show no reason.")
    for line in reasons:
        console.print(visible(f"  {line}"), markup=False)
    return 1


def results_of(run_dir: Path) -> tuple[dict[str, float], pd.DataFrame]:
    """Return a run's final metrics and its predictions.

    Raises:
        FrostlineError: a file that is missing or damaged.
    """
    metrics = read_metrics(run_dir)
    if not metrics:
        raise FrostlineError(f"'{run_dir / 'metrics.json'}' is missing or empty; there is nothing to compare with.")
    return metrics, read_predictions(run_dir / "predictions.parquet")


def compare_metrics(old: dict[str, float], new: dict[str, float]) -> list[str]:
    """Return, as sentences, which final metrics differ; timings and memory are measurements and are left out."""
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in MEASURED]
    return [f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys if old.get(key) != new.get(key)]


def compare_predictions(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """Return, as sentences, in which columns of ``predictions.parquet`` how many rows differ, and by how much at most."""
    if not set(old.columns) <= set(new.columns) or len(old) != len(new):  # a later version may add columns
        return [f"predictions.parquet: {len(old)} rows of {list(old.columns)} then, {len(new)} of {list(new.columns)} now"]
    found = []
    for column in old.columns:
        changed = (old[column] != new[column]) & ~(old[column].isna() & new[column].isna())
        if changed.any():
            largest = (old[column] - new[column]).abs().max() if column.startswith("logit_") else None
            by = f", by {largest:.3g} at most" if largest is not None else ""
            found.append(f"predictions.parquet: {column} differs in {int(changed.sum())} of {len(old)} rows{by}")
    return found

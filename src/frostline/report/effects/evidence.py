"""What effects are computed from: the arms of a sweep, their test scores and what was measured of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, ratio_of_differences, t_interval
from frostline.report.arms import Arm
from frostline.runs.measured import read_table
from frostline.runs.reading import read_frame
from frostline.runs.sweep import read_config, value_of


@dataclass(frozen=True)
class Effect:
    """An observed effect.

    Attributes:
        interval: its mean and 95 % interval.
        seeds: how many runs of each arm it rests on.
        detail: what it was computed from, in words.
    """

    interval: Interval
    seeds: int
    detail: str


def arm_of(arms: Sequence[Arm], strategy: str) -> Arm:
    """The arm of a strategy; of several, the one that is best on validation."""
    found = [arm for arm in arms if arm.strategy == strategy]
    if not found:
        raise FrostlineError(f"No run with strategy={strategy} has finished.")
    return max(found, key=lambda arm: (arm.val_accuracy, -arm.val_loss))


def scores(*arms: Arm) -> list[Any]:
    """Right or wrong per seed and test sentence, for the seeds that all arms have."""
    tables = [arm.correct for arm in arms]
    if any(table is None or not table.index.equals(tables[0].index) for table in tables):  # type: ignore[union-attr]
        raise FrostlineError("The arms were not all scored on the same test sentences.")
    seeds = [seed for seed in arms[0].seeds if all(seed in arm.seeds for arm in arms)]
    if not seeds:
        raise FrostlineError("The arms share no seed.")
    return [table[seeds].to_numpy().T for table in tables if table is not None]


def share_of_gain(part: Any, whole: Any, part_from: Any, whole_from: Any, otherwise: str) -> Interval:
    """Return which share of a gain a part reaches, or say in ``otherwise`` why there is none.

    Raises:
        FrostlineError: there is no gain.
    """
    try:
        return ratio_of_differences(part, whole, part_from, whole_from)
    except ValueError:
        raise FrostlineError(f"There is no gain to share: {otherwise}.") from None


def majority_of(run_dir: Path) -> float:
    """Return the share of the most frequent class among a run's test sentences."""
    table = read_frame(run_dir / "predictions.parquet", columns=["split", "label"])
    return float(table[table["split"] == "test"]["label"].value_counts(normalize=True).max())


def tables_of(sweep_dir: Path, arm: Arm, measure: str) -> list[pd.DataFrame]:
    """Return a measure's tables of an arm's runs.

    Raises:
        FrostlineError: one is missing, or there is only one.
    """
    paths = [sweep_dir / run / "measures" / f"{measure}.csv" for run in arm.runs]
    if missing := [path for path in paths if not path.is_file()]:
        raise FrostlineError(f"'{missing[0]}' is missing; frostline measure run='{sweep_dir}' measure={measure} makes it.")
    tables = [read_table(path) for path in paths]
    if len(tables) < 2:
        raise FrostlineError("One seed has no interval; at least two are needed.")
    return tables


def percent_of(correct: Any) -> str:
    """Return the share of right answers in words."""
    return f"{100 * correct.mean():.1f} %"


def runs_with(arms: Sequence[Arm], sweep_dir: Path, **settings: Any) -> dict[int, str]:
    """Return, by seed, the run of the arms whose configuration has all the settings (``__`` for a dot).

    Raises:
        FrostlineError: none has.
    """
    found: dict[int, str] = {}
    for run in (run for arm in arms for run in arm.tried):
        config = read_config(sweep_dir / run)
        if all(value_of(config, key.replace("__", ".")) == value for key, value in settings.items()):
            found[int(value_of(config, "seed"))] = run
    if not found:
        words = " ".join(f"{key.replace('__', '.')}={value}" for key, value in settings.items())
        raise FrostlineError(f"No run with {words} has finished.")
    return found


def statistic(sweep_dir: Path, runs: dict[int, str], measure: str, name: str, seeds: Sequence[int]) -> Any:
    """Return a statistic of whole encoders, a value a seed.

    Raises:
        FrostlineError: it was not measured, or there is one seed only.
    """
    values = []
    for seed in seeds:
        path = sweep_dir / runs[seed] / "measures" / f"{measure}.csv"
        if not path.is_file():
            raise FrostlineError(f"'{path}' is missing; frostline measure run='{sweep_dir}' measure={measure} makes it.")
        table = read_table(path)
        rows = table[(table["statistic"] == name) & table["layer"].isna()]["value"].dropna()
        if rows.empty:
            raise FrostlineError(f"'{path}' has no {name}.")
        values.append(float(rows.iloc[0]))
    if len(values) < 2:
        raise FrostlineError("One seed has no interval; at least two are needed.")
    return np.array(values)


def difference(
    sweep_dir: Path, arms: Sequence[Arm], measure: str, name: str, a: Mapping[str, Any], b: Mapping[str, Any], words: str
) -> Effect:
    """Return a statistic of runs with the settings ``a`` minus that of runs with ``b`` (``__`` for a dot), paired by seed."""
    runs = [runs_with(arms, sweep_dir, **settings) for settings in (a, b)]
    seeds = shared_seeds(runs)
    first, second = (statistic(sweep_dir, of, measure, name, seeds) for of in runs)
    told = [f"{words} {values.mean():.3f} with {next(iter(s.values()))}" for s, values in ((a, first), (b, second))]
    return Effect(t_interval(first - second), len(seeds), ", ".join(told))


def ends(arms: Sequence[Arm], sweep_dir: Path, key: str) -> tuple[Any, Any]:
    """Return the least and the greatest value of a key.

    Raises:
        FrostlineError: there are not two.
    """
    values = sorted({v for arm in arms for run in arm.tried if (v := value_of(read_config(sweep_dir / run), key)) is not None})
    if len(values) < 2:
        raise FrostlineError(f"Runs with two values of {key} are needed.")
    return values[0], values[-1]


def shared_seeds(runs: Sequence[dict[int, str]]) -> list[int]:
    """Return the seeds that all have.

    Raises:
        FrostlineError: there is none.
    """
    seeds = sorted(set.intersection(*(set(of) for of in runs)))
    if not seeds:
        raise FrostlineError("The arms share no seed.")
    return seeds

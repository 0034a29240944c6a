"""The effects on which claims are decided: one number with its interval, from the finished runs of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, paired_difference, ratio_of_differences, t_interval
from frostline.report.arms import Arm
from frostline.report.measures import PARTS, centres, curve, pooling_of, probe_correct
from frostline.runs.measured import read_table


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


def probe_share_of_gain(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return which share of full fine-tuning's gain over the majority class the converged probe reaches."""
    probe, full = _arm(arms, "frozen"), _arm(arms, "full")
    of_probe, of_full = _scores(probe, full)
    majority = _majority(sweep_dir / full.runs[0])
    share = _share(of_probe, of_full, majority, majority, "full fine-tuning does not beat the majority class")
    detail = f"probe {_percent(of_probe)}, full {_percent(of_full)}, majority {100 * majority:.1f} %"
    return Effect(share, len(of_full), detail)


def upper_share_of_gain(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return which share of full fine-tuning's gain over the probe tuning only the upper blocks reaches: r(k)."""
    probe, partial, full = (_arm(arms, name) for name in ("frozen", "partial", "full"))
    of_probe, of_partial, of_full = _scores(probe, partial, full)
    share = _share(of_partial, of_full, of_probe, of_probe, "full fine-tuning does not beat the probe")
    frozen = f"{partial.depth} of {partial.blocks} frozen"
    detail = f"probe {_percent(of_probe)}, {frozen} {_percent(of_partial)}, full {_percent(of_full)}"
    return Effect(share, len(of_full), detail)


def change_of_the_space(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return 1 - debiased CKA of the last layer between the pretrained and the fully fine-tuned encoder."""
    full = _arm(arms, "full")
    tables, pooling = _tables(sweep_dir, full, "geometry"), pooling_of(sweep_dir / full.runs[0])
    changes = np.array([1 - curve([table], "cka_debiased", pooling)["value"].iloc[-1] for table in tables])
    parts = {part: curve(tables, f"procrustes_{part}", pooling)["value"].iloc[-1] for part in PARTS}
    moved = ", ".join(f"{part} {100 * share / sum(parts.values()):.0f} %" for part, share in parts.items())
    return Effect(t_interval(changes), len(changes), f"of the distance that sentences moved: {moved}")


def top_over_bottom_change(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much more the upper half of the blocks changed than the lower half (1 - debiased CKA, means over layers)."""
    full = _arm(arms, "full")
    pooling, halves = pooling_of(sweep_dir / full.runs[0]), []
    for table in _tables(sweep_dir, full, "geometry"):
        change = 1 - curve([table], "cka_debiased", pooling)["value"].iloc[1:]
        half = len(change) // 2
        halves.append((change.iloc[-half:].mean(), change.iloc[:half].mean()))
    top, bottom = np.array(halves).T
    return Effect(t_interval(top - bottom), len(top), f"upper half {top.mean():.3f}, lower half {bottom.mean():.3f}")


def mean_over_cls(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much a probe on the last layer's mean beats one on its first token, of the encoder as pretrained."""
    probe = _arm(arms, "frozen")
    runs = [sweep_dir / run for run in probe.runs]
    mean, first = (probe_correct(runs, probe.blocks, pooling) for pooling in ("mean", "cls"))
    if mean is None or first is None:
        raise FrostlineError("The probes' test predictions under mean and cls pooling are missing (measure=layers writes them).")
    detail = f"mean {_percent(mean)}, cls {_percent(first)}"
    for arm in arms:
        if arm.strategy == "full":
            tuned = [probe_correct([sweep_dir / run for run in arm.runs], arm.blocks, pooling) for pooling in ("mean", "cls")]
            if tuned[0] is not None and tuned[1] is not None:
                detail += f"; after full fine-tuning mean {_percent(tuned[0])}, cls {_percent(tuned[1])}"
    return Effect(paired_difference(mean, first), len(mean), detail)


def depth_of_meaning_over_form(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how many layers the tasks of meaning are centred above those of form (expected layer of the scalar mix)."""
    levels = [centres(table) for table in _tables(sweep_dir, _arm(arms, "frozen"), "layers")]
    if not all({"surface", "meaning"} <= found.keys() for found in levels):
        raise FrostlineError("Tasks of form and of meaning must both be measured (measure.layers.tasks).")
    gaps = np.array([found["meaning"] - found["surface"] for found in levels])
    surface, meaning = (float(np.mean([found[level] for found in levels])) for level in ("surface", "meaning"))
    return Effect(t_interval(gaps), len(gaps), f"meaning centred on layer {meaning:.2f}, form on layer {surface:.2f}")


EFFECTS: dict[str, Callable[[Sequence[Arm], Path], Effect]] = {
    function.__name__: function
    for function in (
        depth_of_meaning_over_form,
        probe_share_of_gain,
        upper_share_of_gain,
        change_of_the_space,
        top_over_bottom_change,
        mean_over_cls,
    )
}


# --- internals ------------------------------------------------------------------------------------------------------------


def _arm(arms: Sequence[Arm], strategy: str) -> Arm:
    """The arm of a strategy; of several, the one that is best on validation."""
    found = [arm for arm in arms if arm.strategy == strategy]
    if not found:
        raise FrostlineError(f"No run with strategy={strategy} has finished.")
    return max(found, key=lambda arm: (arm.val_accuracy, -arm.val_loss))


def _scores(*arms: Arm) -> list[Any]:
    """Right or wrong per seed and test sentence, for the seeds that all arms have."""
    tables = [arm.correct for arm in arms]
    if any(table is None or not table.index.equals(tables[0].index) for table in tables):  # type: ignore[union-attr]
        raise FrostlineError("The arms were not all scored on the same test sentences.")
    seeds = [seed for seed in arms[0].seeds if all(seed in arm.seeds for arm in arms)]
    if not seeds:
        raise FrostlineError("The arms share no seed.")
    return [table[seeds].to_numpy().T for table in tables if table is not None]


def _share(part: Any, whole: Any, part_from: Any, whole_from: Any, otherwise: str) -> Interval:
    try:
        return ratio_of_differences(part, whole, part_from, whole_from)
    except ValueError:
        raise FrostlineError(f"There is no gain to share: {otherwise}.") from None


def _majority(run_dir: Path) -> float:
    table = pd.read_parquet(run_dir / "predictions.parquet", columns=["split", "label"])
    return float(table[table["split"] == "test"]["label"].value_counts(normalize=True).max())


def _tables(sweep_dir: Path, arm: Arm, measure: str) -> list[pd.DataFrame]:
    paths = [sweep_dir / run / "measures" / f"{measure}.csv" for run in arm.runs]
    if missing := [path for path in paths if not path.is_file()]:
        raise FrostlineError(f"'{missing[0]}' is missing; frostline measure run='{sweep_dir}' measure={measure} makes it.")
    tables = [read_table(path) for path in paths]
    if len(tables) < 2:
        raise FrostlineError("One seed has no interval; at least two are needed.")
    return tables


def _percent(correct: Any) -> str:
    return f"{100 * correct.mean():.1f} %"

"""From how many sentences on does thawing pay? Learning curves over ``data.train_size``, and how much seeds vary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from frostline.errors import FrostlineError
from frostline.measures.statistics import resampled_means
from frostline.report.arms import Arm, names
from frostline.report.effects.evidence import majority_of
from frostline.report.figures import ICE_TO_FIRE, inked, plain
from frostline.runs.reading import read_manifest

FAILED = 0.03  # above the majority class's accuracy: a run that reaches less has learned nothing (methods notes, 3)


def spread(sweep_dir: Path, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return how much an arm's seeds vary on test: ``arm, seeds, mean, sd, min`` (0 … 1) and how many ``failed``."""
    rows = []
    for name, arm in zip(names(arms), arms, strict=True):
        if arm.correct is None:
            continue
        accuracy = arm.correct.mean().to_numpy(dtype=float)
        floor = majority_of(sweep_dir / arm.runs[0]) + FAILED
        sd = float(accuracy.std(ddof=1)) if len(accuracy) > 1 else float("nan")
        rows.append((name, len(accuracy), accuracy.mean(), sd, accuracy.min(), int((accuracy <= floor).sum())))
    return pd.DataFrame(rows, columns=["arm", "seeds", "mean", "sd", "min", "failed"])


def learning_curves(sweep_dir: Path, arms: Sequence[Arm]) -> dict[str, dict[int, Arm]]:
    """Return, for every strategy (and depth) that was trained on several sizes, its arm by number of training sentences.

    Of several arms of one strategy and size the one that is best on validation counts.
    """
    found: dict[str, dict[int, Arm]] = {}
    for arm in arms:
        size = (read_manifest(sweep_dir / arm.runs[0]).get("sentences") or {}).get("train")
        if size is None:
            continue
        of_strategy = found.setdefault(arm.short if arm.layer is None else arm.strategy, {})
        if size not in of_strategy or arm.val_accuracy > of_strategy[size].val_accuracy:
            of_strategy[size] = arm
    return {name: dict(sorted(sizes.items())) for name, sizes in found.items() if len(sizes) > 1}


def crossing_point(sizes: Sequence[int], differences: NDArray[np.float64]) -> float:
    """Return the number of sentences from which on a difference stays at 0 or above, interpolated in the logarithm.

    Args:
        sizes: ascending.
        differences: thawed minus frozen at each size.

    Returns:
        the first size if it never was below; infinity if it still is at the last.
    """
    below = np.flatnonzero(differences < 0)
    if not len(below):
        return float(sizes[0])
    last = int(below[-1])
    if last == len(sizes) - 1:
        return math.inf
    low, high = differences[last], differences[last + 1]
    return float(np.exp(np.interp(0, [low, high], np.log(sizes[last : last + 2]))))


def crossing(frozen: dict[int, Arm], thawed: dict[int, Arm]) -> tuple[float, float, float]:
    """Return the crossing point of two learning curves and its 95 % bootstrap interval over seeds and test sentences.

    Raises:
        FrostlineError: the curves share fewer than two sizes, no seed or no test sentences.
    """
    sizes = sorted(frozen.keys() & thawed.keys())
    pairs = [(frozen[size], thawed[size]) for size in sizes]
    tables = [arm.correct for pair in pairs for arm in pair]
    if len(sizes) < 2 or any(t is None or not t.index.equals(tables[0].index) for t in tables):  # type: ignore[union-attr]
        raise FrostlineError("Learning curves cross where two arms were scored on the same sentences at two sizes or more.")
    seeds = sorted(set.intersection(*(set(arm.seeds) for pair in pairs for arm in pair)))
    if not seeds:
        raise FrostlineError("The learning curves share no seed.")
    scored = [table[seeds].to_numpy(dtype=float).T for table in tables if table is not None]
    gains = np.stack(scored[1::2]) - np.stack(scored[::2])  # [sizes, seeds, sentences]
    draws = np.array([crossing_point(sizes, draw) for draw in resampled_means(gains, resamples=2000)])
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    return crossing_point(sizes, gains.mean(axis=(1, 2))), float(low), float(high)


def crossing_in_words(curves: dict[str, dict[int, Arm]]) -> list[str]:
    """Return, for every thawed strategy with a learning curve, from how many sentences on it beats the probe."""
    if "frozen" not in curves:
        return []
    words = []
    for name, thawed in curves.items():
        if name == "frozen":
            continue
        try:
            at, low, high = crossing(curves["frozen"], thawed)
        except FrostlineError:
            continue
        sizes = sorted(curves["frozen"].keys() & thawed.keys())
        interval = f"95 % interval {_sentences(low, sizes)} to {_sentences(high, sizes)}"
        words.append(f"{name} beats the probe from {_sentences(at, sizes)} sentences on ({interval}).")
    return words


def learning_figure(curves: dict[str, dict[int, Arm]]) -> Figure:
    """Draw test accuracy by training sentences, a line a strategy with its 95 % interval."""
    with inked():
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, (name, arms) in enumerate(curves.items()):
            colour = ICE_TO_FIRE(i / max(1, len(curves) - 1))
            tested = {size: arm.test for size, arm in arms.items() if arm.test is not None}
            axes.plot(list(tested), [100 * t.mean for t in tested.values()], "o-", color=colour, markersize=4, label=name)
            low, high = ([100 * t[end] for t in tested.values()] for end in (1, 2))
            axes.fill_between(list(tested), low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        sizes = sorted({size for arms in curves.values() for size in arms})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training sentences")
        axes.set_ylabel("test accuracy, %")
        axes.legend(frameon=False, fontsize=9)
        plain(axes)
    return figure


def _sentences(at: float, sizes: Sequence[int]) -> str:
    if math.isinf(at):
        return f"more than {sizes[-1]:,}"
    return f"{sizes[0]:,} or fewer" if at <= sizes[0] else f"{at:,.0f}"

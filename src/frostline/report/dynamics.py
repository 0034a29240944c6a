"""Which training sentences are easy, ambiguous or hard: the map of their training dynamics (Swayamdipta et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from frostline.measures.statistics import Interval
from frostline.report.arms import Arm, names
from frostline.report.figures import FAINT, ICE_TO_FIRE, INK, inked, plain
from frostline.runs.reading import damage_told, read_frame, read_manifest

STATISTICS = ["confidence", "variability", "correctness"]
PANELS_A_ROW = 3
RESAMPLES = 1000
FEW = 10  # sentences: a rank correlation of fewer says nothing
REGIONS = {(0.02, 0.97): "easy", (0.46, 0.5): "ambiguous", (0.02, 0.03): "hard"}  # place in the map, in its own units


def dynamics_table(sweep_dir: Path, arms: Sequence[Arm]) -> pd.DataFrame | None:
    """Return the training dynamics of every arm that followed them, probable label errors first.

    A sentence's statistics are means over the seeds that trained on it with the same label; as smaller training sets and wrong
    labels are drawn with the seed, these need not be all.

    Args:
        sweep_dir: a sweep's directory, or that of a single run.
        arms: as :func:`frostline.report.arms.summarise` returns them.

    Returns:
        ``arm, text, [text_pair], label`` (the class's name), ``confidence, variability, correctness``, ``seeds`` (how many), and
        where the data have them ``rating``, ``rating_sd`` and ``flipped``; arms in their order, the least confident sentence of
        each first, of equals the least variable. None if no run of the arms has a ``dynamics.parquet``.

    Raises:
        FrostlineError: a file is damaged.
    """
    tables = []
    for name, arm in zip(names(arms), arms, strict=True):
        runs = [found.assign(run=run) for run in arm.runs if (found := _read(sweep_dir / run)) is not None]
        if runs:
            table = _over_seeds(pd.concat(runs, ignore_index=True))
            table.insert(0, "arm", name)
            tables.append(table.sort_values(["confidence", "variability"], kind="stable"))
    return pd.concat(tables, ignore_index=True) if tables else None


def dynamics_figure(table: pd.DataFrame) -> Figure:
    """Draw the map, a panel an arm: variability by confidence, a dot a sentence, coloured by correctness.

    Args:
        table: of :func:`dynamics_table`.
    """
    arms = list(dict.fromkeys(table["arm"]))
    columns = min(PANELS_A_ROW, len(arms))
    rows = -(-len(arms) // columns)
    shades = ScalarMappable(Normalize(0, 1), ICE_TO_FIRE.reversed())  # right is cold, wrong is hot
    with inked():
        figure = Figure(figsize=(max(4.6, 3.2 * columns + 0.8), 3.4 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
        for axes, name in zip(panels, arms, strict=False):
            of_arm = table[table["arm"] == name]
            # A picture within the drawing: thousands of dots would make the page slow.
            axes.scatter(
                of_arm["variability"],
                of_arm["confidence"],
                c=shades.to_rgba(of_arm["correctness"].to_numpy(dtype=float)),
                s=9,
                alpha=0.7,
                linewidths=0,
                rasterized=True,
            )
            axes.set_title(name, loc="left", fontsize=10, color=INK)
            for (x, y), words in REGIONS.items():
                side = "left" if x < 0.25 else "right"
                axes.text(x, y, words, ha=side, va="center", fontsize=9, color=INK, fontstyle="italic")
            axes.set(xlim=(-0.01, 0.5), ylim=(-0.02, 1.02), xlabel="variability")
            plain(axes)
        for axes in list(figure.axes)[len(arms) :]:
            axes.set_visible(False)
        for first in list(figure.axes)[: rows * columns : columns]:
            first.set_ylabel("confidence")
        bar = figure.colorbar(shades, ax=list(figure.axes), label="correctness", shrink=0.8)
        bar.outline.set_edgecolor(FAINT)  # type: ignore[operator]
        bar.ax.tick_params(length=0)
    return figure


def raters_in_words(table: pd.DataFrame) -> list[str]:
    """Return, a sentence an arm, whether the run is unsure of the sentences that people disagree on or rate as weak.

    The rank correlation (Spearman) of ``-confidence`` with the spread of the judges' ratings and with the strength of their mean
    has a percentile bootstrap interval over sentences; every resample is ranked anew. Sentences whose label was made wrong on
    purpose are left out.

    Args:
        table: of :func:`dynamics_table`; without ratings nothing is said.
    """
    if not {"rating", "rating_sd"} <= set(table):
        return []
    words = []
    for name, of_arm in table.groupby("arm", sort=False):
        rated = of_arm[of_arm["rating"].notna() & of_arm["rating_sd"].notna()]
        if "flipped" in rated:
            rated = rated[~rated["flipped"].astype(bool)]
        if len(rated) < FEW:
            continue
        doubt = -rated["confidence"].to_numpy(dtype=float)
        spread = rank_correlation(doubt, rated["rating_sd"].to_numpy(dtype=float))
        strength = rank_correlation(doubt, rated["rating"].abs().to_numpy(dtype=float))
        words.append(
            f"{name}: how unsure the run is of a label {_goes(spread)} how much the judges disagree ({_interval(spread)}), and "
            f"{_goes(strength)} how strong their mean rating is ({_interval(strength)}); {len(rated):,} sentences."
        )
    return words


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> Interval:
    """Return Spearman's rank correlation of paired values, ``[sentences]`` each, with its 95 % bootstrap interval.

    Args:
        a: one value a sentence.
        b: another one.
        seed: of the resampling.

    Returns:
        The correlation, lower and upper bound; NaN where either is constant.
    """
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    draws = []
    chunk = max(1, 2_000_000 // len(a))
    for start in range(0, RESAMPLES, chunk):
        rows = random.integers(len(a), size=(min(chunk, RESAMPLES - start), len(a)))
        draws.append(_correlation(stats.rankdata(a[rows], axis=1), stats.rankdata(b[rows], axis=1)))
    low, high = np.nanquantile(np.concatenate(draws), [0.025, 0.975])
    (whole,) = _correlation(stats.rankdata(a)[None], stats.rankdata(b)[None])
    return Interval(float(whole), float(low), float(high))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's correlation of the rows of two tables, ``[rows]``."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return result


def _read(run_dir: Path) -> pd.DataFrame | None:
    path = run_dir / "dynamics.parquet"
    if not path.is_file():
        return None
    table = read_frame(path, ("text", "label", *STATISTICS))
    class_names = read_manifest(run_dir).get("class_names")
    with damage_told(path):
        table = table.astype(dict.fromkeys(STATISTICS, float))
        return table if class_names is None else table.assign(label=[class_names[label] for label in table["label"]])


def _over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    keys = [key for key in ("text", "text_pair", "label") if key in runs]
    same = [name for name in ("rating", "rating_sd", "flipped") if name in runs]
    groups = runs.groupby(keys, sort=False, dropna=False)
    seeds = groups["run"].nunique().rename("seeds")
    return pd.concat([groups[STATISTICS].mean(), seeds, groups[same].first()], axis=1).reset_index()


def _goes(found: Interval) -> str:
    if not found.excludes_zero():
        return "does not visibly go with"
    return "goes with" if found.mean > 0 else "goes against"


def _interval(found: Interval) -> str:
    return f"Spearman {found.mean:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}"

"""What a sweep tried, as pictures: validation accuracy by learning rate and frozen depth, and every run as one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.report.arms import Arm, distinctions, names
from frostline.report.figures import colours, inked
from frostline.report.table import scientific

ENDS = {"val/accuracy": "validation accuracy", "test/accuracy": "test accuracy", "fit_seconds": "time, s"}


def heat_map(results: pd.DataFrame, arms: Sequence[Arm]) -> Figure | None:
    """Draw the mean validation accuracy (%) of every arm, a row each from frozen to full, by learning rate, a column each.

    Args:
        results: a row a job (:func:`frostline.runs.sweep.collect`).
        arms: the sweep's.

    Returns:
        None if no arm was tried with several learning rates.
    """
    told = {name: arm for name, arm in zip(names(arms), arms, strict=True) if len(arm.lrs_tried) > 1}
    if not told:
        return None
    rates = sorted({rate for arm in told.values() for rate in arm.lrs_tried})
    by_run = results.set_index("run")
    values = np.full((len(told), len(rates)), np.nan)
    for row, arm in enumerate(told.values()):
        tried = by_run.loc[list(arm.tried)].groupby("optimizer.lr")["val/accuracy"].mean()
        values[row] = [100 * tried.get(rate, np.nan) for rate in rates]
    with inked():
        figure = Figure(figsize=(2.6 + 0.9 * len(rates), 1.1 + 0.42 * len(told)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.imshow(values, cmap="YlGnBu_r", aspect="auto", alpha=0.85)
        low, high = np.nanmin(values), np.nanmax(values)
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                chosen = rates[column] == list(told.values())[row].lr
                dark = value < low + 0.5 * (high - low)
                style: dict[str, Any] = {"color": "#ffffff" if dark else "#111111", "weight": "bold" if chosen else "normal"}
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9, **style)
        axes.set_xticks(range(len(rates)), [scientific(rate) for rate in rates])
        axes.set_yticks(range(len(told)), list(told))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("learning rate")
    return figure


def parallel(results: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Return every finished run as a line over what was varied and what came of it, for the page's script.

    Returns:
        ``axes``: title and ticks (place 0 … 1, text) of each; ``lines``: places, the words of each, arm's number and colour. None
        for fewer than two runs.
    """
    arm_of = {run: i for i, arm in enumerate(arms) for run in arm.tried}
    runs = results[results["run"].isin(list(arm_of))]
    varied = ["strategy", "strategy.frozen_depth", "optimizer.lr", *distinctions(arms), "seed"]
    varied = [key for key in dict.fromkeys(varied) if key in runs and runs[key].nunique(dropna=False) > 1]
    varied += [key for key in ENDS if key in runs and runs[key].notna().any()]
    if len(runs) < 2 or len(varied) < 2:
        return None
    axes, places, words = zip(*(_axis(key, runs[key]) for key in varied), strict=True)
    tints = colours(arms)
    lines = [
        {"y": list(y), "words": list(told), "arm": arm_of[run], "colour": tints[arm_of[run]]}
        for run, y, told in zip(runs["run"], zip(*places, strict=True), zip(*words, strict=True), strict=True)
    ]
    return {"axes": list(axes), "lines": lines}


def _axis(key: str, column: pd.Series[Any]) -> tuple[dict[str, Any], list[float | None], list[str]]:
    """An axis, the places of its values, 0 … 1, and their words."""
    title = ENDS.get(key, key.split(".")[-1].replace("_", " "))
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().sum() < column.notna().sum() or key not in ENDS:  # few values: spaced evenly
        order = sorted(column.dropna().unique(), key=lambda value: (isinstance(value, str), value))
        at = {value: i / max(1, len(order) - 1) for i, value in enumerate(order)}
        told = {value: _in_words(key, value) for value in at}
        ticks = [(at[value], told[value]) for value in order]
        return {"title": title, "ticks": ticks}, [at.get(v) for v in column], [told.get(v, "–") for v in column]
    low, high = float(numbers.min()), float(numbers.max())
    spread = high - low or 1.0

    def unit(value: float) -> str:
        return f"{value:.1f}" if key == "fit_seconds" else f"{100 * value:.1f} %"

    ticks = [(0.0, unit(low)), (1.0, unit(high))] if high > low else [(0.0, unit(low))]
    places = [None if np.isnan(v) else round((v - low) / spread, 4) for v in numbers]
    return {"title": title, "ticks": ticks}, places, ["–" if np.isnan(v) else unit(v) for v in numbers]


def _in_words(key: str, value: Any) -> str:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return scientific(float(value)) if key == "optimizer.lr" else f"{value:g}"
    return str(value)

"""Where in the test set the arms differ: accuracy by declared slice, and slices that were found."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.measures.found_slices import found_slices, slice_features
from frostline.measures.slices import slice_scores
from frostline.report.figures import FAINT, ICE_TO_FIRE, inked, plain
from frostline.report.scored import Scored

ALL = "all sentences"


def slices_of(scored: dict[str, Scored], slices: pd.DataFrame, best: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how the arms fare on declared slices, and slices that were found in the errors of the best arm.

    Args:
        scored: test predictions by the arm's name, of the same sentences.
        slices: bool, a column a slice, rows as the sentences.
        best: the arm whose errors (of most of its seeds) are searched.

    Returns:
        ``arm`` and the columns of :func:`frostline.measures.slices.slice_scores`, intervals as ``…_low`` and ``…_high``,
        for every arm also the slice ``all sentences``; and the table of :func:`frostline.measures.found_slices.found_slices`.
    """
    tables = []
    for name, of in scored.items():
        whole = {"slice": ALL, "n": of.correct.shape[1], "accuracy": of.correct.mean()}
        table = pd.concat([pd.DataFrame([whole]), slice_scores(of.correct, slices)], ignore_index=True)
        tables.append(table.assign(arm=name).rename(columns={"low": "accuracy_low", "high": "accuracy_high"}))
    of_best = scored[best]
    confidence = of_best.probabilities.mean(axis=0).max(axis=1)
    found = found_slices(slice_features(of_best.sentences, confidence), of_best.correct.mean(axis=0) <= 0.5)
    together = pd.concat(tables, ignore_index=True) if slices.shape[1] else pd.DataFrame()
    return together, found.rename(columns={"low": "error_rate_low", "high": "error_rate_high"})


def slices_figure(table: pd.DataFrame) -> Figure | None:
    """Draw the accuracy of each arm within each declared slice, with 95 % intervals.

    Args:
        table: as :func:`slices_of` returns it.

    Returns:
        None if no slice has enough sentences.
    """
    table = table[table["accuracy"].notna()]
    slices = [name for name in dict.fromkeys(table["slice"]) if name != ALL]
    if not slices:
        return None
    arms = list(dict.fromkeys(table["arm"]))
    with inked():
        figure = Figure(figsize=(6.4, 1.0 + (0.2 + 0.12 * len(arms)) * len(slices)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, arm in enumerate(arms):
            rows = table[table["arm"] == arm].set_index("slice")
            colour = ICE_TO_FIRE(i / max(1, len(arms) - 1))
            shift = 0.6 * ((i + 0.5) / len(arms) - 0.5)
            shown = rows.loc[[name for name in slices if name in rows.index]]
            y = np.array([slices.index(name) for name in shown.index]) + shift
            axes.hlines(y, 100 * shown["accuracy_low"], 100 * shown["accuracy_high"], color=colour, linewidth=1.4)
            axes.plot(100 * shown["accuracy"], y, "o", color=colour, markersize=4, label=arm)
            if ALL in rows.index:
                axes.axvline(100 * rows.loc[ALL, "accuracy"], color=colour, linewidth=1, linestyle=":")
        support = table.groupby("slice")["n"].first()
        axes.set_yticks(range(len(slices)), [f"{name} ({support[name]:,})" for name in slices])
        axes.set_ylim(len(slices) - 0.4, -0.6)
        axes.set_xlabel("test accuracy, %")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        plain(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.8)
    return figure

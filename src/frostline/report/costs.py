"""What thawing costs, as pictures: the gap between training and validation over time, and what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.measures.statistics import t_interval
from frostline.report.arms import Arm, names
from frostline.report.figures import FAINT, ICE_TO_FIRE, INK, colours, inked, plain, save
from frostline.runs.curves import read_epochs

Tables = Mapping[str, Sequence[pd.DataFrame]]  # per arm, a measure's table for each seed


@dataclass(frozen=True)
class Panel:
    """A panel of the forgetting figure: statistics with their words, what its axis says, and the unit's factor."""

    statistics: dict[str, str]
    words: str
    unit: float


PANELS = (
    Panel(
        {f"{kind}_probe_accuracy_change": f"{kind} probes" for kind in ("fixed", "aligned", "retrained")},
        "probing tasks, change in points",
        100,
    ),
    Panel(
        {
            "similarity_correlation_change": "sentence similarity",
            "halves_reciprocal_rank_change": "halves found",
            "out_of_domain_accuracy_change": "other domains",
        },
        "skills, change in points",
        100,
    ),
    Panel({"reading_loss_change": "reading loss"}, "masked words, change in nats", 1),
)


def draw_overfitting(run_dir: Path, path_stem: Path) -> None:
    """Write the figure of one run's losses by epoch; nothing for a run whose curves have none."""
    epochs = read_epochs(run_dir / "curves.csv")
    if len(epochs):
        save(losses_figure({"": [epochs]}), path_stem)


def draw_forgetting(table: pd.DataFrame, path_stem: Path) -> None:
    """Write the figure of what one run forgot."""
    save(forgetting_figure({"": [table]}), path_stem)


def losses_figure(arms: Tables) -> Figure:
    """Draw, a panel an arm, the loss on training sentences (dropout on) and on validation after every epoch, a line a seed."""
    with inked():
        figure = Figure(figsize=(max(4.6, 3.2 * len(arms)), 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
        for axes, (name, seeds) in zip(panels, arms.items(), strict=True):
            for epochs in seeds:
                numbers = np.arange(1, len(epochs) + 1)
                axes.plot(numbers, epochs["training_loss"], "o:", color=FAINT, markersize=3, label="training")
                axes.plot(numbers, epochs["validation_loss"], "o-", color="#3576d9", markersize=3, label="validation")
            axes.set_title(name, loc="left", fontsize=10, color=INK)
            axes.set_xlabel("epoch")
            plain(axes)
        panels[0].set_ylabel("loss, nats")
        handles, labels = panels[0].get_legend_handles_labels()
        panels[-1].legend(handles[:2], labels[:2], frameon=False, fontsize=9)
    return figure


def forgetting_figure(arms: Tables) -> Figure:
    """Draw what every arm lost against the pretrained encoder: by kind of probe, of its skills, and of reading.

    What no arm measured has no panel.
    """
    by_arm = [rows[rows["layer"].isna()] for rows in map(pd.concat, arms.values())]
    measured = set(pd.concat(by_arm)["statistic"])
    panels = [panel for panel in PANELS if measured & set(panel.statistics)]
    with inked():
        figure = Figure(figsize=(2 + 3.1 * max(1, len(panels)), 0.9 + 0.5 * max(4, len(arms))), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, panel in zip(figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0], panels, strict=False):
            for row, rows in enumerate(by_arm):
                for i, (statistic, words) in enumerate(panel.statistics.items()):
                    _bar(axes, rows, statistic, row, i, words, panel.unit)
            axes.set_yticks(range(len(arms)), list(arms))
            axes.set_ylim(len(arms) - 0.4, -0.6)
            axes.axvline(0, color=FAINT, linewidth=1)
            axes.set_xlabel(panel.words)
            handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
            axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
            plain(axes)
            axes.grid(axis="y", visible=False)
    return figure


def tradeoff_figure(arms: Sequence[Arm], tables: Tables) -> Figure | None:
    """Draw test accuracy against the pretrained skill that is left, an arm a disc as large as its training took long.

    The skill is sentence similarity (``similarity_correlation_change``); lines are 95 % intervals.

    Args:
        arms: of a sweep.
        tables: what ``measure=forgetting`` found, by the arms' names.

    Returns:
        the figure; None if fewer than two arms have both.
    """
    points = []
    for name, arm, colour in zip(names(arms), arms, colours(arms), strict=True):
        rows = pd.concat(tables[name]) if name in tables else pd.DataFrame(columns=["statistic", "value"])
        kept = rows[rows["statistic"] == "similarity_correlation_change"]["value"].dropna().to_numpy(dtype=float)
        if arm.test is not None and len(kept):
            points.append((name, arm, arm.test, kept, colour))
    if len(points) < 2:
        return None
    with inked():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        longest = max(arm.fit_seconds for _, arm, *_ in points)
        for name, arm, test, kept, colour in points:
            x, y = kept.mean(), 100 * test.mean
            axes.plot([x, x], [100 * test.low, 100 * test.high], color=colour, linewidth=1.5)
            if len(kept) > 1:
                interval = t_interval(kept)
                axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=1.5)
            axes.scatter(x, y, s=30 + 370 * arm.fit_seconds / longest, color=colour, alpha=0.8)
            axes.annotate(f"{name}\n{arm.fit_seconds:.0f} s", (x, y), (9, 5), textcoords="offset points", fontsize=8)
        axes.margins(0.15)
        axes.set_xlabel("pretrained skill: change of the similarity correlation   (right: more is kept)")
        axes.set_ylabel("test accuracy, %")
        plain(axes)
    return figure


def _bar(axes: Axes, rows: pd.DataFrame, statistic: str, row: int, place: int, label: str, unit: float) -> None:
    """A bar of the mean over seeds, with a dot a seed."""
    values = unit * rows[rows["statistic"] == statistic]["value"].dropna().to_numpy()
    if not len(values):
        return
    y, colour = row + 0.25 * (place - 1), ICE_TO_FIRE(place / 2)
    axes.barh(y, values.mean(), height=0.22, color=colour, label=label)
    if len(values) > 1:
        axes.plot(values, np.full(len(values), y), ".", color=INK, markersize=3)

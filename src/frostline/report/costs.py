"""What thawing costs, as pictures: the gap between training and validation over time, and what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.report.figures import FAINT, ICE_TO_FIRE, INK, inked, plain, save
from frostline.runs.curves import read_epochs

Tables = Mapping[str, Sequence[pd.DataFrame]]  # per arm, a measure's table for each seed
PROBES = {"fixed": "fixed probes", "aligned": "aligned probes", "retrained": "retrained probes"}
RETENTION = {
    "similarity_correlation_change": "sentence similarity",
    "halves_reciprocal_rank_change": "halves found",
    "out_of_domain_accuracy_change": "other domains",
}


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
    """Draw what every arm lost against the pretrained encoder: by kind of probe, of its skills, and of reading."""
    with inked():
        figure = Figure(figsize=(11.2, 0.9 + 0.5 * max(4, len(arms))), layout="constrained")
        FigureCanvasAgg(figure)
        probes, skills, reading = figure.subplots(1, 3, sharey=True)
        for row, tables in enumerate(arms.values()):
            rows = pd.concat(tables)
            single = rows[rows["layer"].isna()]
            for i, (kind, words) in enumerate(PROBES.items()):
                _bar(probes, single, f"{kind}_probe_accuracy_change", row, i, words, 100)
            for i, (statistic, words) in enumerate(RETENTION.items()):
                _bar(skills, single, statistic, row, i, words, 100)
            _bar(reading, single, "reading_loss_change", row, 1, "reading loss, nats", 1)
        probes.set_yticks(range(len(arms)), list(arms))
        probes.invert_yaxis()
        for axes, words in ((probes, "probing tasks, change in points"), (skills, "skills, change in points"), (reading, "")):
            axes.axvline(0, color=FAINT, linewidth=1)
            axes.set_xlabel(words or "masked words, change in nats")
            handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
            if handles:
                axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
            plain(axes)
            axes.grid(axis="y", visible=False)
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

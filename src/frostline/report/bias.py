"""Bias, as pictures: gaps between groups by skew, associations of words, and what changes with whom a sentence names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.report.figures import FAINT, ICE_TO_FIRE, INK, inked, plain, save

Tables = Mapping[str, Sequence[pd.DataFrame]]  # per arm, a measure's table for each seed
SHOWN = (("pretrained_", "pretrained"), ("", "after training"), ("random_encoder_", "random weights"))


def draw_amplification(table: pd.DataFrame, skew: float, path_stem: Path) -> None:
    """Write the figure of one run's gap between groups."""
    save(amplification_figure({"": [table]}, {"": skew}), path_stem)


def draw_association(table: pd.DataFrame, path_stem: Path) -> None:
    """Write the figure of the associations of one run's encoder."""
    save(association_figure({"": [table]}), path_stem)


def draw_counterfactual(table: pd.DataFrame, path_stem: Path) -> None:
    """Write the figure of what changes with whom a sentence names, for one run."""
    save(counterfactual_figure({"": [table]}), path_stem)


def amplification_figure(arms: Tables, skews: Mapping[str, float]) -> Figure:
    """Draw the gap between groups on balanced test data by the skew of the training data, a line for arms that differ in it only;
    by arm, if all have the same skew.

    Args:
        arms: per arm, its tables.
        skews: per arm, ``data.skew``.
    """
    lines: dict[str, list[tuple[float, Sequence[pd.DataFrame]]]] = {}
    for name, tables in arms.items():
        without = " · ".join(part for part in name.split(" · ") if not part.startswith("skew "))
        lines.setdefault(without, []).append((skews[name], tables))
    of_one_skew = len(set(skews.values())) == 1
    with inked():
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(lines.items()):
            colour, points = ICE_TO_FIRE(i / max(1, len(lines) - 1)), sorted(points, key=lambda point: point[0])
            xs = [float(i)] if of_one_skew else [skew for skew, _ in points]
            gaps = [_values(tables, "balanced_rate_gap") for _, tables in points]
            axes.plot(xs, [gap.mean() for gap in gaps], "o-", color=colour, label=name)
            for x, gap in zip(xs, gaps, strict=True):
                axes.plot(np.full(len(gap), x), gap, ".", color=colour, markersize=3)
            rational = [_values(tables, "bayes_rate_gap").mean() for _, tables in points]
            axes.plot(xs, rational, "x:", color=colour, label=f"{name}: rational" if name else "rational at its accuracy")
        axes.axhline(0, color=FAINT, linewidth=1)
        if of_one_skew:  # a place an arm
            axes.set_xticks(range(len(lines)), lines)
            axes.set_xlim(-0.5, len(lines) - 0.5)
            axes.set_xlabel(f"skew of the training data: {next(iter(skews.values())):g} (x: rational at its accuracy)")
        else:
            axes.set_xlabel("skew of the training data (0.5: none)")
            axes.legend(frameon=False, fontsize=8)
        axes.set_ylabel("gap between groups\n(rate of positive predictions)")
        plain(axes)
    return figure


def association_figure(arms: Tables) -> Figure:
    """Draw, a panel an arm, the effect size of every association test at the last layer: before, after, with random weights."""
    ending = "_effect_size"
    with inked():
        any_table = next(iter(arms.values()))[0]
        single = any_table[any_table["layer"].isna()]["statistic"]
        tests = [
            name.removesuffix(ending)
            for name in single
            if name.endswith(ending) and not name.startswith(("pre", "random", "mean"))
        ]
        figure = Figure(figsize=(2.2 + 3.2 * len(arms), 1.2 + 0.32 * len(tests)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (name, tables) in zip(figure.subplots(1, len(arms), sharey=True, squeeze=False)[0], arms.items(), strict=True):
            rows = pd.concat(tables)
            rows = rows[rows["layer"].isna()]
            is_trained = rows["statistic"].str.startswith("pretrained_").any()
            for i, (prefix, words) in enumerate(SHOWN if is_trained else (*SHOWN[:1], ("", "pretrained"), *SHOWN[2:])):
                found = [rows[rows["statistic"] == f"{prefix}{test}{ending}"][["value", "low", "high"]].mean() for test in tests]
                _intervals(axes, found, 0.2 * (i - 1), ICE_TO_FIRE(i / 2) if prefix != "random_encoder_" else FAINT, words)
            axes.set_yticks(range(len(tests)), [test.replace("_", " ") for test in tests])
            axes.set_ylim(len(tests) - 0.4, -0.6)
            axes.axvline(0, color=FAINT, linewidth=1)
            axes.set_title(name, loc="left", fontsize=10, color=INK)
            axes.set_xlabel("effect size, sd")
            plain(axes)
        _legend(figure)
    return figure


def counterfactual_figure(arms: Tables) -> Figure:
    """Draw how much the probability of the last class changes between two versions of a sentence, by set, an arm a colour."""
    names = [
        str(name).removesuffix(".mean_change")
        for name in dict.fromkeys(pd.concat([t for tables in arms.values() for t in tables])["statistic"])
        if str(name).endswith(".mean_change")
    ]
    with inked():
        figure = Figure(figsize=(6.4, 0.9 + 0.34 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, (arm, tables) in enumerate(arms.items()):
            rows = pd.concat(tables)
            found = [rows[rows["statistic"] == f"{name}.mean_change"][["value", "low", "high"]].mean() for name in names]
            place = 0.5 * (i / max(1, len(arms) - 1) - 0.5) if len(arms) > 1 else 0.0
            _intervals(axes, found, place, ICE_TO_FIRE(i / max(1, len(arms) - 1)), arm)
        axes.set_yticks(range(len(names)), [name.replace("dialect.", "").replace("_", " ") for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.axvline(0, color=FAINT, linewidth=1)
        axes.set_xlabel("change of the probability of the last class")
        plain(axes)
        axes.grid(axis="y", visible=False)
        if any(arms):
            _legend(figure)
    return figure


def _values(tables: Sequence[pd.DataFrame], statistic: str) -> np.ndarray:  # type: ignore[type-arg]
    rows = pd.concat(tables)
    return rows[(rows["statistic"] == statistic) & rows["layer"].isna()]["value"].to_numpy(dtype=float)


def _legend(figure: Figure) -> None:
    """Below the axes, where no dot is; what several of them show is named once."""
    named = {words: line for axes in figure.axes for line, words in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def _intervals(axes: Axes, found: Sequence[pd.Series], shift: float, colour: object, label: str) -> None:  # type: ignore[type-arg]
    """A dot with its interval for every row that has a value."""
    shown = [(row + shift, of) for row, of in enumerate(found) if np.isfinite(of["value"])]
    for y, of in shown:
        axes.plot([of["low"], of["high"]], [y, y], color=colour, linewidth=1.5)  # type: ignore[arg-type]
    if shown:
        axes.plot([of["value"] for _, of in shown], [y for y, _ in shown], "o", color=colour, markersize=5, label=label)  # type: ignore[arg-type]

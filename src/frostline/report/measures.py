"""What was measured, as pictures and words: of one run, or of the arms of a sweep with their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from frostline.measures.probing_tasks import LEVELS
from frostline.measures.statistics import Interval, hierarchical_bootstrap, paired_difference
from frostline.report.arms import Arm, names
from frostline.report.bias import amplification_figure, association_figure, counterfactual_figure
from frostline.report.costs import forgetting_figure, losses_figure, tradeoff_figure
from frostline.report.figures import FAINT, ICE_TO_FIRE, INK, inked, plain, save
from frostline.report.table import percent
from frostline.runs.curves import read_epochs
from frostline.runs.measured import read_table
from frostline.runs.reading import read_frame
from frostline.runs.sweep import read_config, value_of

Tables = Mapping[str, Sequence[pd.DataFrame]]  # per arm, a measure's table for each seed
POOLING_COLOURS = {"mean": "#3576d9", "cls": "#d24a43", "max": "#239b63", "last": "#a98a1f", "token": "#3576d9"}
LEVEL_COLOURS = {"surface": "#3576d9", "syntax": "#239b63", "meaning": "#d24a43", "words": "#8b6bb1"}
PARTS = {"translation": "#8b949e", "rotation": "#3576d9", "scale": "#a98a1f", "residual": "#d24a43"}


def read_measures(sweep_dir: Path, arms: Sequence[Arm], measure: str) -> dict[str, list[pd.DataFrame]]:
    """Return one measure's tables of the chosen runs, by the arm's name; arms that were not measured are left out.

    Raises:
        FrostlineError: a table is damaged.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for name, arm in zip(names(arms), arms, strict=True):
        paths = [sweep_dir / run / "measures" / f"{measure}.csv" for run in arm.runs]
        if tables := [read_table(path) for path in paths if path.is_file()]:
            found[name] = tables
    return found


def curve(tables: Sequence[pd.DataFrame], statistic: str, pooling: str | None = None) -> pd.DataFrame:
    """Return a statistic by layer, its mean over seeds, between the least and the greatest seed; of one seed, its interval.

    Args:
        tables: of a measure, one a seed.
        statistic: its name.
        pooling: of the states; None for statistics without one.

    Returns:
        columns ``value, low, high, null``, indexed by layer; empty if it was not measured.
    """
    rows = pd.concat(tables)
    rows = rows[(rows["statistic"] == statistic) & rows["layer"].notna() & (pooling is None or rows["pooling"] == pooling)]
    by_layer = rows.groupby(rows["layer"].astype(int))
    if len(tables) == 1:
        return by_layer[["value", "low", "high", "null"]].mean()
    return by_layer.agg(value=("value", "mean"), low=("value", "min"), high=("value", "max"), null=("null", "mean"))


def single(tables: Sequence[pd.DataFrame], statistic: str, pooling: str | None = None) -> float | None:
    """Return a statistic of the whole encoder, its mean over seeds; None if it was not measured."""
    rows = pd.concat(tables)
    rows = rows[(rows["statistic"] == statistic) & rows["layer"].isna() & (pooling is None or rows["pooling"] == pooling)]
    return None if rows.empty else float(rows["value"].mean())


def tasks_of(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return the tasks that were probed besides the run's own, in the order of the table."""
    return [name.split(".")[0] for name in dict.fromkeys(pd.concat(tables)["statistic"]) if name.endswith(".majority_accuracy")]


def mixed_pooling(tables: Sequence[pd.DataFrame], task: str) -> str:
    """Return the pooling under which a task's layers were mixed."""
    rows = pd.concat(tables)
    return str(rows[rows["statistic"] == f"{task}.expected_layer"]["pooling"].iloc[0])


# --- pictures -------------------------------------------------------------------------------------------------------------


def draw_layers(table: pd.DataFrame, path_stem: Path) -> None:
    """Write the figure of one run's layers."""
    save(layers_figure({"": [table]}), path_stem)


def draw_geometry(table: pd.DataFrame, pooling: str, folder: Path) -> None:
    """Write the figures of one run's geometry: ``cka_by_layer`` and ``procrustes_by_layer``."""
    save(cka_figure({"": [table]}, pooling), folder / "cka_by_layer")
    save(procrustes_figure({"": [table]}, pooling), folder / "procrustes_by_layer")


def measured_figures(sweep_dir: Path, arms: Sequence[Arm]) -> dict[str, Figure]:
    """Return the figures of all that was measured in a sweep, its arms side by side, by the name of their files.

    Raises:
        FrostlineError: a table is damaged.
    """
    figures = {}
    if layers := read_measures(sweep_dir, arms, "layers"):
        figures["layers"] = layers_figure(layers)
    if geometry := read_measures(sweep_dir, arms, "geometry"):
        pooling = pooling_of(sweep_dir / arms[0].runs[0])
        figures["cka_by_layer"] = cka_figure(geometry, pooling)
        figures["procrustes_by_layer"] = procrustes_figure(geometry, pooling)
    if forgetting := read_measures(sweep_dir, arms, "forgetting"):
        figures["forgetting"] = forgetting_figure(forgetting)
        if (tradeoff := tradeoff_figure(arms, forgetting)) is not None:
            figures["tradeoff"] = tradeoff
    if amplification := read_measures(sweep_dir, arms, "amplification"):
        skews = {
            name: float(value_of(read_config(sweep_dir / arm.runs[0]), "data.skew") or 0.5)
            for name, arm in zip(names(arms), arms, strict=True)
        }
        figures["amplification"] = amplification_figure(amplification, skews)
    if association := read_measures(sweep_dir, arms, "association"):
        figures["association"] = association_figure(association)
    if counterfactual := read_measures(sweep_dir, arms, "counterfactual"):
        figures["counterfactual"] = counterfactual_figure(counterfactual)
    if overfitting := read_measures(sweep_dir, arms, "overfitting"):
        runs = {name: arm.runs for name, arm in zip(names(arms), arms, strict=True) if name in overfitting}
        epochs = {name: [read_epochs(sweep_dir / run / "curves.csv") for run in of_arm] for name, of_arm in runs.items()}
        if shown := {name: found for name, of_arm in epochs.items() if (found := [e for e in of_arm if len(e)])}:
            figures["losses"] = losses_figure(shown)
    return figures


def pooling_of(run_dir: Path) -> str:
    """Return how a run pools."""
    return str(value_of(read_config(run_dir), "model.pooling"))


def layers_figure(arms: Tables) -> Figure:
    """Draw, a row an arm, the accuracy of probes by layer: of the run's own task by pooling, and of the other tasks."""
    others = any(tasks_of(tables) for tables in arms.values())
    with inked():
        figure = Figure(figsize=(11.2 if others else 5.4, 3.4 * len(arms)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(arms), 2 if others else 1, squeeze=False)
        for (name, tables), row in zip(arms.items(), grid, strict=True):
            _own_task(row[0], tables)
            row[0].set_title(name, loc="left", fontsize=10, color=INK)
            if others:
                _other_tasks(row[1], tables)
    return figure


def cka_figure(arms: Tables, pooling: str) -> Figure:
    """Draw, a line an arm, how similar each layer's space still is to the pretrained one's (debiased CKA; 1: the same)."""
    with inked():
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, (name, tables) in enumerate(arms.items()):
            _line(axes, curve(tables, "cka_debiased", pooling), ICE_TO_FIRE(i / max(1, len(arms) - 1)), name)
        axes.axhline(0, color=FAINT, linestyle=":", linewidth=1)
        axes.set_xlabel("layer (0: embeddings)")
        axes.set_ylabel(f"debiased CKA, {pooling} pooling")
        if any(arms):
            axes.legend(frameon=False, fontsize=9)
        plain(axes)
    return figure


def procrustes_figure(arms: Tables, pooling: str) -> Figure:
    """Draw, a panel an arm, what moved each layer's sentences: the shares of translation, rotation, scale and residual."""
    with inked():
        figure = Figure(figsize=(max(4.6, 3.2 * len(arms)), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
        for axes, (name, tables) in zip(panels, arms.items(), strict=True):
            base: pd.Series[float] | float = 0.0
            for part, colour in PARTS.items():
                moved = curve(tables, f"procrustes_{part}", pooling)["value"].clip(lower=0)
                axes.bar(moved.index, moved, bottom=base, color=colour, width=0.8, label=part)
                base = moved + base
            if isinstance(base, pd.Series) and base.max() < 1e-9:
                axes.text(0.5, 0.5, "no change", transform=axes.transAxes, ha="center", color=FAINT)
            axes.set_title(name, loc="left", fontsize=10, color=INK)
            axes.set_xlabel("layer (0: embeddings)")
            plain(axes)
        panels[0].set_ylabel(f"squared distance moved /\nspread before, {pooling} pooling")
        panels[-1].legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _own_task(axes: Axes, tables: Sequence[pd.DataFrame]) -> None:
    for pooling in dict.fromkeys(pd.concat(tables)["pooling"].dropna()):
        colour = POOLING_COLOURS[pooling]
        _line(axes, 100 * curve(tables, "probe_accuracy", pooling), colour, f"{pooling} pooling")
        random = curve(tables, "random_encoder_accuracy", pooling)["value"]
        axes.plot(random.index, 100 * random, color=colour, linestyle=":", linewidth=1)
    for statistic, style, words in (("tfidf_accuracy", "--", "TF-IDF"), ("majority_accuracy", "-.", "majority class")):
        if (level := single(tables, statistic)) is not None:
            axes.axhline(100 * level, color=FAINT, linestyle=style, linewidth=1, label=words)
    if not curve(tables, "random_encoder_accuracy").empty:
        axes.plot([], [], color=FAINT, linestyle=":", linewidth=1, label="random weights")
    axes.set_xlabel("layer (0: embeddings)")
    axes.set_ylabel("probe's test accuracy, %")
    axes.legend(frameon=False, fontsize=8)
    plain(axes)


def _other_tasks(axes: Axes, tables: Sequence[pd.DataFrame]) -> None:
    styles: dict[str, list[str]] = {level: ["-", "--", "-."] for level in LEVEL_COLOURS}
    for task in tasks_of(tables):
        level, pooling = LEVELS.get(task, "words"), mixed_pooling(tables, task)
        accuracy, majority = curve(tables, f"{task}.probe_accuracy", pooling), single(tables, f"{task}.majority_accuracy")
        if accuracy.empty or majority is None:
            continue
        gained = 100 * (accuracy["value"] - majority) / (1 - majority)
        style = styles[level].pop(0) if styles[level] else ":"
        axes.plot(gained.index, gained, color=LEVEL_COLOURS[level], linestyle=style, label=f"{task.replace('_', ' ')} ({level})")
        centre = single(tables, f"{task}.expected_layer", pooling)
        if centre is not None:
            axes.plot(centre, np.interp(centre, gained.index, gained), "o", color=LEVEL_COLOURS[level], markersize=6)
    axes.set_xlabel("layer (dots: expected layer)")
    axes.set_ylabel("gained over the majority class, %")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    plain(axes)


def _line(axes: Axes, points: pd.DataFrame, colour: object, label: str) -> None:
    axes.plot(points.index, points["value"], "o-", color=colour, markersize=4, label=label)  # type: ignore[arg-type]
    if points["low"].notna().any():
        axes.fill_between(points.index, points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)  # type: ignore[arg-type]


# --- words ------------------------------------------------------------------------------------------------------------------


def probe_correct(run_dirs: Sequence[Path], layer: int, pooling: str) -> NDArray[np.bool_] | None:
    """Return which test sentences the probe of a layer got right, ``[runs, sentences]``; None unless all have the same number."""
    found = []
    for run_dir in run_dirs:
        path = run_dir / "measures" / "layers_test.parquet"
        if not path.is_file():
            return None
        table = read_frame(path, ("index", "correct"), filters=[("layer", "==", layer), ("pooling", "==", pooling)])
        found.append(table.sort_values("index")["correct"].to_numpy())
    return np.stack(found) if found and len({len(row) for row in found}) == 1 and len(found[0]) else None


def layers_in_words(run_dirs: Sequence[Path], tables: Sequence[pd.DataFrame]) -> str:
    """Return which layer and pooling to use for the task, and whether lower layers hold the form and upper ones the meaning.

    Args:
        run_dirs: of an arm, one a seed.
        tables: their measures.
    """
    validation = pd.concat(tables)
    validation = validation[validation["statistic"] == "probe_validation_accuracy"]
    ranked = validation.groupby([validation["pooling"], validation["layer"].astype(int)])["value"].mean()
    pooling, layer = ranked.index.to_list()[int(ranked.argmax())]
    last = ranked.index.get_level_values(1).max()
    best, top = probe_correct(run_dirs, layer, pooling), probe_correct(run_dirs, last, pooling)
    words = f"Use layer {layer} of {last} with {pooling} pooling"
    if best is not None and top is not None:
        accuracy = hierarchical_bootstrap(best)
        seeds = f"{len(best)} seed{'s' if len(best) > 1 else ''}"
        words += (
            f": a linear probe scores {percent(accuracy.mean)} % on test (95 % interval {percent(accuracy.low)} to "
            f"{percent(accuracy.high)} %; {seeds}, {best.shape[1]:,} sentences)"
        )
        words += "" if layer == last else f", {_against_last(paired_difference(best, top))}"
    return f"{words}. {_form_and_meaning(tables)}".strip()


def _against_last(difference: Interval) -> str:
    points, low, high = (f"{100 * x:+.1f}" for x in difference)
    if not difference.excludes_zero():
        return f"which cannot be told apart from the last layer ({points} points, {low} to {high})"
    return f"{points} points against the last layer ({low} to {high})"


def centres(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean expected layer of the surface tasks and of those of meaning; only of levels that were measured."""
    rows = table[table["statistic"].str.endswith(".expected_layer")]
    levels = rows["statistic"].str.split(".").str[0].map(LEVELS)
    means = rows.groupby(levels)["value"].mean()
    return {str(level): float(value) for level, value in means.items()}


def _form_and_meaning(tables: Sequence[pd.DataFrame]) -> str:
    found = [centres(table) for table in tables]
    if not all({"surface", "meaning"} <= levels.keys() for levels in found):
        return ""
    surface, meaning = (float(np.mean([levels[level] for levels in found])) for level in ("surface", "meaning"))
    gaps = [levels["meaning"] - levels["surface"] for levels in found]
    words = f"Form is read from layer {surface:.1f} on average (surface tasks), meaning from layer {meaning:.1f}"
    if min(gaps) > 0:
        return f"{words}: lower layers hold the form, upper layers the meaning of a sentence in this encoder."
    if max(gaps) < 0:
        return f"{words}: here it is not the lower layers that hold the form."
    return f"{words}; seeds do not agree which of the two lies lower."

"""``report.html``: a sweep or a single run on one page that needs nothing but a browser, not even a network."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from frostline.errors import FrostlineError
from frostline.report.answer import best_and_by_how_much
from frostline.report.arms import Arm, names, summarise
from frostline.report.figures import accuracy_by_depth, colours, inline_svg
from frostline.report.learning import crossing_in_words, learning_curves, learning_figure, spread
from frostline.report.measures import layers_in_words, measured_figures, read_measures
from frostline.report.table import cells, notes, scientific
from frostline.report.verdict import judge
from frostline.runs.files import write_text
from frostline.runs.sweep import collect, read_json

TEMPLATE = "page.html.j2"
MAX_SENTENCES = 500  # a map
MAX_POINTS = 1000  # a curve; longer ones are thinned evenly, which keeps a long sweep's page a few MB
SHOWN_FIRST = ("train/loss", "val/accuracy")
NOT_PROVENANCE = {"identity", "status", "error", "wandb_id", "seconds_before", "exit_status"}


def write_page(sweep_dir: Path) -> Path:
    """Write ``report.html`` into ``sweep_dir``: answer, comparison, curves, all runs and how they were made.

    Args:
        sweep_dir: a sweep's directory, or that of a single run; jobs may be unfinished.

    Returns:
        The path of the page.

    Raises:
        FrostlineError: ``sweep_dir`` holds no run, or a file of a run is damaged.
    """
    results = collect(sweep_dir)
    arms = summarise(sweep_dir, results)
    titles, rows = cells(arms)
    curves = read_curves(sweep_dir, results, arms)
    plotted, maps = bool(curves["runs"]), read_maps(sweep_dir, arms)
    learned = learning_curves(sweep_dir, arms)
    verdict = judge(sweep_dir, arms)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["cell"] = _cell
    html = environment.get_template(TEMPLATE).render(
        name=sweep_dir.resolve().name,
        subject=" · ".join(f"{key} {', '.join(_distinct(results[key]))}" for key in ("model", "data", "seed")),
        verdict=verdict.in_words() if verdict else None,
        answer=best_and_by_how_much(arms).split("\n"),
        titles=titles,
        rows=list(zip(colours(arms), rows, strict=True)),
        notes=notes(arms, int((results["status"] != "finished").sum())),
        drawing=Markup(inline_svg(accuracy_by_depth(arms))) if any(arm.test for arm in arms) else None,
        layers=layers_told(sweep_dir, arms),
        measured={stem: Markup(inline_svg(figure)) for stem, figure in measured_figures(sweep_dir, arms).items()},
        maps=maps,
        spread=spread(sweep_dir, arms),
        crossings=crossing_in_words(learned),
        learning=Markup(inline_svg(learning_figure(learned))) if learned else None,
        curves=curves,  # embedded with Jinja's tojson, which escapes <, > and &
        plotlyjs=Markup(get_plotlyjs().replace("</script", "<\\/script")) if plotted or maps else None,
        results=results.dropna(axis="columns", how="all"),
        text_columns=[name for name in results if not pd.api.types.is_numeric_dtype(results[name])],
        provenance=_provenance(sweep_dir, results),
    )
    path = sweep_dir / "report.html"
    write_text(path, html)
    return path


def read_maps(sweep_dir: Path, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Return the sentences in two dimensions before and after training, of the first measured run of every arm.

    Returns:
        an entry an arm: ``name``, ``classes``, and ``points``, at most :data:`MAX_SENTENCES`, evenly drawn: text, class number
        and the four places.

    Raises:
        FrostlineError: a ``projection.parquet`` is damaged.
    """
    found = []
    for name, arm in zip(names(arms), arms, strict=True):
        paths = [path for run in arm.runs if (path := sweep_dir / run / "measures" / "projection.parquet").is_file()]
        if not paths:
            continue
        try:
            table = pd.read_parquet(paths[0])
        except (OSError, ValueError) as error:  # Arrow's errors are among these
            raise FrostlineError(f"{paths[0]} is damaged: {error}.") from None
        table = table.iloc[:: math.ceil(len(table) / MAX_SENTENCES)]
        classes = _distinct(table["label"])
        places = table[["before_x", "before_y", "after_x", "after_y"]].round(4).to_numpy().tolist()
        numbers = [classes.index(str(label)) for label in table["label"]]
        points = [[text[:200], number, *at] for text, number, at in zip(table["text"], numbers, places, strict=True)]
        found.append({"name": name, "classes": classes, "points": points})
    return found


def layers_told(sweep_dir: Path, arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Return, for every arm whose layers were measured, its name and what they say in words."""
    tables = read_measures(sweep_dir, arms, "layers")
    folders = {name: [sweep_dir / run for run in arm.runs] for name, arm in zip(names(arms), arms, strict=True)}
    return [(name, layers_in_words(folders[name], of_arm)) for name, of_arm in tables.items()]


def read_curves(sweep_dir: Path, results: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, Any]:
    """Return the logged curves of all finished runs as plain data for the page.

    Returns:
        ``arms`` (name and colour), ``metrics`` (their names; training loss and validation accuracy first) and ``runs``
        (index of the arm, a label with learning rate and seed, and per metric ``x``, steps, and ``y``, finite values).

    Raises:
        FrostlineError: a ``curves.csv`` is damaged.
    """
    arm_of = {run: i for i, arm in enumerate(arms) for run in arm.tried}
    told = names(arms)
    runs: list[dict[str, Any]] = []
    for row in results[results["run"].isin(list(arm_of))].to_dict("records"):
        points = _points(sweep_dir / row["run"] / "curves.csv")
        if points:
            lr = "" if pd.isna(row["optimizer.lr"]) else f", learning rate {scientific(row['optimizer.lr'])}"
            label = f"{told[arm_of[row['run']]]}{lr}, seed {row['seed']}"
            runs.append({"arm": arm_of[row["run"]], "label": label, "points": points})
    found = {metric for run in runs for metric in run["points"]}
    first = [metric for metric in SHOWN_FIRST if metric in found]
    return {
        "arms": [{"name": name, "colour": colour} for name, colour in zip(told, colours(arms), strict=True)],
        "metrics": [*first, *sorted(found - {*first})],
        "runs": runs,
    }


# --- internals ------------------------------------------------------------------------------------------------------


def _points(path: Path) -> dict[str, dict[str, list[float]]]:
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path).set_index("step")
    except (ValueError, KeyError) as error:  # pandas' parser errors are among these
        raise FrostlineError(f"{path} is damaged: {error}.") from None
    points = {}
    for name in table.columns.drop("epoch", errors="ignore"):
        column = pd.to_numeric(table[name], errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
        column = column.iloc[:: math.ceil(len(column) / MAX_POINTS) or 1]
        if len(column):
            points[str(name)] = {"x": column.index.tolist(), "y": column.round(6).tolist()}
    return points


def _distinct(column: pd.Series[Any]) -> list[str]:
    return [str(value) for value in sorted(column.dropna().unique())]


def _provenance(sweep_dir: Path, results: pd.DataFrame) -> list[tuple[str, str]]:
    """What the manifest of one run says about code, packages and machine; a finished run's, if there is one."""
    runs = results.sort_values("status", key=lambda status: status != "finished", kind="stable")["run"]
    found = next(((run, m) for run in runs if (m := read_json(sweep_dir / run / "manifest.json"))), None)
    if found is None:
        return []
    told = {key: _in_words(key, value) for key, value in found[1].items() if key not in NOT_PROVENANCE}
    return [("manifest of run", found[0]), *((key.replace("_", " "), words) for key, words in told.items() if words)]


def _in_words(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(name, v)}" for name, v in value.items() if v is not None)
    if isinstance(value, list):
        return shlex.join(map(str, value)) if key == "command" else ", ".join(map(str, value))
    return "" if value is None else str(value)


def _cell(value: Any, column: str) -> str:
    """A cell of the table of all runs: numbers with four digits, whole numbers whole, nothing for nothing."""
    if pd.isna(value):
        return ""
    if column == "optimizer.lr":
        return scientific(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)

"""``report.html``: a sweep or a single run on one page that needs nothing but a browser, not even a network."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from frostline.measures.slices import declared_slices
from frostline.report.answer import best_and_by_how_much
from frostline.report.arms import Arm, names, ranking, summarise
from frostline.report.calibration import calibration, reliability_figure
from frostline.report.comparison import comparison, pareto_figure
from frostline.report.differences import differences
from frostline.report.dynamics import dynamics_figure, dynamics_table, raters_in_words
from frostline.report.errors import confusion_figure, disagreement, for_script
from frostline.report.errors import sentences as sentence_table
from frostline.report.figures import accuracy_by_depth, inline_svg
from frostline.report.figures import save as save_figure
from frostline.report.learning import crossing_in_words, learning_curves, learning_figure, spread
from frostline.report.measures import layers_in_words, measured_figures, read_measures
from frostline.report.page import tables as shown
from frostline.report.page.drawn import distinct, read_curves, read_maps
from frostline.report.page.shown import Table
from frostline.report.scored import Scored, on_the_same_sentences, read_scored
from frostline.report.search import heat_map, parallel
from frostline.report.slices import slices_figure, slices_of
from frostline.report.table import notes
from frostline.report.verdict import Verdict, judge
from frostline.runs.directory import DONE
from frostline.runs.files import write_csv, write_text
from frostline.runs.reading import read_manifest
from frostline.runs.sweep import collect

TEMPLATE = "page.html.j2"
MAX_PAIRED = 8  # arms that are compared sentence by sentence: evenly from frozen to full, and the best
NOT_PROVENANCE = {"identity", "status", "error", "wandb_id", "seconds_before", "exit_status"}


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    Attributes:
        arms: that it compares.
        unfinished: how many jobs did not finish.
        pruned: how many jobs a search gave up.
        verdict: on the sweep's claim; None without one.
        tables: by name; each also downloads as ``<name>.csv``.
        figures: by name.
        sentences: all test sentences in full precision, as ``sentences.csv`` has them; None without test predictions.
        for_script: what the page's script draws or lists.
        words: what else the template tells.
    """

    arms: list[Arm]
    unfinished: int
    pruned: int
    verdict: Verdict | None
    tables: dict[str, Table]
    figures: dict[str, Figure]
    sentences: pd.DataFrame | None
    for_script: dict[str, Any]
    words: dict[str, Any]

    @property
    def files(self) -> dict[str, pd.DataFrame]:
        """What downloads as CSV, in full precision, by the file's name."""
        tables = {name: table.data for name, table in self.tables.items()}
        return tables if self.sentences is None else tables | {"sentences": self.sentences}


def write_page(sweep_dir: Path, content: Content | None = None) -> Path:
    """Write ``report.html`` into ``sweep_dir``, its tables into ``tables/`` and its figures into ``figures/``.

    Args:
        sweep_dir: a sweep's directory, or that of a single run; jobs may be unfinished.
        content: what :func:`read_content` read there; None to read it.

    Returns:
        The path of the page.

    Raises:
        FrostlineError: ``sweep_dir`` holds no run, or a file of a run is damaged.
    """
    content = content or read_content(sweep_dir)
    for name, data in content.files.items():
        write_csv(sweep_dir / "tables" / f"{name}.csv", data)
    for name, figure in content.figures.items():
        save_figure(figure, sweep_dir / "figures" / name)
    path = sweep_dir / "report.html"
    write_text(path, render(content))
    return path


def render(content: Content) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script, present = content.for_script, {**content.figures, **content.tables}
    csvs = {name: data.to_csv(index=False) for name, data in content.files.items()}
    plots = bool(script["curves"]["runs"] or script["maps"] or script["parallel"])
    told = {
        **{"answer": "Answer", "comparison": "Comparison", "sweep": "Sweep"},
        **({"errors": "Errors"} if "confusions" in present else {}),
        **({"slices": "Slices"} if "slices" in content.tables else {}),
        **({"calibration": "Calibration"} if "calibration" in present else {}),
        **({"dynamics": "Training dynamics"} if "dynamics" in present else {}),
        **({"layers": "Layers"} if content.words["layers"] else {}),
        **({"space": "Space"} if script["maps"] else {}),
        **({"costs": "Costs"} if present.keys() & {"learning", "losses", "forgetting"} else {}),
        **({"bias": "Bias"} if present.keys() & {"amplification", "association", "counterfactual"} else {}),
        **{"runs": "All runs", "made": "How it was made"},
    }
    return environment.get_template(TEMPLATE).render(
        **content.words,
        sections=told,
        tables=content.tables,
        figures={name: Markup(inline_svg(figure)) for name, figure in content.figures.items()},
        curves=script["curves"],
        maps=script["maps"],
        parallel=script["parallel"],
        sentences=script["sentences"],
        # Scripts without it do not run: a text that would get past the escaping is a text still. The page's content makes it.
        nonce=hashlib.sha256(json.dumps([csvs, told, content.words], default=str).encode()).hexdigest(),
        script=script | {"csvs": csvs},  # embedded with Jinja's tojson, which escapes <, > and &
        plotlyjs=Markup(get_plotlyjs().replace("</script", "<\\/script")) if plots else None,
    )


def read_content(sweep_dir: Path, results: pd.DataFrame | None = None) -> Content:
    """Read all that the page shows from the run directories.

    Args:
        sweep_dir: a sweep's directory, or that of a single run.
        results: what :func:`frostline.runs.sweep.collect` returns of it; None to collect it.

    Raises:
        FrostlineError: ``sweep_dir`` holds no run, or a file of a run is damaged.
    """
    results = collect(sweep_dir) if results is None else results
    pruned = int((results["status"] == "pruned").sum())
    unfinished = int((~results["status"].isin(DONE)).sum())
    arms = summarise(sweep_dir, results)
    verdict = judge(sweep_dir, arms)
    test = read_scored(sweep_dir, arms, "test")
    learned = learning_curves(sweep_dir, arms)
    tables = {"results": shown.results_table(results.dropna(axis="columns", how="all"))}
    figures: dict[str, Figure | None] = {"heat_map": heat_map(results, arms), "pareto": pareto_figure(arms)}
    figures |= measured_figures(sweep_dir, arms)
    if arms:
        tables["comparison"] = shown.comparison_table(arms, comparison(sweep_dir, arms, test))
        if len(difference := differences(arms, test)):
            tables["differences"] = shown.differences_table(difference)
        if len(varied := spread(sweep_dir, arms)) and varied["seeds"].max() > 1:
            tables["seeds"] = shown.seeds_table(varied)
    if any(arm.test for arm in arms):
        figures["accuracy_by_depth"] = accuracy_by_depth(arms)
    if learned:
        figures["learning"] = learning_figure(learned)
    mapped = dynamics_table(sweep_dir, arms)
    if mapped is not None:
        tables["dynamics"] = shown.dynamics_table(mapped)
        figures["cartography"] = dynamics_figure(mapped)
    sentences, listed = None, None
    if test:
        sentences, listed, more_tables, more_figures = by_sentence(sweep_dir, arms, test)
        tables |= more_tables
        figures |= more_figures
    return Content(
        arms,
        unfinished,
        pruned,
        verdict,
        tables,
        {name: figure for name, figure in figures.items() if figure is not None},
        sentences,
        {
            "curves": read_curves(sweep_dir, results, arms),
            "maps": read_maps(sweep_dir, arms),
            "parallel": parallel(results, arms),
            "sentences": listed,
        },
        {
            "name": sweep_dir.resolve().name,
            "subject": " · ".join(f"{key} {', '.join(distinct(results[key]))}" for key in ("model", "data", "seed")),
            "verdict": verdict.in_words() if verdict else None,
            "answer": best_and_by_how_much(arms).split("\n"),
            "notes": notes(arms, unfinished, pruned),
            "layers": layers_told(sweep_dir, arms),
            "crossings": crossing_in_words(learned),
            "provenance": _provenance(sweep_dir, results),
            "raters": [] if mapped is None else raters_in_words(mapped),
        },
    )


def by_sentence(
    sweep_dir: Path, arms: Sequence[Arm], test: dict[str, Scored]
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Table], dict[str, Figure | None]]:
    """Return what is told of single test sentences: all of them, those for the script, tables and figures.

    Arms are compared sentence by sentence where they were scored on the same ones as the best arm; of many, :data:`MAX_PAIRED`.
    """
    told = dict(zip(arms, names(arms), strict=True))
    best = next((told[arm] for arm in ranking(arms) if told[arm] in test), None)
    alike = on_the_same_sentences(test, best)
    chosen = list(alike)
    if len(chosen) > MAX_PAIRED:
        evenly = {chosen[i] for i in np.linspace(0, len(chosen) - 1, MAX_PAIRED - 1).round().astype(int)} | {best}
        chosen = [name for name in chosen if name in evenly]
    few = {name: alike[name] for name in chosen}
    slices = declared_slices(next(iter(alike.values())).sentences)
    tables: dict[str, Table] = {}
    figures: dict[str, Figure | None] = {"confusions": confusion_figure(few)}
    if len(few) > 1:
        tables["disagreement"] = shown.disagreement_table(disagreement(few))
    of_slices, found = slices_of(few, slices, str(best))
    if len(of_slices):
        tables["slices"] = shown.slices_table(of_slices)
        figures["slices"] = slices_figure(of_slices)
    if len(found):
        tables["found_slices"] = shown.found_slices_table(found, str(best))
    tables["calibration"] = shown.calibration_table(calibration(read_scored(sweep_dir, arms, "validation"), alike))
    figures["reliability"] = reliability_figure(alike, chosen)
    listed = for_script(few, slices) | {"first": chosen.index(str(best))}
    return sentence_table(alike, slices), listed, tables, figures


def layers_told(sweep_dir: Path, arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Return, for every arm whose layers were measured, its name and what they say in words."""
    tables = read_measures(sweep_dir, arms, "layers")
    folders = {name: [sweep_dir / run for run in arm.runs] for name, arm in zip(names(arms), arms, strict=True)}
    return [(name, layers_in_words(folders[name], of_arm)) for name, of_arm in tables.items()]


# --- internals ------------------------------------------------------------------------------------------------------


def _provenance(sweep_dir: Path, results: pd.DataFrame) -> list[tuple[str, str]]:
    """What the manifest of one run says about code, packages and machine; a finished run's, if there is one."""
    runs = results.sort_values("status", key=lambda status: status != "finished", kind="stable")["run"]
    found = next(((run, m) for run in runs if (m := read_manifest(sweep_dir / run))), None)
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

"""``frostline measure``: what a finished run's encoder knows, and what training changed, as tables and figures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from frostline.commands.report import report
from frostline.errors import FrostlineError
from frostline.measures.amplification import measure_amplification
from frostline.measures.association import measure_association
from frostline.measures.counterfactual import measure_counterfactual
from frostline.measures.forgetting import measure_forgetting
from frostline.measures.geometry import measure_geometry
from frostline.measures.layers import measure_layers
from frostline.measures.likelihood import measure_likelihood
from frostline.measures.overfitting import measure_overfitting
from frostline.measures.subject import Subject, load_subject
from frostline.once import Once
from frostline.report.bias import draw_amplification, draw_association, draw_counterfactual
from frostline.report.costs import draw_forgetting, draw_overfitting
from frostline.report.measures import draw_geometry, draw_layers
from frostline.runs.files import write_csv, write_parquet
from frostline.runs.jobs import job_folders
from frostline.runs.reading import read_manifest
from frostline.schema import GeometryMeasure, LayersMeasure, MeasureConfig, PathsConfig

log = logging.getLogger(__name__)
# What makes a measure's one table, and what draws it.
TABLES: dict[str, tuple[Callable[..., pd.DataFrame], Callable[[pd.DataFrame, Subject, Path], None]]] = {
    "overfitting": (measure_overfitting, lambda _, subject, stem: draw_overfitting(subject.run_dir, stem)),
    "forgetting": (measure_forgetting, lambda table, _, stem: draw_forgetting(table, stem)),
    "association": (measure_association, lambda table, _, stem: draw_association(table, stem)),
    "likelihood": (measure_likelihood, lambda *_: None),
    "counterfactual": (measure_counterfactual, lambda table, _, stem: draw_counterfactual(table, stem)),
    "amplification": (
        measure_amplification,
        lambda table, subject, stem: draw_amplification(table, subject.config.data.skew or 0.5, stem),
    ),
}


def measure(run_or_sweep: Path, measures: dict[str, MeasureConfig], paths: PathsConfig) -> int:
    """Measure a finished run, or all finished runs of a sweep, and write the sweep's table and page anew.

    Args:
        run_or_sweep: a directory.
        measures: what to measure.
        paths: where the caches are on this machine.

    Returns:
        How many measures could not be made; each is told in a sentence, and the others go on.

    Raises:
        FrostlineError: no measure was chosen, or there is no finished run.
    """
    from frostline.terminal import quieten

    if not measures:
        raise FrostlineError("No measure was chosen; choose some with measure=[layers,geometry].")
    quieten()
    finished = [folder for _, folder in job_folders(run_or_sweep) if read_manifest(folder).get("status") == "finished"]
    if not finished:
        raise FrostlineError(f"'{run_or_sweep}' holds no finished run to measure.")
    once, failed = Once(), 0
    for number, run_dir in enumerate(finished, 1):
        log.info("[%d/%d] %s", number, len(finished), run_dir)
        failed += measure_run(run_dir, measures, paths, once)
    if (run_or_sweep / "sweep.yaml").is_file():
        report(run_or_sweep)
    return failed


def measure_run(run_dir: Path, measures: dict[str, MeasureConfig], paths: PathsConfig, once: Once) -> int:
    """Write a finished run's ``measures/<name>.csv`` and figures.

    Args:
        run_dir: the run.
        measures: what to measure.
        paths: where the caches are.
        once: shares weights and sentences with other runs of this process.

    Returns:
        How many measures could not be made; each is told in a sentence.
    """
    failed = 0
    try:
        subject = load_subject(run_dir, paths, once)
    except FrostlineError as error:
        log.warning("'%s' cannot be measured: %s", run_dir, error)
        return len(measures)
    for name, config in measures.items():
        try:
            _write(subject, name, config)
        except FrostlineError as error:
            log.warning("measure=%s of '%s' failed: %s", name, run_dir, error)
            failed += 1
    return failed


def _write(subject: Subject, name: str, config: MeasureConfig) -> None:
    tables, figures = subject.run_dir / "measures", subject.run_dir / "figures"
    if isinstance(config, LayersMeasure):
        table, correct = measure_layers(subject, config)
        write_parquet(tables / "layers_test.parquet", correct)
        write_csv(tables / "layers.csv", table)
        draw_layers(table, figures / "layers")
    if isinstance(config, GeometryMeasure):
        table, projection = measure_geometry(subject, config)
        write_parquet(tables / "projection.parquet", projection)
        write_csv(tables / "geometry.csv", table)
        draw_geometry(table, subject.config.model.pooling, figures)
    if name in TABLES:
        make, draw = TABLES[name]
        table = make(subject, config)
        write_csv(tables / f"{name}.csv", table)
        draw(table, subject, figures / name)

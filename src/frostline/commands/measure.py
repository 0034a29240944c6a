"""``frostline measure``: what a finished run's encoder knows, and what training changed, as tables and figures."""

from __future__ import annotations

import logging
from pathlib import Path

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
from frostline.runs.directory import read_manifest
from frostline.runs.files import write_csv, write_parquet
from frostline.runs.sweep import job_folders
from frostline.schema import (
    AmplificationMeasure,
    AssociationMeasure,
    CounterfactualMeasure,
    ForgettingMeasure,
    GeometryMeasure,
    LayersMeasure,
    LikelihoodMeasure,
    MeasureConfig,
    OverfittingMeasure,
    PathsConfig,
)

log = logging.getLogger(__name__)


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
    from frostline.commands.train import quieten

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
            _write(subject, config)
        except FrostlineError as error:
            log.warning("measure=%s of '%s' failed: %s", name, run_dir, error)
            failed += 1
    return failed


def _write(subject: Subject, config: MeasureConfig) -> None:
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
    if isinstance(config, OverfittingMeasure):
        table = measure_overfitting(subject, config)
        write_csv(tables / "overfitting.csv", table)
        draw_overfitting(subject.run_dir, figures / "overfitting")
    if isinstance(config, ForgettingMeasure):
        table = measure_forgetting(subject, config)
        write_csv(tables / "forgetting.csv", table)
        draw_forgetting(table, figures / "forgetting")
    if isinstance(config, AssociationMeasure):
        table = measure_association(subject, config)
        write_csv(tables / "association.csv", table)
        draw_association(table, figures / "association")
    if isinstance(config, LikelihoodMeasure):
        write_csv(tables / "likelihood.csv", measure_likelihood(subject, config))
    if isinstance(config, CounterfactualMeasure):
        table = measure_counterfactual(subject, config)
        write_csv(tables / "counterfactual.csv", table)
        draw_counterfactual(table, figures / "counterfactual")
    if isinstance(config, AmplificationMeasure):
        table = measure_amplification(subject, config)
        write_csv(tables / "amplification.csv", table)
        draw_amplification(table, subject.config.data.skew or 0.5, figures / "amplification")

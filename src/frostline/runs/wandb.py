"""One Weights & Biases run per job: online when the user is logged in, else offline without asking anything."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from omegaconf import DictConfig

from frostline.runs.jobs import job_folders
from frostline.runs.sweep import read_config, value_of
from frostline.schema import AdamW, Config, LoggerConfig, Sgd

log = logging.getLogger(__name__)


def wandb_mode() -> str:
    """Return ``online``, ``offline`` or ``disabled``: what ``WANDB_MODE`` says, else whether credentials are at hand."""
    import wandb

    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    os.environ.setdefault("WANDB_SILENT", "true")
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def start_wandb(config: Config, run_dir: Path, depth: int, blocks: int, run_id: str, group: str | None) -> WandbLogger:
    """Start the job's W&B run in ``<run_dir>/wandb`` and return its Lightning logger; offline if its server cannot be reached.

    Args:
        config: the whole configuration, which becomes the run's config.
        run_dir: the run directory.
        depth: the effective frozen depth.
        blocks: of the encoder.
        run_id: the W&B id; a resumed job passes the same one and continues its run.
        group: of a sweep's runs; the configuration's ``logger.group`` goes before it.
    """
    import wandb

    assert isinstance(config.logger, LoggerConfig)
    tags = run_tags(config, depth, blocks)
    init = functools.partial(
        wandb.init,
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.logger.group or group,
        job_type=config.strategy.name,
        name=" ".join(tags),
        tags=tags,
        id=run_id,
        resume="allow",
        dir=str(run_dir),
        config={**asdict(config), "frozen_depth": depth},
        settings=wandb.Settings(silent=True, console="off"),
    )
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")  # seconds for what is not uploaded yet; it stays in the folder
    try:
        run = init(mode=wandb_mode())  # type: ignore[arg-type]
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        log.warning("Weights & Biases cannot be reached (%s); runs are logged offline, wandb sync uploads them later.", reason)
        os.environ["WANDB_MODE"] = "offline"  # the other jobs of this process need not try again
        wandb.teardown()  # the run that failed keeps its id
        run = init(mode="offline")
    for name, best in (("val/accuracy", "max"), ("val/macro_f1", "max"), ("val/loss", "min")):
        run.define_metric(name, summary=best)
    return WandbCurves(experiment=run, save_dir=str(run_dir))


class WandbCurves(WandbLogger):
    """Lightning's logger, but what goes wrong in it is warned of, once, and the run goes on: ``curves.csv`` has all curves."""

    lost = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of a step."""
        try:
            super().log_metrics(metrics, step)
        except Exception as error:
            if not self.lost:
                log.warning("Weights & Biases is lost (%s); the run goes on without it.", error)
            self.lost = True


def run_tags(config: Config, depth: int, blocks: int) -> list[str]:
    """Return what tells runs apart at a glance: strategy, depth, learning rate, seed."""
    rate = [f"lr {config.optimizer.lr:g}"] if isinstance(config.optimizer, AdamW | Sgd) else [config.optimizer.name]
    return [config.strategy.name, f"depth {depth} of {blocks}", *rate, f"seed {config.seed}"]


def finish_wandb(summary: dict[str, Any], exit_code: int, goes_on: bool = False) -> None:
    """Write the final metrics into the current run's summary and close it; a failed job shows as failed.

    Args:
        summary: the final metrics.
        exit_code: of the job.
        goes_on: whether the job will be resumed, and its W&B run with it; it shows as preempted.
    """
    wandb = sys.modules.get("wandb")  # not imported: no run was started
    if wandb is not None and wandb.run is not None:
        try:
            wandb.run.summary.update(summary)
            if goes_on:
                wandb.run.mark_preempting()
            wandb.finish(exit_code=exit_code)
        except Exception as error:  # its process died: that must cost no run
            log.warning("The W&B run was not closed: %s", error)


def log_report(sweep_dir: Path, page: Path, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure]) -> None:
    """Log a sweep's tables and figures, and its page as an artifact, as one W&B run of the sweep's group.

    Nothing is logged for runs that did not log there. Made anew, a report continues its W&B run. A server that cannot be reached
    is warned of, and costs the page nothing: it is written already.

    Args:
        sweep_dir: the sweep's directory, or a run's.
        page: ``report.html``.
        tables: by name, in full precision.
        figures: by name.
    """
    config = read_config(job_folders(sweep_dir)[0][1])
    if value_of(config, "logger.name") != "wandb" or wandb_mode() == "disabled":
        return
    import wandb

    try:
        _log_report(sweep_dir, config, page, tables, figures)
    except wandb.errors.Error as error:
        log.warning("The report was not logged to Weights & Biases: %s", error)


def _log_report(
    sweep_dir: Path, config: DictConfig, page: Path, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure]
) -> None:
    import wandb

    name = sweep_dir.resolve().name
    with wandb.init(
        project=value_of(config, "logger.project"),
        entity=value_of(config, "logger.entity"),
        group=value_of(config, "logger.group") or name,
        job_type="report",
        name=f"report {name}",
        id=f"report-{hashlib.sha256(str(sweep_dir.resolve()).encode()).hexdigest()[:12]}",
        resume="allow",
        dir=str(sweep_dir),
        mode=wandb_mode(),  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off"),
    ) as run:
        run.log({f"tables/{name}": wandb.Table(dataframe=_plain(table)) for name, table in tables.items()})
        run.log({f"figures/{name}": wandb.Image(figure) for name, figure in figures.items()})
        artifact = wandb.Artifact("report", type="report")
        artifact.add_file(str(page))
        run.log_artifact(artifact)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """A table of numbers and text only: what is mixed becomes text, what is missing NaN or nothing."""
    plain = table.copy()
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            plain[name] = column.map(lambda value: "" if pd.isna(value) else str(value))
        elif column.isna().any():
            plain[name] = column.astype("float64")
    return plain

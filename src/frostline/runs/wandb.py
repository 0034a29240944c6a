"""One Weights & Biases run per job: online when the user is logged in, else offline without asking anything."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from frostline.schema import AdamW, Config, LoggerConfig, Sgd


def wandb_mode() -> str:
    """Return ``online``, ``offline`` or ``disabled``: what ``WANDB_MODE`` says, else whether credentials are at hand."""
    import wandb

    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    os.environ.setdefault("WANDB_SILENT", "true")
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def start_wandb(config: Config, run_dir: Path, depth: int, blocks: int, run_id: str, group: str | None) -> WandbLogger:
    """Start the job's W&B run in ``<run_dir>/wandb`` and return its Lightning logger.

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
    run = wandb.init(
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
        mode=wandb_mode(),  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off"),
    )
    for name, best in (("val/accuracy", "max"), ("val/macro_f1", "max"), ("val/loss", "min")):
        run.define_metric(name, summary=best)
    return WandbLogger(experiment=run, save_dir=str(run_dir))


def run_tags(config: Config, depth: int, blocks: int) -> list[str]:
    """Return what tells runs apart at a glance: strategy, depth, learning rate, seed."""
    rate = [f"lr {config.optimizer.lr:g}"] if isinstance(config.optimizer, AdamW | Sgd) else [config.optimizer.name]
    return [config.strategy.name, f"depth {depth} of {blocks}", *rate, f"seed {config.seed}"]


def finish_wandb(summary: dict[str, Any], exit_code: int) -> None:
    """Write the final metrics into the current run's summary and close it; a failed job shows as failed."""
    wandb = sys.modules.get("wandb")  # not imported: no run was started
    if wandb is not None and wandb.run is not None:
        wandb.run.summary.update(summary)
        wandb.finish(exit_code=exit_code)

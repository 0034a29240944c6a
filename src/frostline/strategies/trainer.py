"""Lightning's Trainer as Frostline uses it, and the two things that its checkpoints lack."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy
from numpy.typing import NDArray
from torch import Tensor

from frostline.interruption import take_signals
from frostline.runs.curves import CurvesLogger
from frostline.runs.files import replace_atomically
from frostline.runs.processes import launched, local_rank
from frostline.schema import AdamW, Config, Lbfgs, Sgd
from frostline.strategies.predict import in_order
from frostline.strategies.sharded import ShardedOnCpu


def build_trainer(config: Config, run_dir: Path, loggers: list[Logger], callbacks: list[Callback]) -> Trainer:
    """Return the Trainer of a run; after every epoch it writes ``resume/last.ckpt``, the state to resume from.

    Args:
        config: a valid configuration.
        run_dir: the run directory.
        loggers: where curves go.
        callbacks: further ones; they come first, so that the checkpoint holds their state after the epoch.
    """
    callbacks = list(callbacks)
    if config.callbacks.early_stopping_patience is not None:
        patience = config.callbacks.early_stopping_patience
        callbacks.append(EarlyStopping(config.callbacks.monitor, mode=config.callbacks.mode, patience=patience))
    show_progress = config.trainer.progress_bar and sys.stderr.isatty()
    if show_progress:
        callbacks.append(TQDMProgressBar(leave=False))
    callbacks.append(OwnSignals())
    callbacks.append(ModelCheckpoint(run_dir / "resume", filename="last", enable_version_counter=False))
    on_processors = config.trainer.strategy == "fsdp" and config.trainer.accelerator == "cpu"
    return Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=ShardedOnCpu() if on_processors else config.trainer.strategy,
        precision=config.trainer.precision,  # type: ignore[arg-type]
        max_epochs=config.trainer.max_epochs,
        accumulate_grad_batches=config.trainer.accumulate_grad_batches,
        gradient_clip_val=config.optimizer.gradient_clip if isinstance(config.optimizer, AdamW | Sgd) else None,
        deterministic=config.trainer.deterministic,
        logger=loggers,
        callbacks=callbacks,
        log_every_n_steps=1,
        reload_dataloaders_every_n_epochs=int(config.data.batch_tokens is not None),  # their number of batches varies
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batches are shared out by the DataModule itself
        enable_progress_bar=show_progress,
        enable_model_summary=False,
        default_root_dir=str(run_dir),
        plugins=[AtomicCheckpoints(), *cluster()],
    )


def cluster() -> list[ClusterEnvironment]:
    """Return who starts the processes of a run under SLURM; elsewhere Lightning finds out by itself.

    A single task starts the others itself, which Lightning would leave to srun. Nothing is requeued by Lightning.
    """
    if (together := launched()) is not None and together.by == "srun":
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()] if together is None and "SLURM_JOB_ID" in os.environ else []


class OwnSignals(Callback):
    """Lets a signal end a run on several devices in order, as it ends any other.

    Lightning would broadcast a SIGTERM from within the signal's handler, while other collectives are under way, and could hang.
    The processes that Lightning starts end with the main one.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        if trainer.world_size > 1:
            take_signals(ignore_sigterm=launched() is None and local_rank() > 0)  # LOCAL_RANK is 0 in the main process by now


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints to a temporary name first, so that neither a kill nor a full disk leaves half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a whole checkpoint."""
        with replace_atomically(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def is_readable(checkpoint: Path) -> bool:
    """Whether a checkpoint is there, whole to the last byte, and of tensors and plain values only; nothing in it is executed."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:  # torch itself does not look at its checksums
            if archive.testzip() is not None:
                return False
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception:  # of zip files, pickles or tensors, whatever the damage is
        return False
    return isinstance(content, dict) and {"state_dict", "loops", "callbacks", "optimizer_states"} <= content.keys()


class KeepBest(Callback):
    """Keeps the trained weights of the epoch that is best on validation, and carries them through a resume.

    L-BFGS has no best epoch: its last weights are the solution.

    Args:
        module: the module before training; only what trains in it is kept.
        config: says which metric decides.

    Attributes:
        state: the best epoch's trained tensors, by their name in the module, on the CPU.
        score: its validation metric.
        logits: its logits of the validation split, as :func:`frostline.strategies.predict.predict` returns them; None where
            several devices share the split, and if the run was resumed after that epoch.
    """

    def __init__(self, module: LightningModule, config: Config):
        self.monitor, self.mode = config.callbacks.monitor, config.callbacks.mode
        self.keeps_last = isinstance(config.optimizer, Lbfgs)
        self.names = {name for name, p in module.named_parameters() if p.requires_grad}
        self.score: float | None = None
        self.state: dict[str, Tensor] = {}
        self.logits: NDArray[np.float64] | None = None
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Note the logits of one batch."""
        if isinstance(trainer.strategy, SingleDeviceStrategy):
            self._batches.append((batch["index"], outputs))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep this epoch's weights if they are the best so far; of equals, the first."""
        score = trainer.callback_metrics[self.monitor].item()
        sign = 1 if self.mode == "max" else -1
        if self.score is None or self.keeps_last or sign * score > sign * self.score:
            whole = trainer.strategy.lightning_module_state_dict()  # gathers what is sharded, so every rank must ask
            self.score, self.state = score, {k: v.detach().cpu().clone() for k, v in whole.items() if k in self.names}
            scored = sum(len(rows) for rows, _ in self._batches)
            self.logits = in_order(self._batches, scored) if self._batches else None
        self._batches.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"score": self.score, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best epoch so far from a checkpoint."""
        self.score, self.state = state_dict["score"], state_dict["state"]


class Resume(Callback):
    """What Lightning does not restore of a killed run: its curves up to the last checkpoint, its time, that it was to stop early.

    Attributes:
        seconds: counted so far, over all the processes that the run was resumed in.
    """

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Drop from the curves what was logged after the checkpoint that training starts from."""
        self._since = time.monotonic()
        for logger in trainer.loggers:
            if isinstance(logger, CurvesLogger):
                logger.rewind(trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note whether this was the last epoch, by early stopping."""
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Train no further if it was; Lightning would, by one epoch."""
        trainer.should_stop = checkpoint.get("stopped", False)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop the clock."""
        self.count()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        self.count()
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the time from a checkpoint."""
        self.seconds = state_dict["seconds"]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave what is done within out of the time."""
        self.count()
        yield
        self._since = time.monotonic()

    def count(self) -> None:
        """Add the time since the clock was started or last read."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

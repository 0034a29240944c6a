"""What all strategies have in common: a pooled representation, a linear head, and how they are trained and scored."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from frostline.errors import DivergedError
from frostline.optim import build_optimizer, build_schedule
from frostline.schema import Lbfgs, OptimizerConfig, SchedulerConfig

LOG_EVERY = 50  # steps


class Classifier(LightningModule):
    """A linear classifier on a pooled representation of a sentence.

    A subclass says what the representation is (:meth:`represent`) and what trains below the head
    (:meth:`trained_below`).

    Args:
        width: of the representation.
        classes: how many.
        optimizer: how to update what trains.
        scheduler: how the learning rate changes.
        seed: the run's seed: it draws the head's initial weights and, with the step, all dropout.
    """

    def __init__(self, width: int, classes: int, optimizer: OptimizerConfig, scheduler: SchedulerConfig, seed: int):
        super().__init__()
        self.head = nn.Linear(width, classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        self.optimizer_config, self.scheduler_config, self.seed = optimizer, scheduler, seed
        self.steps: list[tuple[int, Tensor, float | None]] = []  # step, loss and rate, not logged yet
        self.label_smoothing = 0.0
        self.matrices: list[nn.Parameter] | None = None
        self.strict_loading = False  # a Lightning checkpoint holds what trains, not the frozen blocks
        self.validation = MetricCollection(
            {
                "val/accuracy": MulticlassAccuracy(classes, average="micro"),
                "val/macro_f1": MulticlassF1Score(classes, average="macro"),
            }
        )
        self.validation_loss = MeanMetric()

    def represent(self, batch: dict[str, Any]) -> Tensor:
        """Return the representation of a batch's sentences, ``[batch, width]``."""
        raise NotImplementedError

    def trained_below(self) -> list[tuple[str, nn.Parameter, int]]:
        """Return name in the pretrained model, tensor and height (blocks above its own) of what trains below the head."""
        return []

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Return the logits of a batch, ``[batch, classes]``."""
        logits: Tensor = self.head(self.represent(batch))
        return logits

    def refuse_diverged(self, split: str, loss: float, step: int) -> None:
        """End the run if a loss is no number any more.

        Raises:
            DivergedError: saying where.
        """
        if not math.isfinite(loss):
            raise DivergedError(
                f"The {split} loss became {loss} in epoch {self.current_epoch + 1}, step {step}: the run diverged; lower "
                "optimizer.lr."
            )

    @property
    def is_distributed(self) -> bool:
        """Whether several devices share the run."""
        return self.trainer.world_size > 1

    @property
    def is_sharded(self) -> bool:
        """Whether every device holds a part of the weights only."""
        return isinstance(self.trainer.strategy, FSDPStrategy)

    def training_loss(self, logits: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the mean cross-entropy over the whole batch (all devices), from this device's ``logits`` [part, classes].

        Of several batches a step: the batch's share of the mean over the step, times their number, by which Lightning divides.
        """
        total = F.cross_entropy(logits.float(), batch["labels"], reduction="sum", label_smoothing=self.label_smoothing)
        # DDP averages gradients over devices; the devices' parts of a batch need not be equally long.
        mean: Tensor = total * (self.trainer.world_size / batch["total"])
        return mean

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Return what is minimised."""
        return self.training_loss(self(batch), batch)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return a batch's loss, and keep it for the curves."""
        if len(self.steps) >= LOG_EVERY and self.steps[-1][0] < self.global_step:
            self.log_steps()
        loss = self.loss(batch)
        groups = [] if isinstance(self.optimizer_config, Lbfgs) else self.trainer.optimizers[0].param_groups
        self.steps.append((self.global_step, loss.detach(), max((group["lr"] for group in groups), default=None)))
        if self.trainer.is_last_batch:  # before validation, which may fail for the same reason
            self.log_steps()
        return loss

    def log_steps(self) -> None:
        """Log the losses kept since the last time; before, they stay on their device, which need not wait for us.

        A row an optimizer step, whose loss is the mean over all its sentences.

        Raises:
            DivergedError: a loss is not a number, or infinite.
        """
        if not self.steps:
            return
        losses = torch.stack([loss.float() for _, loss, _ in self.steps])
        if self.is_distributed:
            losses = self.trainer.strategy.reduce(losses, reduce_op="mean")
        of_batches = zip(self.steps, losses.tolist(), strict=True)
        for (step, rate), batches in groupby(of_batches, key=lambda of_batch: (of_batch[0][0], of_batch[0][2])):
            loss = sum(loss for _, loss in batches) / self.trainer.accumulate_grad_batches
            self.refuse_diverged("training", loss, step)
            metrics = {"train/loss": loss, "epoch": self.current_epoch} | ({} if rate is None else {"optimizer/lr": rate})
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=step)
        self.log("train/loss", losses[-1], prog_bar=True, logger=False, batch_size=1)
        self.steps.clear()

    def on_train_epoch_end(self) -> None:
        """Log what is left of the epoch."""
        self.log_steps()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """Gather the metrics over all sentences, unaveraged over batches of unequal size; return the logits."""
        if math.isinf(batch["total"]):
            return None  # a filler: another device has counted this sentence
        logits: Tensor = self(batch)
        self.validation.update(logits.float(), batch["labels"])
        self.validation_loss.update(F.cross_entropy(logits.float(), batch["labels"]), weight=len(batch["labels"]))
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics, once per epoch."""
        self.refuse_diverged("validation", self.validation_loss.compute().item(), self.global_step)
        metrics = {"val/loss": self.validation_loss.compute(), **self.validation.compute()}
        self.log_dict(metrics, prog_bar=True, sync_dist=self.is_distributed)
        self.validation_loss.reset()
        self.validation.reset()

    def on_train_epoch_start(self) -> None:
        """Put what trains into train mode: transformers loads models in eval mode, and Lightning would keep that."""
        self.train()

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Make all dropout a function of (seed, epoch, batch, device), so that a resumed run draws the same."""
        state = np.random.SeedSequence([self.seed, self.current_epoch, batch_index, self.global_rank])
        torch.manual_seed(int(state.generate_state(1)[0]))

    def setup(self, stage: str) -> None:
        """Note which weights are matrices, before FSDP makes all of them one-dimensional."""
        self.matrices = [p for p in self.parameters() if p.ndim > 1]

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what trains, and only that, with its schedule."""
        trained = [(p, height) for _, p, height in self.trained_below()] + [(p, 0) for p in self.head.parameters()]
        optimizer = build_optimizer(self.optimizer_config, trained, self.trainer.precision != "16-mixed", self.matrices)
        steps = int(self.trainer.estimated_stepping_batches)
        data: Any = getattr(self.trainer, "datamodule", None)
        if getattr(data, "batch_tokens", None) is not None:  # Lightning takes all epochs to be as long as the first
            steps = data.training_steps(self.trainer.max_epochs, self.trainer.accumulate_grad_batches)
        schedule = build_schedule(self.scheduler_config, optimizer, steps)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm of all gradients; Lightning refuses to under FSDP, and with a fused optimizer in mixed precision."""
        if gradient_clip_val is not None and self.is_sharded:
            sharded: Any = self.trainer.strategy.model
            sharded.clip_grad_norm_(gradient_clip_val)
        elif gradient_clip_val is not None and self.trainer.precision == "bf16-mixed":
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frozen blocks out of Lightning's checkpoint."""
        # With duplicates: what every block shares stands in the prefix and in the suffix.
        frozen = {name for name, p in self.named_parameters(remove_duplicate=False) if not p.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}

    def trained_state(self) -> dict[str, Tensor]:
        """Return everything that training determined, by name: the head, and the encoder's weights by pretrained name."""
        state: dict[str, Tensor] = {f"head.{name}": p for name, p in self.head.named_parameters()}
        return state | {f"encoder.{name}": p for name, p, _ in self.trained_below()}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Copy back what :meth:`trained_state` returned.

        Raises:
            ValueError: names or shapes differ.
        """
        own = self.trained_state()
        if own.keys() != state.keys() or any(own[k].shape != state[k].shape for k in own):
            raise ValueError("the checkpoint's tensors are not those that this strategy trains")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def parameter_counts(self) -> tuple[int, int]:
        """Return how many parameters train and how many there are in all."""
        trained = sum(p.numel() for p in self.trained_state().values() if isinstance(p, nn.Parameter))
        return trained, sum(p.numel() for p in self.parameters())

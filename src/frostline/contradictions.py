"""Keys of a configuration that contradict each other."""

from __future__ import annotations

from collections.abc import Iterable

from frostline.errors import FrostlineError
from frostline.ranges import MONITORED
from frostline.schema import (
    BitFitStrategy,
    Config,
    Constant,
    FilesData,
    FrozenStrategy,
    GradualStrategy,
    Lbfgs,
    LoraStrategy,
    LpFtStrategy,
    PackagedData,
    RandomModel,
)

# What Frostline's own columns of sentences, predictions.parquet and dynamics.parquet are called.
TAKEN = (
    *("split", "index", "text", "text_pair", "label", "prediction", "unknown_words"),
    *("confidence", "variability", "correctness", "forgetting_events", "flipped"),
    *("group", "clean_label", "marker", "unmarked", "cell"),
)


def check_contradictions(config: Config) -> None:
    """Refuse keys that contradict each other.

    Raises:
        FrostlineError: saying which, and what to do.
    """
    data, model, strategy, optimizer, trainer = config.data, config.model, config.strategy, config.optimizer, config.trainer
    left = 1 - data.validation_share - data.test_share
    _require(left > 0, "data.validation_share and data.test_share leave no sentence for training.")
    is_mixed = isinstance(data, PackagedData) and data.domain == "mixed"
    _require(not (is_mixed and data.skew is not None), "data.skew is drawn from one domain; leave out data.domain=mixed.")
    _require(
        data.mitigation is None or data.skew is not None, "data.mitigation takes a skew out again, but data.skew is null; set it."
    )
    if isinstance(model, RandomModel):
        fits = model.width % model.heads == 0
        _require(fits, f"model.width ({model.width}) must be a multiple of model.heads ({model.heads}).")
    _check_remedies(config)
    if isinstance(optimizer, Lbfgs):
        _require(
            isinstance(strategy, FrozenStrategy),
            f"optimizer=lbfgs solves a convex problem and fits strategy=frozen only, not strategy={strategy.name}; "
            "use optimizer=adamw.",
        )
        _require(
            data.batch_size == "full",
            f"optimizer=lbfgs needs the whole training split in one batch, but data.batch_size is {data.batch_size}; "
            "leave data.batch_size out or use optimizer=adamw.",
        )
        _require(
            isinstance(config.scheduler, Constant),
            f"optimizer=lbfgs has no learning rate to schedule; use scheduler=constant, not {config.scheduler.name}.",
        )
        _require(
            trainer.devices == trainer.num_nodes == 1,
            "optimizer=lbfgs runs on one device; use trainer.devices=1 and trainer.num_nodes=1, or optimizer=adamw.",
        )
        _require(
            trainer.accumulate_grad_batches == 1,
            "optimizer=lbfgs takes the whole split at once; use trainer.accumulate_grad_batches=1.",
        )
    _require(
        data.batch_tokens is None or data.batch_size != "full",
        "data.batch_tokens and the full batch of optimizer=lbfgs exclude each other; leave data.batch_tokens out.",
    )
    _require(
        trainer.strategy != "fsdp" or trainer.accelerator != "auto",
        "trainer.strategy=fsdp must know what it shards over; use trainer=fsdp for GPUs, or trainer=fsdp_cpu.",
    )
    _require(
        not (config.callbacks.dynamics and trainer.strategy == "fsdp"),
        "callbacks.dynamics scores sentences on each device alone, but trainer.strategy=fsdp shards the weights; use "
        "trainer.strategy=ddp.",
    )
    if isinstance(data, FilesData):
        taken = [name for name in data.keep_columns if name in TAKEN or name.startswith(("logit_", "epoch_"))]
        _require(
            not taken,
            f"data.keep_columns: Frostline's tables have a column {', '.join(map(repr, taken))} of their own; rename it in your "
            "file.",
        )
    monitor, mode = config.callbacks.monitor, config.callbacks.mode
    _require(mode == MONITORED[monitor], f"callbacks.mode is '{mode}', but must be '{MONITORED[monitor]}' for {monitor}.")


def _check_remedies(config: Config) -> None:
    strategy, remedies = config.strategy, config.remedy
    needs_whole = [name for name in remedies if name not in ("dropout", "label_smoothing", "r_drop")]
    is_split = isinstance(strategy, LoraStrategy | BitFitStrategy | GradualStrategy | FrozenStrategy)
    _require(
        config.trainer.strategy != "fsdp" or not (needs_whole or is_split),
        f"trainer.strategy=fsdp shards the weights, which {_listed(needs_whole) or f'strategy={strategy.name}'} needs whole; use "
        "trainer.strategy=ddp.",
    )
    if not remedies:
        return
    _require(
        not isinstance(strategy, FrozenStrategy),
        f"{_listed(remedies)} changes how the encoder trains, but strategy=frozen trains none of it; choose another strategy.",
    )
    for kind, refused, why in (
        (LoraStrategy, ("mixout", "l2_sp", "ewc", "reinit", "wise_ft"), "trains updates and leaves the pretrained weights alone"),
        (BitFitStrategy, ("mixout", "reinit"), "trains no weight matrix"),
        (LpFtStrategy, ("reinit",), "fits its probe on the blocks as they were pretrained"),
    ):
        found = [name for name in refused if name in remedies]
        _require(
            not (isinstance(strategy, kind) and found), f"{_listed(found)} does not fit strategy={strategy.name}, which {why}."
        )
    for name in ("mixout", "l2_sp", "ewc", "wise_ft"):
        _require(
            not {name, "reinit"} <= remedies.keys(),
            f"remedy={name} holds on to the pretrained weights, which remedy=reinit throws away; leave one of them out.",
        )


def _listed(remedies: Iterable[str]) -> str:
    return ", ".join(f"remedy={name}" for name in remedies)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise FrostlineError(sentence)

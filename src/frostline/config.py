"""What a valid configuration is.

Hydra composes ``conf/`` into an untyped tree. :func:`validate` turns that tree, or a snapshot read back from a run
directory, into the dataclasses of :mod:`frostline.schema`, or raises one sentence that names the key and the nearest valid
one. The meaning of every key stands beside it in ``conf/``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from frostline.errors import FrostlineError, choices, nearest
from frostline.schema import (
    SCHEMAS,
    AdamW,
    Config,
    Constant,
    FilesData,
    FrozenStrategy,
    HubData,
    HubModel,
    Lbfgs,
    PathsConfig,
    Sgd,
    Warmup,
)

POOLINGS = ("cls", "mean", "max", "last")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
MONITORED = {"val/accuracy": "max", "val/macro_f1": "max", "val/loss": "min"}

# What does not change a run's result does not change its identity.
NOT_IDENTITY = ("paths", "logger", "ckpt_path")


def validate(tree: DictConfig) -> Config:
    """Check a composed configuration against the schema.

    Args:
        tree: the configuration as Hydra composed it or as ``config.yaml`` of a run directory holds it. Interpolations are
            resolved here; a ``hydra`` node is ignored.

    Returns:
        The typed configuration, with file paths made absolute.

    Raises:
        FrostlineError: an unknown or missing key, a wrong type, a value outside its range, or keys that contradict each other.
    """
    known = {f.name for f in fields(Config)}
    top = {str(k): v for k, v in tree.items_ex(resolve=False) if k != "hydra"}
    for key in top:
        if key not in known:
            raise FrostlineError(
                f"Unknown configuration key '{key}'{nearest(key, known) or f'; valid keys are {choices(sorted(known))}.'}"
            )
    for key in sorted(known - set(top)):
        raise FrostlineError(f"The configuration has no '{key}'; choose one with {key}=… (see frostline train --help).")
    config = Config(
        **{name: _typed(name, tree, SCHEMAS[name]) for name in SCHEMAS},
        seed=_scalar(tree, "seed", int),
        test=_scalar(tree, "test", bool),
        ckpt_path=_scalar(tree, "ckpt_path", str, optional=True),
    )
    _check(config)
    _make_paths_absolute(config)
    return config


def read_paths(tree: DictConfig) -> PathsConfig:
    """Return the ``paths`` group of any command's configuration, made absolute.

    Raises:
        FrostlineError: the group is not valid.
    """
    paths: PathsConfig = _typed("paths", tree, SCHEMAS["paths"])
    return PathsConfig(_absolute(paths.output_dir), _absolute(paths.cache_dir))


def identity(config: Config) -> str:
    """Return the run's identity: a hash of everything in the configuration that can change its result."""
    content = {k: v for k, v in asdict(config).items() if k not in NOT_IDENTITY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def to_yaml(config: Config) -> str:
    """Return the fully resolved configuration as YAML, enough by itself to run it again."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


# --- internals ---------------------------------------------------------------------------------------------------------


def _typed(group: str, tree: DictConfig, schema: tuple[str, dict[str, type]]) -> Any:
    key, classes = schema
    try:
        node = OmegaConf.create(OmegaConf.to_container(tree[group], resolve=True))
    except OmegaConfBaseException as error:
        raise _unresolved(error) from None
    if not isinstance(node, DictConfig):
        raise FrostlineError(f"'{group}' must be a group of keys, not {tree[group]!r}; choose one with {group}=<choice>.")
    choice = node.get(key) if key else ""
    if choice not in classes:
        raise FrostlineError(f"{group}.{key} is {choice!r}, but must be {choices(classes)}{nearest(str(choice), classes)}")
    cls = classes[choice]
    return _merge(group, cls, node)


def _merge(group: str, cls: type, node: DictConfig) -> Any:
    valid = [f"{group}.{f.name}" for f in fields(cls)]
    for name in map(str, node):
        if f"{group}.{name}" not in valid:
            hint = nearest(f"{group}.{name}", valid) or f"; valid keys are {', '.join(valid)}."
            raise FrostlineError(f"Unknown configuration key '{group}.{name}'{hint}")
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), node))
    except MissingMandatoryValue as error:
        key = f"{group}.{_key(error)}"
        raise FrostlineError(f"'{key}' has no value; give it as {key}=….") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise FrostlineError(f"'{group}.{_key(error)}' has a value of the wrong type: {reason}.") from None
    return merged


def _key(error: OmegaConfBaseException) -> str:
    return str(error.full_key or error.key)


def _unresolved(error: OmegaConfBaseException) -> FrostlineError:
    reason = str(error).splitlines()[0]
    if isinstance(error, InterpolationResolutionError | ConfigKeyError):
        return FrostlineError(f"The configuration key '{error.full_key}' cannot be resolved: {reason}.")
    return FrostlineError(f"The configuration is not valid: {reason}.")


def _scalar(tree: DictConfig, key: str, kind: type, optional: bool = False) -> Any:
    value = tree[key]
    if (optional and value is None) or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise FrostlineError(f"'{key}' must be of type {kind.__name__}, not {value!r}.")


def _check(config: Config) -> None:
    """Ranges and contradictions that types cannot say."""
    data, model, strategy, optimizer = config.data, config.model, config.strategy, config.optimizer
    _require(
        model.pooling in POOLINGS, f"model.pooling is '{model.pooling}', but must be {choices(POOLINGS)}", model.pooling, POOLINGS
    )
    _require(data.max_length >= 4, f"data.max_length is {data.max_length}, but must be at least 4 tokens.")
    for key in ("validation_share", "test_share"):
        _require(0 < getattr(data, key) < 1, f"data.{key} is {getattr(data, key)}, but must lie between 0 and 1.")
    _require(
        data.validation_share + data.test_share < 1, "data.validation_share and data.test_share leave no sentence for training."
    )
    _check_size("data.train_size", data.train_size)
    batch = data.batch_size
    _require(
        batch == "full" or (isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1),
        f"data.batch_size is {batch!r}, but must be a whole number of at least 1, or 'full'.",
    )
    if isinstance(optimizer, Lbfgs):
        _require(
            isinstance(strategy, FrozenStrategy),
            f"optimizer=lbfgs solves a convex problem and fits strategy=frozen only, not strategy={strategy.name}; "
            "use optimizer=adamw.",
        )
        _require(
            batch == "full",
            f"optimizer=lbfgs needs the whole training split in one batch, but data.batch_size is {batch}; "
            "leave data.batch_size out or use optimizer=adamw.",
        )
        _require(optimizer.C is None or optimizer.C > 0, f"optimizer.C is {optimizer.C}, but must be greater than 0.")
        _require(
            bool(optimizer.C_grid) and min(optimizer.C_grid) > 0,
            "optimizer.C_grid must hold at least one value, all greater than 0.",
        )
        _require(
            isinstance(config.scheduler, Constant),
            f"optimizer=lbfgs has no learning rate to schedule; use scheduler=constant, not {config.scheduler.name}.",
        )
        _require(config.trainer.devices == 1, "optimizer=lbfgs runs on one device; use trainer.devices=1.")
        _require(
            config.trainer.accumulate_grad_batches == 1,
            "optimizer=lbfgs takes the whole split at once; use trainer.accumulate_grad_batches=1.",
        )
    if isinstance(optimizer, AdamW | Sgd):
        _require(optimizer.lr > 0, f"optimizer.lr is {optimizer.lr}, but must be greater than 0.")
        _require(optimizer.weight_decay >= 0, f"optimizer.weight_decay is {optimizer.weight_decay}, but must not be negative.")
        _require(0 < optimizer.layer_decay <= 1, f"optimizer.layer_decay is {optimizer.layer_decay}, but must lie in (0, 1].")
        _require(
            optimizer.gradient_clip is None or optimizer.gradient_clip > 0,
            "optimizer.gradient_clip must be null or greater than 0.",
        )
    if isinstance(optimizer, AdamW):
        _require(
            len(optimizer.betas) == 2 and all(0 <= b < 1 for b in optimizer.betas),
            "optimizer.betas must be two numbers in [0, 1).",
        )
    if isinstance(strategy, FrozenStrategy):
        layer = strategy.layer
        _require(
            layer in ("best", "last") or (isinstance(layer, int) and not isinstance(layer, bool)),
            f"strategy.layer is {layer!r}, but must be a layer number, 'last' or 'best'.",
        )
    if isinstance(config.scheduler, Warmup):
        _require(0 <= config.scheduler.warmup_share < 1, "scheduler.warmup_share must lie in [0, 1).")
    trainer = config.trainer
    _require(
        trainer.precision in PRECISIONS,
        f"trainer.precision is '{trainer.precision}', but must be {choices(PRECISIONS)}",
        trainer.precision,
        PRECISIONS,
    )
    _require(trainer.max_epochs >= 1, f"trainer.max_epochs is {trainer.max_epochs}, but must be at least 1.")
    _require(trainer.accumulate_grad_batches >= 1, "trainer.accumulate_grad_batches must be at least 1.")
    monitor = config.callbacks.monitor
    _require(monitor in MONITORED, f"callbacks.monitor is '{monitor}', but must be {choices(MONITORED)}", monitor, MONITORED)
    _require(config.callbacks.mode == MONITORED[monitor], f"callbacks.mode must be '{MONITORED[monitor]}' for {monitor}.")
    patience = config.callbacks.early_stopping_patience
    _require(patience is None or patience >= 1, "callbacks.early_stopping_patience must be null or at least 1 epoch.")


def _require(holds: bool, sentence: str, word: str = "", valid: Any = ()) -> None:
    if not holds:
        raise FrostlineError(sentence + nearest(word, valid) if word else sentence)


def _check_size(key: str, size: Any) -> None:
    is_count = isinstance(size, int) and not isinstance(size, bool) and size >= 2
    is_share = isinstance(size, float) and 0 < size < 1
    if not (size is None or is_count or is_share):
        raise FrostlineError(f"{key} is {size!r}, but must be null (all), a count of at least 2, or a share between 0 and 1.")


def _make_paths_absolute(config: Config) -> None:
    """A snapshot must mean the same files wherever it is read back from."""
    data, model = config.data, config.model
    if isinstance(data, FilesData):
        for key in ("train", "validation", "test"):
            if getattr(data, key) is not None:
                setattr(data, key, _absolute(getattr(data, key)))
    if isinstance(data, HubData) and Path(data.path).expanduser().is_dir():
        data.path = _absolute(data.path)
    if isinstance(model, HubModel) and Path(model.name).expanduser().is_dir():
        model.name = _absolute(model.name)
    config.paths = PathsConfig(_absolute(config.paths.output_dir), _absolute(config.paths.cache_dir))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())

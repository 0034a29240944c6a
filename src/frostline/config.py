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
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from frostline.contradictions import check_contradictions
from frostline.errors import FrostlineError, choices, nearest
from frostline.processor import resolve_precision
from frostline.ranges import check_ranges
from frostline.schema import (
    MEASURES,
    REMEDIES,
    SCHEMAS,
    ClaimConfig,
    Config,
    FilesData,
    HubData,
    HubModel,
    MeasureConfig,
    PathsConfig,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)

# What does not change a run's result does not change its identity.
NOT_IDENTITY = ("paths", "logger", "ckpt_path", "measure", "claim")


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
    top = {"measure": {}, "remedy": {}, "claim": None} | top  # snapshots of earlier versions have none of these
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
        measure=read_measures(tree),
        remedy=_several("remedy", tree, REMEDIES),
        claim=None if tree.get("claim") is None else _typed("claim", tree, ("", {"": ClaimConfig})),
    )
    check_ranges(config)
    config.trainer.precision = resolve_precision(config.trainer.precision, config.trainer.accelerator)
    check_contradictions(config)
    _make_paths_absolute(config)
    return config


def read_paths(tree: DictConfig) -> PathsConfig:
    """Return the ``paths`` group of any command's configuration, made absolute.

    Raises:
        FrostlineError: the group is not valid.
    """
    paths: PathsConfig = _typed("paths", tree, SCHEMAS["paths"])
    return PathsConfig(_absolute(paths.output_dir), _absolute(paths.cache_dir))


def read_measures(tree: DictConfig) -> dict[str, MeasureConfig]:
    """Return the chosen measures of any command's configuration.

    Raises:
        FrostlineError: a measure that does not exist, or whose keys are not valid.
    """
    measures = _several("measure", tree, MEASURES)
    check_ranges({"measure": measures})
    return measures


def read_options(tree: DictConfig, options: type[Options]) -> Options:
    """Return a command's own keys (those of the dataclass ``options``) of its configuration.

    Raises:
        FrostlineError: a key without a value, or of the wrong type.
    """
    try:
        node = OmegaConf.masked_copy(tree, [f.name for f in fields(options)])
        return cast("Options", OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), node)))
    except MissingMandatoryValue as error:
        raise FrostlineError(f"'{_key(error)}' has no value; give it as {_key(error)}=….") from None
    except OmegaConfBaseException as error:
        raise FrostlineError(f"'{_key(error)}' has a value of the wrong type: {str(error).splitlines()[0]}.") from None


def identity(config: Config) -> str:
    """Return the run's identity: a hash of everything in the configuration that can change its result."""
    content = {k: v for k, v in asdict(config).items() if k not in NOT_IDENTITY}
    del content["cache"]["max_size"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def to_yaml(config: Config) -> str:
    """Return the fully resolved configuration as YAML, enough by itself to run it again."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


# --- internals ---------------------------------------------------------------------------------------------------------


def _typed(group: str, tree: DictConfig, schema: tuple[str, dict[str, type]]) -> Any:
    key, classes = schema
    try:
        node = OmegaConf.create(OmegaConf.to_container(OmegaConf.select(tree, group), resolve=True))
    except OmegaConfBaseException as error:
        raise _unresolved(error) from None
    if not isinstance(node, DictConfig):
        raise FrostlineError(f"'{group}' must be a group of keys, not {tree.get(group)!r}; choose one with {group}=<choice>.")
    choice = node.get(key) if key else ""
    if choice not in classes:
        raise FrostlineError(f"{group}.{key} is {choice!r}, but must be {choices(classes)}{nearest(str(choice), classes) or '.'}")
    cls = classes[choice]
    return _merge(group, cls, node)


def _several(group: str, tree: DictConfig, classes: dict[str, type]) -> dict[str, Any]:
    """Read a group of which several choices may be made, in the order of ``classes``."""
    chosen = tree.get(group) or {}
    for name in chosen:
        if name not in classes:
            raise FrostlineError(f"There is no {group} '{name}', only {choices(classes)}{nearest(str(name), classes) or '.'}")
    return {name: _typed(f"{group}.{name}", tree, ("", {"": classes[name]})) for name in classes if name in chosen}


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

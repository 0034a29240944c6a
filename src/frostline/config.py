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

import frostline.trust  # noqa: F401  what interpolations may read
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
    PlanOptions,
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
    claim = _resolved(tree, "claim") if "claim" in tree else None
    config = Config(
        **{name: _typed(name, _resolved(tree, name), SCHEMAS[name]) for name in SCHEMAS},
        seed=_scalar(tree, "seed", int),
        test=_scalar(tree, "test", bool),
        ckpt_path=_scalar(tree, "ckpt_path", str, optional=True),
        measure=read_measures(tree),
        remedy=_several("remedy", tree, REMEDIES),
        claim=None if claim is None else _typed("claim", claim, ("", {"": ClaimConfig})),
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
    paths: PathsConfig = _typed("paths", _resolved(tree, "paths"), SCHEMAS["paths"])
    return PathsConfig(_absolute(paths.output_dir), _absolute(paths.cache_dir))


def read_measures(tree: DictConfig) -> dict[str, MeasureConfig]:
    """Return the chosen measures of any command's configuration.

    Raises:
        FrostlineError: a measure that does not exist, or whose keys are not valid.
    """
    measures = _several("measure", tree, MEASURES)
    check_ranges({"measure": measures})
    return measures


def read_plan(tree: DictConfig) -> PlanOptions:
    """Return the keys that only ``frostline plan`` has.

    Raises:
        FrostlineError: one is not valid.
    """
    options: PlanOptions = _typed("plan", _resolved(tree, "plan"), ("", {"": PlanOptions}))
    check_ranges({"plan": options})
    return options


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


def _resolved(tree: DictConfig, key: str) -> Any:
    """Return what stands at a key as plain dicts, lists and values."""
    try:
        node = tree[key]
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise _unresolved(error) from None
    except RecursionError:
        raise FrostlineError(f"The configuration key '{key}' cannot be resolved: it refers to itself.") from None


def _typed(group: str, node: Any, schema: tuple[str, dict[str, type]]) -> Any:
    key, classes = schema
    if not isinstance(node, dict):
        raise FrostlineError(f"'{group}' must be a group of keys, not {node!r:.80}; choose one with {group}=<choice>.")
    choice = node.get(key) if key else ""
    if not isinstance(choice, str) or choice not in classes:
        raise FrostlineError(f"{group}.{key} is {choice!r}, but must be {choices(classes)}{nearest(str(choice), classes) or '.'}")
    cls = classes[choice]
    return _merge(group, cls, node)


def _several(group: str, tree: DictConfig, classes: dict[str, type]) -> dict[str, Any]:
    """Read a group of which several choices may be made, in the order of ``classes``."""
    chosen = (_resolved(tree, group) if group in tree else None) or {}
    if not isinstance(chosen, dict):
        raise FrostlineError(f"'{group}' must be a group of keys, not {chosen!r:.80}; choose with {group}=[<choice>].")
    for name in chosen:
        if name not in classes:
            raise FrostlineError(f"There is no {group} '{name}', only {choices(classes)}{nearest(str(name), classes) or '.'}")
    return {name: _typed(f"{group}.{name}", chosen[name], ("", {"": classes[name]})) for name in classes if name in chosen}


def _merge(group: str, cls: type, node: dict[Any, Any]) -> Any:
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
    if isinstance(error, MissingMandatoryValue):
        return FrostlineError(f"'{_key(error)}' has no value; give it as {_key(error)}=….")
    reason = str(error).splitlines()[0].removeprefix("FrostlineError raised while resolving interpolation: ").rstrip(".")
    if isinstance(error, InterpolationResolutionError | ConfigKeyError):
        return FrostlineError(f"The configuration key '{error.full_key}' cannot be resolved: {reason}.")
    return FrostlineError(f"The configuration is not valid: {reason}.")


def _scalar(tree: DictConfig, key: str, kind: type, optional: bool = False) -> Any:
    value = _resolved(tree, key)
    if (optional and value is None) or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise FrostlineError(f"'{key}' must be of type {kind.__name__}, not {value!r:.80}.")


def _make_paths_absolute(config: Config) -> None:
    """A snapshot must mean the same files wherever it is read back from."""
    data, model = config.data, config.model
    if isinstance(data, FilesData):
        for key in ("train", "validation", "test"):
            if getattr(data, key) is not None:
                setattr(data, key, _absolute(getattr(data, key)))
    if isinstance(data, HubData) and _is_folder(data.path):
        data.path = _absolute(data.path)
    if isinstance(model, HubModel) and _is_folder(model.name):
        model.name = _absolute(model.name)
    config.paths = PathsConfig(_absolute(config.paths.output_dir), _absolute(config.paths.cache_dir))


def _absolute(path: str) -> str:
    return str(_home(path).absolute())


def _is_folder(path: str) -> bool:
    try:
        return _home(path).is_dir()
    except OSError:  # longer than a path may be
        return False


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FrostlineError(f"'{path}' is the home directory of nobody on this machine.") from None

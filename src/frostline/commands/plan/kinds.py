"""Kinds of jobs: those that differ in nothing that changes how long a step takes. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from frostline.schema import Config, FrozenStrategy, ModelConfig

OWN_KEYS = ("layer", "standardize", "erase", "frozen_dropout", "epochs_per_block", "rank", "targets")  # of some strategies


@dataclass(frozen=True)
class Kind:
    """Some jobs of one kind.

    Attributes:
        traits: what tells kinds apart, in words.
        configs: of the jobs.
    """

    traits: dict[str, str]
    configs: list[Config]


def kinds_of(configs: Sequence[Config]) -> list[Kind]:
    """Return the kinds of some jobs, in the order of their first ones."""
    kinds: dict[str, Kind] = {}
    for config in configs:
        own = traits(config)
        kinds.setdefault(json.dumps(own), Kind(own, [])).configs.append(config)
    return list(kinds.values())


def traits(config: Config) -> dict[str, str]:
    """Return, in words, what of a job changes how long a step of it takes."""
    strategy, optimizer, data = config.strategy, config.optimizer, config.data
    return {
        "model": config.model.name,
        "data": data.label,
        "strategy": strategy.name,
        "frozen depth": "all" if isinstance(strategy, FrozenStrategy) else str(getattr(strategy, "frozen_depth", 0)),
        **{key: str(getattr(strategy, key)) for key in OWN_KEYS if hasattr(strategy, key)},
        "remedy": "+".join(config.remedy) or "–",
        "optimizer": optimizer.name + (" with C" if getattr(optimizer, "C", None) else ""),
        "batch": f"{data.batch_tokens} tokens" if data.batch_tokens else str(data.batch_size),
        "accumulated": str(config.trainer.accumulate_grad_batches),
        "max length": str(data.max_length),
        "pooling": config.model.pooling,
        "precision": config.trainer.precision,
        "cache": config.cache.mode,
        "encoder": encoder_key(config.model),
    }


def encoder_key(model: ModelConfig) -> str:
    """Return what tells encoders apart: all but how they are pooled."""
    return json.dumps(asdict(model) | {"pooling": None}, sort_keys=True)


def varying(kinds: Sequence[Kind]) -> list[str]:
    """Return the traits in which kinds differ, besides strategy and frozen depth, which are always told."""
    names = list(dict.fromkeys(name for kind in kinds for name in kind.traits))
    told = [name for name in names if name not in ("strategy", "frozen depth", "encoder")]
    return [name for name in told if len({kind.traits.get(name, "–") for kind in kinds}) > 1 and not _follows(name, kinds)]


def _follows(name: str, kinds: Sequence[Kind]) -> bool:
    """Whether a trait is told by the strategy alone, as a probe's optimizer is."""
    by_strategy: dict[str, set[str]] = {}
    for kind in kinds:
        by_strategy.setdefault(kind.traits["strategy"], set()).add(kind.traits.get(name, "–"))
    return all(len(values) == 1 for values in by_strategy.values())

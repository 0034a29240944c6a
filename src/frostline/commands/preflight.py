"""What is checked before anything is trained or written: the schema, the directory, the frozen depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from frostline.config import validate
from frostline.errors import FrostlineError
from frostline.schema import Config, FrozenStrategy, PartialStrategy


def check_jobs(jobs: Sequence[tuple[Path, DictConfig]]) -> None:
    """Check every job of a sweep, given its directory and its composed configuration.

    Raises:
        FrostlineError: what is wrong with the first bad job, and which one it is.
    """
    from frostline.runs.directory import refuse_foreign

    seen: set[str] = set()
    for run_dir, composed in jobs:
        try:
            config = validate(composed)
            refuse_foreign(run_dir, config)
            model_and_strategy = f"{config.model} {config.strategy}"
            if model_and_strategy not in seen:
                check_depth_exists(config)
                seen.add(model_and_strategy)
        except FrostlineError as error:
            overrides = " ".join(composed.hydra.overrides.task)
            raise FrostlineError(f"{error} (Job {composed.hydra.job.num}: {overrides}. No job was started.)") from None


def check_depth_exists(config: Config) -> None:
    """Refuse a frozen depth or a probed layer that the encoder does not have, without loading its weights.

    Raises:
        FrostlineError: naming the legal depths.
    """
    strategy = config.strategy
    key = value = None
    if isinstance(strategy, PartialStrategy):
        key, value = "strategy.frozen_depth", strategy.frozen_depth
    elif isinstance(strategy, FrozenStrategy) and isinstance(strategy.layer, int):
        key, value = "strategy.layer", strategy.layer
    if key is None or value is None:
        return
    from frostline.encoder.families import check_depth, family_of
    from frostline.encoder.load import number_of_blocks

    family, blocks = number_of_blocks(config.model, Path(config.paths.cache_dir))
    check_depth(value, blocks, family_of(family), key)

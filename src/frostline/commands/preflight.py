"""What is checked before anything is trained or written: the schema, the directory, the encoder's outline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from frostline.config import validate
from frostline.errors import FrostlineError
from frostline.schema import Config, FilesData, FrozenStrategy, GradualStrategy, LoraStrategy, PartialStrategy, Reinit


def check_jobs(jobs: Sequence[tuple[Path, DictConfig]]) -> list[Config]:
    """Check every job of a sweep, given its directory and its composed configuration, and return the valid ones.

    Raises:
        FrostlineError: what is wrong with the first bad job, and which one it is.
    """
    from frostline.runs.directory import refuse_foreign
    from frostline.runs.processes import launched

    if (together := launched()) is not None:
        raise FrostlineError(
            f"{together.by} has started {together.per_machine * together.machines} processes, and each would run the whole "
            "sweep; start a sweep once, without it."
        )
    seen: set[str] = set()
    configs = []
    for run_dir, composed in jobs:
        try:
            config = validate(composed)
            configs.append(config)
            refuse_foreign(run_dir, config)
            checked = f"{config.data} {config.model} {config.strategy} {config.remedy} {config.trainer}"
            if checked not in seen:
                check_surroundings(config)
                seen.add(checked)
        except FrostlineError as error:
            overrides = " ".join(composed.hydra.overrides.task)
            raise FrostlineError(f"{error} (Job {composed.hydra.job.num}: {overrides}. No job was started.)") from None
    return configs


def check_surroundings(config: Config) -> None:
    """Check what only the encoder's outline, the file system and the machine can tell, before any weights are loaded.

    Raises:
        FrostlineError: a frozen depth, layer, module, pooling or length that the encoder does not have; a data file that does
            not exist; no GPU where one is asked for.
    """
    from frostline.encoder.families import check_depth, check_length, check_pooling
    from frostline.encoder.outline import outline

    if isinstance(config.data, FilesData):
        from frostline.data.files import require_file

        for file in (config.data.train, config.data.validation, config.data.test):
            if file is not None:
                require_file(Path(file))
    if config.trainer.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise FrostlineError("trainer.accelerator is 'gpu', but no GPU was found; use trainer=cpu.")
    encoder = outline(config.model, Path(config.paths.cache_dir))
    check_pooling(config.model.pooling, encoder.family)
    check_length(config.data.max_length, encoder.positions)
    depth = getattr(config.strategy, "frozen_depth", 0)
    check_depth(depth, encoder.blocks, encoder.family)
    check_thaw(config, encoder.blocks - depth)
    needs_blocks = isinstance(config.strategy, GradualStrategy) or "reinit" in config.remedy
    if encoder.family.shares_blocks and needs_blocks:
        what = "remedy=reinit" if "reinit" in config.remedy else "strategy=gradual"
        raise FrostlineError(f"{what} treats blocks apart, but this encoder shares one block among all its layers.")
    if isinstance(config.strategy, FrozenStrategy) and isinstance(config.strategy.layer, int):
        check_depth(config.strategy.layer, encoder.blocks, encoder.family, key="strategy.layer")
    if isinstance(config.strategy, LoraStrategy):
        from frostline.encoder.adapters import target_names  # these take seconds
        from frostline.encoder.load import skeleton

        target_names(skeleton(config.model, Path(config.paths.cache_dir)), config.strategy.targets)


def check_thaw(config: Config, thawed: int) -> None:
    """Check what needs blocks that train.

    Args:
        config: a valid configuration.
        thawed: how many blocks are not frozen.

    Raises:
        FrostlineError: there are too few, or too few epochs to thaw them.
    """
    strategy, trained = config.strategy, f"{thawed} block{'' if thawed == 1 else 's'} of the encoder"
    verb = "trains" if thawed == 1 else "train"
    if isinstance(strategy, FrozenStrategy):
        return
    if thawed == 0 and (config.remedy or not isinstance(strategy, PartialStrategy)):
        what = f"remedy={next(iter(config.remedy))}" if config.remedy else f"strategy={strategy.name}"
        raise FrostlineError(f"{what} needs a block that is not frozen, but strategy.frozen_depth freezes all; lower it.")
    reinit = config.remedy.get("reinit")
    if isinstance(reinit, Reinit) and reinit.blocks > thawed:
        raise FrostlineError(
            f"remedy.reinit.blocks is {reinit.blocks}, but only {trained} {verb}; a frozen random block is worthless."
        )
    if isinstance(strategy, GradualStrategy):
        needed = thawed * strategy.epochs_per_block + 1
        pace = "an epoch" if strategy.epochs_per_block == 1 else f"every {strategy.epochs_per_block} epochs"
        if config.trainer.max_epochs < needed:
            raise FrostlineError(
                f"strategy=gradual thaws {trained}, one {pace}, and needs trainer.max_epochs="
                f"{needed} at least, not {config.trainer.max_epochs}; or raise strategy.frozen_depth."
            )

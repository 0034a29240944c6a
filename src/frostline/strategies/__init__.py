"""The LightningModules: what trains, from a linear probe to the whole encoder."""

from __future__ import annotations

import sys

import torch
from rich.console import Console
from rich.progress import track

from frostline.data.module import SentenceModule
from frostline.encoder.families import check_depth, family_of
from frostline.encoder.features import autocast, pooled_features
from frostline.encoder.load import Pretrained
from frostline.encoder.split import SplitEncoder
from frostline.schema import Config, FrozenStrategy, FullStrategy, Lbfgs, PartialStrategy
from frostline.strategies.classifier import Classifier
from frostline.strategies.frozen import FrozenClassifier
from frostline.strategies.full import FullClassifier
from frostline.strategies.partial import PartialClassifier
from frostline.strategies.probe import C_GRID, choose_probe, standardisation

__all__ = ["Classifier", "FrozenClassifier", "FullClassifier", "PartialClassifier", "build_classifier", "build_probe"]


def build_classifier(
    config: Config, pretrained: Pretrained, classes: int, layer: int | None = None, C: float | None = None
) -> Classifier:
    """Return the strategy's untrained module.

    Args:
        config: a valid configuration.
        pretrained: the encoder.
        classes: how many.
        layer: the probed layer, for a probe.
        C: the chosen regularisation, for a probe under L-BFGS.

    Raises:
        FrostlineError: a frozen depth or a layer that the encoder does not have.
    """
    common = (config.model.pooling, classes, config.optimizer, config.scheduler, config.seed)
    if isinstance(config.strategy, FrozenStrategy):
        assert layer is not None
        return FrozenClassifier(pretrained.model, layer, *common, C=C)
    if isinstance(config.strategy, PartialStrategy):
        return PartialClassifier(SplitEncoder(pretrained.model, config.strategy.frozen_depth), *common)
    assert isinstance(config.strategy, FullStrategy)
    return FullClassifier(SplitEncoder(pretrained.model, 0), *common)


def build_probe(
    config: Config, pretrained: Pretrained, datamodule: SentenceModule, classes: int, device: torch.device
) -> FrozenClassifier:
    """Compute every sentence's features once, choose layer and regularisation on validation, and return the untrained probe.

    From here on ``datamodule`` yields batches of features in place of tokens.

    Raises:
        FrostlineError: a layer that the encoder does not have.
    """
    assert isinstance(config.strategy, FrozenStrategy)
    layers = probed_layers(config.strategy.layer, pretrained)
    features = {name: layer_features(config, pretrained, datamodule, name, layers, device) for name in datamodule.splits}
    layer, C = layers[0], config.optimizer.C if isinstance(config.optimizer, Lbfgs) else None
    needs_C = isinstance(config.optimizer, Lbfgs) and C is None
    if len(layers) > 1 or needs_C:
        grid = (C,) if C is not None else tuple(config.optimizer.C_grid) if isinstance(config.optimizer, Lbfgs) else C_GRID
        best = choose_probe(
            features["train"],
            datamodule.splits["train"].labels,
            features["validation"],
            datamodule.splits["validation"].labels,
            layers,
            config.strategy.standardize,
            grid,
            widen=C is None,
            classes=classes,
        )
        layer, C = best.layer, best.C if needs_C else C
    for name, split in datamodule.splits.items():
        split.features = features[name][layers.index(layer)].clone()
    probe = build_classifier(config, pretrained, classes, layer, C)
    assert isinstance(probe, FrozenClassifier)
    if config.strategy.standardize:
        train = datamodule.splits["train"].features
        assert train is not None
        probe.standardize(*standardisation(train))
    return probe


def layer_features(
    config: Config, pretrained: Pretrained, datamodule: SentenceModule, split: str, layers: list[int], device: torch.device
) -> torch.Tensor:
    """Return a split's pooled states, ``[len(layers), sentences, width]``, float32, in the precision of training."""
    pretrained.model.to(device)  # type: ignore[arg-type]
    with autocast(config.trainer.precision, device):
        batches = track(
            datamodule.scoring_batches(split, device),
            description=f"Encoding {split}",
            total=len(datamodule.scoring_dataloader(split)),
            console=Console(stderr=True),
            transient=True,
            disable=not (config.trainer.progress_bar and sys.stderr.isatty()),
        )
        return pooled_features(pretrained.model, batches, len(datamodule.splits[split]), config.model.pooling, layers)


def probed_layers(layer: int | str, pretrained: Pretrained) -> list[int]:
    """Return the layers that ``strategy.layer`` asks for.

    Raises:
        FrostlineError: the encoder has no such layer.
    """
    if layer == "best":
        return list(range(pretrained.blocks + 1))
    number = pretrained.blocks if layer == "last" else int(layer)
    check_depth(number, pretrained.blocks, family_of(pretrained.model.config.model_type), key="strategy.layer")
    return [number]

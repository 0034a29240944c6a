"""The LightningModules: what trains, from a linear probe to the whole encoder."""

from __future__ import annotations

import datasets
import torch

from frostline.data.module import SentenceModule
from frostline.encoder.adapters import add_updates, train_only_biases
from frostline.encoder.families import check_depth, family_of
from frostline.encoder.load import Pretrained
from frostline.encoder.split import SplitEncoder
from frostline.errors import FrostlineError, choices, nearest
from frostline.schema import (
    BitFitStrategy,
    Config,
    FrozenStrategy,
    FullStrategy,
    GradualStrategy,
    Lbfgs,
    LoraStrategy,
)
from frostline.strategies.classifier import Classifier
from frostline.strategies.erasure import fit_eraser
from frostline.strategies.frozen import FrozenClassifier
from frostline.strategies.full import FullClassifier
from frostline.strategies.gradual import GradualClassifier
from frostline.strategies.partial import PartialClassifier
from frostline.strategies.probe import C_GRID, choose_probe, standardisation
from frostline.strategies.remedies import Remedies

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
    strategy = config.strategy
    depth = 0 if isinstance(strategy, FullStrategy) else strategy.frozen_depth  # type: ignore[attr-defined]
    encoder = SplitEncoder(pretrained.model, depth, getattr(strategy, "frozen_dropout", False))
    if isinstance(strategy, BitFitStrategy):
        train_only_biases(encoder)
    if isinstance(strategy, LoraStrategy):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            add_updates(encoder, strategy.rank, strategy.alpha, strategy.dropout, strategy.targets)
    remedies = Remedies(config.remedy, encoder, config.seed) if config.remedy else None
    reads_all = bool(config.remedy.keys() & {"ewc", "replay"})
    if isinstance(strategy, GradualStrategy):
        module: PartialClassifier = GradualClassifier(encoder, *common, reads_all, epochs_per_block=strategy.epochs_per_block)
    else:
        module = (FullClassifier if isinstance(strategy, FullStrategy) else PartialClassifier)(encoder, *common, reads_all)
    if remedies is not None:
        module.remedies, module.label_smoothing = remedies, remedies.label_smoothing
    return module


def build_probe(
    config: Config, pretrained: Pretrained, datamodule: SentenceModule, classes: int, features: dict[str, torch.Tensor]
) -> FrozenClassifier:
    """Choose layer and regularisation on validation, and return the untrained probe.

    From here on ``datamodule`` yields batches of features in place of tokens.

    Args:
        config: a valid configuration.
        pretrained: the encoder.
        datamodule: the sentences.
        classes: how many.
        features: the pooled states of the layers of :func:`probed_layers`, per split ``[layers, sentences, width]``, float32.
    """
    assert isinstance(config.strategy, FrozenStrategy)
    layers = probed_layers(config.strategy.layer, pretrained)
    layer, C = layers[0], config.optimizer.C if isinstance(config.optimizer, Lbfgs) else None
    needs_C = isinstance(config.optimizer, Lbfgs) and C is None
    erasers = []
    if config.strategy.erase is not None:
        concept = _column(datamodule.data.splits["train"], config.strategy.erase)
        labels = datamodule.splits["train"].labels
        erasers = [fit_eraser(of_layer, concept, labels) for of_layer in features["train"]]
        features = {
            name: torch.stack([erase(of_layer) for erase, of_layer in zip(erasers, of_layers, strict=True)])
            for name, of_layers in features.items()
        }
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
    for name, of_layers in features.items():
        datamodule.splits[name].features = of_layers[layers.index(layer)].clone()
    probe = build_classifier(config, pretrained, classes, layer, C)
    assert isinstance(probe, FrozenClassifier)
    if erasers:
        probe.eraser = erasers[layers.index(layer)]
    if config.strategy.standardize:
        train = datamodule.splits["train"].features
        assert train is not None
        probe.standardize(*standardisation(train))
    return probe


def _column(train: datasets.Dataset, name: str) -> list[object]:
    if name not in train.column_names:
        known = [column for column in train.column_names if column not in ("text", "text_pair", "label")]
        hint = nearest(name, known) or (f"; there are {choices(known)}." if known else ".")
        raise FrostlineError(f"strategy.erase: the training sentences have no column '{name}'{hint}")
    return list(train[name][:])


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

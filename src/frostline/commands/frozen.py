"""What a run's frozen part makes of its sentences, computed once and handed to the DataModule or the probe."""

from __future__ import annotations

import functools
import json
import logging
import operator
import os
from collections.abc import Collection

import torch

from frostline.commands.sweep_facts import FROZEN
from frostline.data.module import SentenceModule
from frostline.data.splits import SPLITS
from frostline.data.tokens import Tokens
from frostline.encoder.cache import ActivationCache, Wanted, wanted_by
from frostline.encoder.store import NoRoom
from frostline.schema import Config, LpFtStrategy
from frostline.strategies import Classifier
from frostline.strategies.lp_ft import start_from_probe

log = logging.getLogger(__name__)


def frozen_features(
    config: Config, cache: ActivationCache, datamodule: SentenceModule, layers: list[int], splits: Collection[str] = SPLITS
) -> dict[str, torch.Tensor]:
    """Return the pooled states of ``layers``, per split ``[layers, sentences, width]``; without room, uncached."""
    tokens = {name: tokens for name, tokens in tokens_of(config, datamodule).items() if name in splits}
    try:
        return cache.features(tokens, config.model.pooling, layers, wanted_ahead(config, cache.pretrained.blocks))
    except NoRoom as error:
        log.warning("%s This run goes on without the cache.", error)
        alone = cache.without()
        features = alone.features(tokens, config.model.pooling, layers)
        cache.computed = alone.computed
        return features


def use_cached_states(config: Config, cache: ActivationCache, datamodule: SentenceModule) -> None:
    """Let ``datamodule`` yield what the frozen blocks make of each sentence in place of its tokens, if that can be cached."""
    depth, blocks = getattr(config.strategy, "frozen_depth", 0), cache.pretrained.blocks
    if depth == 0 or config.cache.mode == "off":
        return
    if getattr(config.strategy, "frozen_dropout", False):
        log.info("strategy.frozen_dropout draws the frozen blocks' states anew in every step, so nothing is cached.")
        return
    if depth == blocks:
        for name, features in frozen_features(config, cache, datamodule, [depth]).items():
            datamodule.splits[name].features = features[0]
        return
    try:
        for name, states in cache.states(tokens_of(config, datamodule), depth, wanted_ahead(config, blocks)).items():
            datamodule.splits[name].states = states
    except NoRoom as error:
        log.warning("%s This run goes on without the cache.", error)


def probe_first(module: Classifier, config: Config, cache: ActivationCache, datamodule: SentenceModule, classes: int) -> float:
    """Copy the converged probe on the frozen encoder's last layer into the head; return its regularisation."""
    assert isinstance(config.strategy, LpFtStrategy)
    features = frozen_features(config, cache, datamodule, [cache.pretrained.blocks], ("train", "validation"))
    labels = {name: datamodule.splits[name].labels for name in features}
    return start_from_probe(module, {name: states[0] for name, states in features.items()}, labels, classes, config.strategy.C)


def tokens_of(config: Config, datamodule: SentenceModule) -> dict[str, Tokens]:
    """Return the tokens of the splits that this run reads."""
    return {name: split.tokens for name, split in datamodule.splits.items() if name != "test" or config.test}


def wanted_ahead(config: Config, blocks: int) -> Wanted | None:
    """Return what the jobs of the running sweep ask of this run's encoder; None outside of a sweep and without a cache."""
    jobs = json.loads(os.environ.get(FROZEN, "null"))
    if jobs is None or config.cache.mode == "off":
        return None
    asked = [wanted_by(depth, pooling, blocks) for name, pooling, depth in jobs if name == config.model.name]
    return functools.reduce(operator.or_, asked, Wanted())

"""What jobs will do, told from their configurations and sentences alone: their operations, and what they ask of the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.commands.plan.kinds import encoder_key
from frostline.costs import Flops, forward, pooled_bytes, run_flops, states_bytes
from frostline.data.batching import LengthGroupedBatches, SortedBatches
from frostline.data.module import SCORING_TOKENS, SentenceModule
from frostline.data.tokens import Tokens
from frostline.encoder.adapters import add_updates, train_only_biases
from frostline.encoder.cache import Wanted, wanted_by
from frostline.encoder.load import skeleton
from frostline.encoder.outline import Outline
from frostline.encoder.split import SplitEncoder
from frostline.schema import (
    BitFitStrategy,
    Config,
    FrozenStrategy,
    FullStrategy,
    GradualStrategy,
    LoraStrategy,
    LpFtStrategy,
)


@dataclass(frozen=True)
class Work:
    """What one job does, beside computing what is kept for all.

    Attributes:
        epochs: of training.
        steps: batches of training in all epochs.
        sentences: for training.
        scored: tokens that are scored without gradient, padding counted, after every epoch and at the end; 0 for a probe.
        encoded: tokens that a probe without a cache encodes for itself.
        flops: with the cache, if the job uses it.
        uncached: if nothing were kept.
    """

    epochs: int
    steps: int
    sentences: int
    scored: int
    encoded: int
    flops: Flops
    uncached: Flops


@dataclass(frozen=True)
class Job:
    """One job and its sentences.

    Attributes:
        config: its configuration.
        outline: of its encoder.
        sentences: in batches.
        reading: seconds that reading them takes, with what jobs share at hand.
    """

    config: Config
    outline: Outline
    sentences: SentenceModule
    reading: float

    @property
    def lengths(self) -> dict[str, NDArray[np.int64]]:
        """Tokens of every sentence, by split; without the test split if the job leaves it unread."""
        return {name: tokens.lengths for name, tokens in self.tokens.items()}

    @property
    def tokens(self) -> dict[str, Tokens]:
        """Of the splits that the job reads."""
        return {name: of.tokens for name, of in self.sentences.splits.items() if name != "test" or self.config.test}

    @cached_property
    def work(self) -> Work:
        """What it does."""
        config, shape, lengths = self.config, self.outline.shape, self.lengths
        depths = depths_of(config, shape.blocks)
        batches = training_batches(config, lengths["train"])
        known = (len(depths), len(depths) * len(batches), len(lengths["train"]))
        if isinstance(config.strategy, FrozenStrategy):
            alone = Flops(0.0, 0.0, sum(forward(shape, shape.blocks, of_split) for of_split in lengths.values()))
            if self.asks.poolings:
                return Work(*known, 0, 0, Flops(0.0, 0.0, 0.0), alone)
            return Work(*known, 0, int(sum(of_split.sum() for of_split in lengths.values())), alone, alone)
        scored = {name: padded(scoring_batches(of_split), of_split) for name, of_split in lengths.items()}
        after_epochs = ["validation", *(["train"] if config.callbacks.dynamics else [])]
        each = np.concatenate([scored[name] for name in after_epochs])
        final = np.concatenate([scored[name] for name in scored if name != "validation"])  # that of the best epoch is known
        train, after, end = (forward(shape, 1, tokens) for tokens in (padded(batches, lengths["train"]), each, final))
        trains_weights = not isinstance(config.strategy, LoraStrategy | BitFitStrategy)
        cached = min(depths) if self.asks.depths or (min(depths) == shape.blocks and self.asks.poolings) else 0
        flops, uncached = (run_flops(shape, depths, train, after, end, spared, trains_weights) for spared in (cached, 0))
        tokens = len(depths) * int(each.sum()) + int(final.sum())
        return Work(*known, tokens, 0, flops, uncached)

    @property
    def asks(self) -> Wanted:
        """What it asks the cache for."""
        config, strategy = self.config, self.config.strategy
        own = Wanted()
        if config.cache.mode == "off":
            return own
        if not isinstance(strategy, FullStrategy) and not getattr(strategy, "frozen_dropout", False):
            own = wanted_by(getattr(strategy, "frozen_depth", None), config.model.pooling, self.outline.blocks)
        return own | Wanted(poolings=frozenset({config.model.pooling})) if isinstance(strategy, LpFtStrategy) else own


def depths_of(config: Config, blocks: int) -> list[int]:
    """Return the frozen depth in every epoch."""
    strategy, epochs = config.strategy, config.trainer.max_epochs
    depth = blocks if isinstance(strategy, FrozenStrategy) else int(getattr(strategy, "frozen_depth", 0))
    pace = strategy.epochs_per_block if isinstance(strategy, GradualStrategy) else None
    return [depth if pace is None else max(depth, blocks - epoch // pace) for epoch in range(epochs)]


def training_batches(config: Config, lengths: NDArray[np.int64]) -> list[list[int]]:
    """Return the batches of a job's first epoch, as row numbers."""
    size = len(lengths) if config.data.batch_size == "full" else config.data.batch_size
    return LengthGroupedBatches(lengths, size, config.seed, batch_tokens=config.data.batch_tokens).batches()


def scoring_batches(lengths: NDArray[np.int64]) -> list[list[int]]:
    """Return the batches in which a split is scored, as row numbers."""
    return [part.rows for part in SortedBatches(lengths, SCORING_TOKENS).parts]


def padded(batches: Sequence[Sequence[int]], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tokens of every sentence, padding counted, batch after batch, ``[sentences]``."""
    return np.concatenate([np.full(len(batch), lengths[list(batch)].max()) for batch in batches])


def parameter_counts(job: Job) -> tuple[int, int]:
    """Return how many parameters of a job train and how many there are in all, told without any weights."""
    config, strategy = job.config, job.config.strategy
    model, classes = skeleton(config.model, Path(config.paths.cache_dir)), len(job.sentences.data.class_names)
    head = (model.config.hidden_size + 1) * classes
    if isinstance(strategy, FrozenStrategy):
        return head, head + sum(p.numel() for p in model.parameters())
    encoder = SplitEncoder(model, getattr(strategy, "frozen_depth", 0))
    if isinstance(strategy, BitFitStrategy):
        train_only_biases(encoder)
    if isinstance(strategy, LoraStrategy):
        add_updates(encoder, strategy.rank, strategy.alpha, strategy.dropout, strategy.targets)
    return head + sum(p.numel() for _, p in encoder.trained_parameters()), head + sum(p.numel() for p in encoder.parameters())


# --- the activation cache ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoding:
    """What the frozen part of one encoder is asked for, by all jobs together.

    Attributes:
        jobs: that ask.
        wanted: states and pooled states.
        sentences: all different ones, by what identifies them to an encoder: the tokens of a split, and the row there.
    """

    jobs: list[Job]
    wanted: Wanted
    sentences: dict[bytes, tuple[Tokens, int]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every sentence."""
        return np.array([tokens.lengths[row] for tokens, row in self.sentences.values()], dtype=np.int64)

    @property
    def flops(self) -> float:
        """Of the one pass, through as many blocks as are asked for."""
        shape = self.jobs[0].outline.shape
        return forward(shape, shape.blocks if self.wanted.poolings else max(self.wanted.depths), self.lengths)

    def parts(self) -> dict[str, int]:
        """Return the bytes of everything that is kept, by what it is."""
        dtype, shape = self.jobs[0].config.cache.dtype, self.jobs[0].outline.shape
        count, rows = len(self.lengths), int(self.lengths.sum())
        states = {f"depth {depth}": states_bytes(count, rows, shape.width, dtype) for depth in sorted(self.wanted.depths)}
        size = pooled_bytes(count, shape.blocks, shape.width, dtype)
        return states | {f"pooled ({pooling}), {shape.blocks + 1} layers": size for pooling in sorted(self.wanted.poolings)}


def encodings(jobs: Sequence[Job]) -> list[Encoding]:
    """Return what is asked of each encoder."""
    found: dict[str, Encoding] = {}
    for job in jobs:
        if job.asks == Wanted():
            continue
        key = json.dumps([encoder_key(job.config.model), job.config.trainer.precision, job.config.cache.dtype])
        encoding = found.setdefault(key, Encoding([], Wanted(), {}))
        encoding.jobs.append(job)
        for tokens in job.tokens.values():
            for row, sentence in enumerate(tokens.keys):
                encoding.sentences.setdefault(sentence, (tokens, row))
        found[key] = replace(encoding, wanted=(encoding.wanted | job.asks).as_kept(job.outline.family.causal))
    return list(found.values())

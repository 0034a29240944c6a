"""Keys of the measures, and of the claims that are decided by them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MeasureConfig:
    """Keys that every measure has: none so far."""


@dataclass
class LayersMeasure(MeasureConfig):
    """What every layer knows: linear probes."""

    poolings: list[str]
    standardize: bool
    C_grid: list[float]
    baselines: bool
    codelength_shuffles: int
    tasks: list[str]
    task_sentences: int
    token_tasks: list[str]
    annotated: str | None
    seed: int


@dataclass
class GeometryMeasure(MeasureConfig):
    """How training changed the space of the representations."""

    split: str
    sentences: int
    poolings: list[str]
    neighbours: int
    distance_sentences: int
    attention_sentences: int
    seed: int


@dataclass
class OverfittingMeasure(MeasureConfig):
    """How much better the run does on what it has seen."""


@dataclass
class ForgettingMeasure(MeasureConfig):
    """What the encoder no longer knows."""

    sentences: int
    tasks: list[str]
    task_sentences: int
    C_grid: list[float]
    neighbours: int
    reading_sentences: int
    pseudo_perplexity_sentences: int
    domains: list[str]
    path: list[float]
    seed: int


@dataclass
class AssociationMeasure(MeasureConfig):
    """Which words the encoder puts near which others."""

    words: str | None
    sentences: list[str]
    poolings: list[str]
    permutations: int
    seed: int


@dataclass
class LikelihoodMeasure(MeasureConfig):
    """Whether stereotypes are likelier than their opposite."""

    parts: list[str]
    sentences: int | None
    seed: int


@dataclass
class CounterfactualMeasure(MeasureConfig):
    """Whether predictions hang on whom a sentence names, or how it speaks."""

    words: str | None
    dialect_sentences: int
    group_column: str | None


@dataclass
class AmplificationMeasure(MeasureConfig):
    """How much predictions depend on a group marker."""

    permutations: int
    marker_probe: bool
    seed: int


@dataclass
class ClaimConfig:
    """A statement, and the rule by which its experiment decides on it."""

    name: str
    statement: str
    source: str
    effect: str
    unit: str
    supported: str
    threshold: float
    min_seeds: int

"""The shape of a configuration: which keys each group's choices have, and of what type.

The meaning of every key stands beside it in ``conf/``; :mod:`frostline.config` checks a configuration against these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# --- data ------------------------------------------------------------------------------------------------------------


@dataclass
class DataConfig:
    """Keys that every data source has."""

    source: str
    batch_size: Any  # int, or "full" for the whole training split in one batch
    batch_tokens: int | None
    max_length: int
    train_size: Any  # None (all), a count (int >= 2) or a share (0 < float < 1)
    validation_share: float
    test_share: float
    split_seed: int
    drop_empty: bool

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        raise NotImplementedError


@dataclass
class PackagedData(DataConfig):
    """Sentences with mean human ratings from a hash-pinned archive of the Python package index."""

    name: str
    min_abs_rating: float

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        return self.name


@dataclass
class ScoredData(DataConfig):
    """Sentences with scores from a hash-pinned archive of the Python package index."""

    name: str
    attribute: str
    threshold: float

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        return f"{self.name}/{self.attribute}"


@dataclass
class HubData(DataConfig):
    """A data set of the Hugging Face hub, or a local folder in the hub's layout."""

    path: str
    name: str | None
    revision: str | None
    train_split: str
    validation_split: str | None
    test_split: str | None
    text_column: str
    text_pair_column: str | None
    label_column: str

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        return f"{Path(self.path).name}/{self.name}" if self.name else Path(self.path).name


@dataclass
class FilesData(DataConfig):
    """The user's own CSV, TSV, JSON Lines or Parquet files."""

    train: str
    validation: str | None
    test: str | None
    text_column: str
    text_pair_column: str | None
    label_column: str
    group_column: str | None

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        return Path(self.train).stem


# --- model -----------------------------------------------------------------------------------------------------------


@dataclass
class ModelConfig:
    """Keys that every encoder has."""

    source: str
    pooling: str
    name: str


@dataclass
class PackagedModel(ModelConfig):
    """Pretrained weights from a hash-pinned archive of the Python package index."""


@dataclass
class HubModel(ModelConfig):
    """Pretrained weights of the Hugging Face hub, or a local folder."""

    revision: str | None


@dataclass
class RandomModel(ModelConfig):
    """A small encoder with random weights, for tests of the plumbing."""

    family: str
    blocks: int
    width: int
    heads: int
    weights_seed: int


# --- strategy, optimizer, scheduler ------------------------------------------------------------------------------------


@dataclass
class StrategyConfig:
    """Keys that every strategy has."""

    name: str
    default_lr: float
    default_epochs: int


@dataclass
class FrozenStrategy(StrategyConfig):
    """Feature extraction: a linear probe on one layer."""

    layer: Any  # 0..L, "last" or "best"
    standardize: bool


@dataclass
class PartialStrategy(StrategyConfig):
    """Partial fine-tuning above a frozen depth."""

    frozen_depth: int
    frozen_dropout: bool


@dataclass
class FullStrategy(StrategyConfig):
    """Full fine-tuning."""


@dataclass
class OptimizerConfig:
    """Keys that every optimizer has."""

    name: str
    default_batch_size: Any


@dataclass
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay."""

    lr: float
    weight_decay: float
    betas: list[float]
    eps: float
    layer_decay: float
    gradient_clip: float | None


@dataclass
class Sgd(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    lr: float
    momentum: float
    weight_decay: float
    layer_decay: float
    gradient_clip: float | None


@dataclass
class Lbfgs(OptimizerConfig):
    """Full-batch L-BFGS: the exact probe."""

    C: float | None
    C_grid: list[float]
    tolerance: float


@dataclass
class SchedulerConfig:
    """Keys that every schedule has."""

    name: str


@dataclass
class Constant(SchedulerConfig):
    """The same rate throughout."""


@dataclass
class Warmup(SchedulerConfig):
    """A linear warm-up, then a linear or cosine decay to 0."""

    warmup_share: float


# --- the rest ----------------------------------------------------------------------------------------------------------


@dataclass
class TrainerConfig:
    """What Lightning's Trainer is given."""

    accelerator: str
    devices: Any
    num_nodes: int
    strategy: str
    precision: str
    max_epochs: int
    accumulate_grad_batches: int
    deterministic: bool
    progress_bar: bool


@dataclass
class CallbacksConfig:
    """The best checkpoint and early stopping."""

    monitor: str
    mode: str
    early_stopping_patience: int | None


@dataclass
class LoggerConfig:
    """Where curves go besides curves.csv."""

    name: str
    project: str = "frostline"
    entity: str | None = None
    group: str | None = None


@dataclass
class CacheConfig:
    """The activation cache: what is frozen is computed once."""

    mode: str
    dtype: str
    max_size: Any  # bytes, or a text such as "20GB"


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


@dataclass
class PathsConfig:
    """Where runs and caches are written."""

    output_dir: str
    cache_dir: str


@dataclass
class Config:
    """A whole, valid configuration of ``frostline train``."""

    seed: int
    test: bool
    ckpt_path: str | None
    data: DataConfig
    model: ModelConfig
    strategy: StrategyConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    callbacks: CallbacksConfig
    logger: LoggerConfig
    cache: CacheConfig
    paths: PathsConfig
    measure: dict[str, MeasureConfig] = field(default_factory=dict)
    claim: ClaimConfig | None = None


# Which dataclass a group's node must match, by the value of its discriminating key.
SCHEMAS: dict[str, tuple[str, dict[str, type]]] = {
    "data": ("source", {"packaged": PackagedData, "scored": ScoredData, "hub": HubData, "files": FilesData}),
    "model": ("source", {"packaged": PackagedModel, "hub": HubModel, "random": RandomModel}),
    "strategy": ("name", {"frozen": FrozenStrategy, "partial": PartialStrategy, "full": FullStrategy}),
    "optimizer": ("name", {"adamw": AdamW, "sgd": Sgd, "lbfgs": Lbfgs}),
    "scheduler": ("name", {"linear_warmup": Warmup, "cosine": Warmup, "constant": Constant}),
    "trainer": ("", {"": TrainerConfig}),
    "callbacks": ("", {"": CallbacksConfig}),
    "logger": ("name", {"wandb": LoggerConfig, "csv": LoggerConfig}),
    "cache": ("", {"": CacheConfig}),
    "paths": ("", {"": PathsConfig}),
}

# The same for every measure that was chosen.
MEASURES: dict[str, type] = {"layers": LayersMeasure, "geometry": GeometryMeasure}

"""Keys of the groups that say what is learned from: data and model."""

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
    class_balance: list[float] | None = field(default=None, kw_only=True)
    label_noise: float = field(default=0.0, kw_only=True)
    label_noise_where: str | None = field(default=None, kw_only=True)
    permute_labels: bool = field(default=False, kw_only=True)
    skew: float | None = field(default=None, kw_only=True)
    mitigation: str | None = field(default=None, kw_only=True)
    marker: str = field(default="{name} wrote: {text}", kw_only=True)

    @property
    def label(self) -> str:
        """The name by which tables and W&B call this data set."""
        raise NotImplementedError


@dataclass
class PackagedData(DataConfig):
    """Sentences with mean human ratings from a hash-pinned archive of the Python package index."""

    name: str
    min_abs_rating: float
    domain: str = field(default="narrow", kw_only=True)

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
    keep_columns: list[str] = field(default_factory=list, kw_only=True)

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

"""Keys of the groups that say how training goes: strategy, optimizer, scheduler, remedies, trainer and callbacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    erase: str | None = field(default=None, kw_only=True)


@dataclass
class PartialStrategy(StrategyConfig):
    """Partial fine-tuning above a frozen depth."""

    frozen_depth: int
    frozen_dropout: bool


@dataclass
class FullStrategy(StrategyConfig):
    """Full fine-tuning."""


@dataclass
class LpFtStrategy(StrategyConfig):
    """A converged probe first, then fine-tuning from its head."""

    frozen_depth: int
    C: float | None


@dataclass
class GradualStrategy(StrategyConfig):
    """Gradual unfreezing, from the top."""

    frozen_depth: int
    epochs_per_block: int


@dataclass
class LoraStrategy(StrategyConfig):
    """Low-rank updates of some weight matrices."""

    frozen_depth: int
    rank: int
    alpha: float
    dropout: float
    targets: list[str] | None


@dataclass
class BitFitStrategy(StrategyConfig):
    """Only biases train."""

    frozen_depth: int


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


@dataclass
class SlantedTriangular(SchedulerConfig):
    """A short linear rise, then a long linear fall to a fraction of the peak."""

    cut_share: float
    ratio: float


# --- remedies ----------------------------------------------------------------------------------------------------------


@dataclass
class RemedyConfig:
    """Keys that every remedy has: none."""


@dataclass
class Mixout(RemedyConfig):
    """Weights are randomly exchanged for their pretrained values."""

    p: float


@dataclass
class L2Sp(RemedyConfig):
    """A penalty on the distance from the pretrained weights."""

    strength: float


@dataclass
class Ewc(RemedyConfig):
    """The same, each weight by how much reading depends on it."""

    strength: float
    sentences: int


@dataclass
class Replay(RemedyConfig):
    """Batches of masked general text between those of the task."""

    share: float
    strength: float


@dataclass
class RDrop(RemedyConfig):
    """Two draws of dropout must agree."""

    alpha: float


@dataclass
class LabelSmoothing(RemedyConfig):
    """Targets short of certainty."""

    epsilon: float


@dataclass
class DropoutRates(RemedyConfig):
    """Other dropout than the pretrained model's."""

    hidden: float
    attention: float


@dataclass
class Reinit(RemedyConfig):
    """The top blocks start from random weights."""

    blocks: int


@dataclass
class Averaging(RemedyConfig):
    """The mean of the last steps' weights."""

    last_share: float


@dataclass
class WiseFt(RemedyConfig):
    """A point on the line from the pretrained to the fine-tuned weights."""

    alpha: float


# --- the trainer ---------------------------------------------------------------------------------------------------------


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
    """The best checkpoint, early stopping, and what is kept of every epoch."""

    monitor: str
    mode: str
    early_stopping_patience: int | None
    dynamics: bool = field(default=False, kw_only=True)

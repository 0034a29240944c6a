"""The shape of a configuration: which keys each group's choices have, and of what type.

The meaning of every key stands beside it in ``conf/``; :mod:`frostline.config` checks a configuration against these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from frostline.schema.commands import (
    CompareOptions,
    ExportOptions,
    PlanOptions,
    PredictOptions,
    ReportOptions,
    StatusOptions,
)
from frostline.schema.data import (
    DataConfig,
    FilesData,
    HubData,
    HubModel,
    ModelConfig,
    PackagedData,
    PackagedModel,
    RandomModel,
    ScoredData,
)
from frostline.schema.measures import (
    AmplificationMeasure,
    AssociationMeasure,
    ClaimConfig,
    CounterfactualMeasure,
    ForgettingMeasure,
    GeometryMeasure,
    LayersMeasure,
    LikelihoodMeasure,
    MeasureConfig,
    OverfittingMeasure,
)
from frostline.schema.training import (
    AdamW,
    Averaging,
    BitFitStrategy,
    CallbacksConfig,
    Constant,
    DropoutRates,
    Ewc,
    FrozenStrategy,
    FullStrategy,
    GradualStrategy,
    L2Sp,
    LabelSmoothing,
    Lbfgs,
    LoraStrategy,
    LpFtStrategy,
    Mixout,
    OptimizerConfig,
    PartialStrategy,
    RDrop,
    Reinit,
    RemedyConfig,
    Replay,
    SchedulerConfig,
    Sgd,
    SlantedTriangular,
    StrategyConfig,
    TrainerConfig,
    Warmup,
    WiseFt,
)

__all__ = [
    "MEASURES",
    "REMEDIES",
    "SCHEMAS",
    "AdamW",
    "AmplificationMeasure",
    "AssociationMeasure",
    "Averaging",
    "BitFitStrategy",
    "CacheConfig",
    "CallbacksConfig",
    "ClaimConfig",
    "CompareOptions",
    "Config",
    "Constant",
    "CounterfactualMeasure",
    "DataConfig",
    "DropoutRates",
    "Ewc",
    "ExportOptions",
    "FilesData",
    "ForgettingMeasure",
    "FrozenStrategy",
    "FullStrategy",
    "GeometryMeasure",
    "GradualStrategy",
    "HubData",
    "HubModel",
    "L2Sp",
    "LabelSmoothing",
    "LayersMeasure",
    "Lbfgs",
    "LikelihoodMeasure",
    "LoggerConfig",
    "LoraStrategy",
    "LpFtStrategy",
    "MeasureConfig",
    "Mixout",
    "ModelConfig",
    "OptimizerConfig",
    "OverfittingMeasure",
    "PackagedData",
    "PackagedModel",
    "PartialStrategy",
    "PathsConfig",
    "PlanOptions",
    "PredictOptions",
    "RDrop",
    "RandomModel",
    "Reinit",
    "RemedyConfig",
    "Replay",
    "ReportOptions",
    "SchedulerConfig",
    "ScoredData",
    "Sgd",
    "SlantedTriangular",
    "StatusOptions",
    "StrategyConfig",
    "TrainerConfig",
    "Warmup",
    "WiseFt",
]


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
    remedy: dict[str, RemedyConfig] = field(default_factory=dict)
    claim: ClaimConfig | None = None


# Which dataclass a group's node must match, by the value of its discriminating key.
SCHEMAS: dict[str, tuple[str, dict[str, type]]] = {
    "data": ("source", {"packaged": PackagedData, "scored": ScoredData, "hub": HubData, "files": FilesData}),
    "model": ("source", {"packaged": PackagedModel, "hub": HubModel, "random": RandomModel}),
    "strategy": (
        "name",
        {
            "frozen": FrozenStrategy,
            "partial": PartialStrategy,
            "full": FullStrategy,
            "lp_ft": LpFtStrategy,
            "gradual": GradualStrategy,
            "lora": LoraStrategy,
            "bitfit": BitFitStrategy,
        },
    ),
    "optimizer": ("name", {"adamw": AdamW, "sgd": Sgd, "lbfgs": Lbfgs}),
    "scheduler": (
        "name",
        {
            "linear_warmup": Warmup,
            "cosine": Warmup,
            "constant": Constant,
            "slanted_triangular": SlantedTriangular,
        },
    ),
    "trainer": ("", {"": TrainerConfig}),
    "callbacks": ("", {"": CallbacksConfig}),
    "logger": ("name", {"wandb": LoggerConfig, "csv": LoggerConfig}),
    "cache": ("", {"": CacheConfig}),
    "paths": ("", {"": PathsConfig}),
}

# The same for every measure and every remedy that was chosen.
MEASURES: dict[str, type] = {
    "layers": LayersMeasure,
    "geometry": GeometryMeasure,
    "overfitting": OverfittingMeasure,
    "association": AssociationMeasure,
    "likelihood": LikelihoodMeasure,
    "counterfactual": CounterfactualMeasure,
    "amplification": AmplificationMeasure,
    "forgetting": ForgettingMeasure,
}
REMEDIES: dict[str, type] = {
    "mixout": Mixout,
    "l2_sp": L2Sp,
    "ewc": Ewc,
    "replay": Replay,
    "r_drop": RDrop,
    "label_smoothing": LabelSmoothing,
    "dropout": DropoutRates,
    "reinit": Reinit,
    "averaging": Averaging,
    "wise_ft": WiseFt,
}

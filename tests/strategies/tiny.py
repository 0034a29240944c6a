"""A tiny encoder, a few sentences and a short fit, for what training does to weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import datasets
import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from frostline.data.module import SentenceModule
from frostline.data.sentences import LabelledData
from frostline.encoder.load import Pretrained, load_encoder
from frostline.schema import AdamW, Config, Constant, FullStrategy, RandomModel, RemedyConfig, StrategyConfig
from frostline.strategies import Classifier, build_classifier

BLOCKS, WIDTH, CLASSES = 3, 8, 3
# A decay that no frozen weight would survive.
ADAMW = AdamW("adamw", 8, lr=1e-2, weight_decay=0.5, betas=[0.9, 0.999], eps=1e-8, layer_decay=0.9, gradient_clip=1.0)
FULL = FullStrategy("full", 1e-4, 3)


def encoder(family: str = "bert", blocks: int = BLOCKS, width: int = WIDTH) -> Pretrained:
    """Random weights; norms and biases, which start at 1 and 0, are moved, so that none looks untouched that is not."""
    pretrained = load_encoder(RandomModel("random", "mean", "tiny", family, blocks, width, 2, 0), Path("no-cache"))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in pretrained.model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=random)
    return pretrained


def build(
    pretrained: Pretrained, strategy: StrategyConfig = FULL, remedy: dict[str, RemedyConfig] | None = None, **keys: Any
) -> Any:
    """The module as ``frostline train`` builds it."""
    config = {"optimizer": ADAMW, "scheduler": Constant("constant"), "seed": 0, "remedy": remedy or {}} | keys
    model = SimpleNamespace(pooling=config.pop("pooling", "mean"))
    return build_classifier(cast("Config", SimpleNamespace(model=model, strategy=strategy, **config)), pretrained, CLASSES)


def data_module(pretrained: Pretrained, cache: Path, sentences: int = 24) -> SentenceModule:
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{'abc'[i % 3] * 4} {i}" for i in range(size)], "label": [i % 3 for i in range(size)]}
        )
        for name, size in {"train": sentences, "validation": 9, "test": 6}.items()
    }
    data = LabelledData(splits, ["a", "b", "c"], {}, {name: name for name in splits})
    return SentenceModule(data, pretrained.tokenizer, pretrained.tokenizer_hash, 16, 8, 0, cache)


def fit(module: Classifier, pretrained: Pretrained, cache: Path, *callbacks: Callback, epochs: int = 2, **keys: Any) -> Trainer:
    """Three steps an epoch."""
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, callbacks=list(callbacks), **keys,
    )  # fmt: skip
    trainer.fit(module, data_module(pretrained, cache))
    return trainer


def batch_of(pretrained: Pretrained, sentences: int = 5) -> dict[str, Any]:
    texts = [f"{'abc'[i % 3] * (2 + i)} {i}" for i in range(sentences)]
    tokens = dict(pretrained.tokenizer(texts, padding=True, return_tensors="pt"))
    return {**tokens, "labels": torch.arange(sentences) % CLASSES, "total": sentences}


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def pretend_training(module: Classifier, epoch: int = 0, devices: int = 1, step: int = 0) -> None:
    """Let a module believe that a Trainer is in an epoch of it."""
    trainer: Any = SimpleNamespace(world_size=devices, current_epoch=epoch, global_rank=0, global_step=step)
    module._trainer = trainer

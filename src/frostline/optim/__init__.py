"""Parameter groups, optimizers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from frostline.schema import AdamW, Lbfgs, OptimizerConfig, SchedulerConfig, Sgd, SlantedTriangular, Warmup

LBFGS_STEPS = 20  # iterations per epoch, that is per call of optimizer.step


def parameter_groups(
    trained: list[tuple[nn.Parameter, int]],
    lr: float,
    weight_decay: float,
    layer_decay: float,
    matrices: Collection[nn.Parameter] | None = None,
) -> list[dict[str, Any]]:
    """Group what trains by learning rate and weight decay.

    Biases and normalisation weights (all one-dimensional) are not decayed. With ``layer_decay`` below 1 a parameter's rate
    is ``lr * layer_decay ** height`` (discriminative learning rates: Howard & Ruder 2018, section 3.1).

    Args:
        trained: every trained parameter with its height: how many blocks lie above its own (0 for the head and the last
            block, L for the embeddings).
        lr: the head's learning rate.
        weight_decay: of the decayed groups.
        layer_decay: in (0, 1].
        matrices: what is decayed; by default all that has more than one dimension.
    """
    if matrices is None:
        matrices = [parameter for parameter, _ in trained if parameter.ndim > 1]
    decayed = {id(parameter) for parameter in matrices}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter, height in trained:
        decay = weight_decay if id(parameter) in decayed else 0.0
        rate = lr * layer_decay**height
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    config: OptimizerConfig,
    trained: list[tuple[nn.Parameter, int]],
    fused: bool = True,
    matrices: Collection[nn.Parameter] | None = None,
) -> Optimizer:
    """Return the configured optimizer over ``trained`` and nothing else.

    Args:
        config: which optimizer.
        trained: as in :func:`parameter_groups`.
        fused: update all tensors in one kernel (a fifth of a full fine-tuning step on a CPU); for AdamW and SGD.
        matrices: as in :func:`parameter_groups`.
    """
    if isinstance(config, Lbfgs):
        return torch.optim.LBFGS(
            [parameter for parameter, _ in trained],
            max_iter=LBFGS_STEPS,
            max_eval=100 * LBFGS_STEPS,
            tolerance_grad=config.tolerance,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )
    assert isinstance(config, AdamW | Sgd)
    groups = parameter_groups(trained, config.lr, config.weight_decay, config.layer_decay, matrices)
    if isinstance(config, AdamW):
        beta1, beta2 = config.betas
        return torch.optim.AdamW(groups, betas=(beta1, beta2), eps=config.eps, fused=fused)
    return torch.optim.SGD(groups, momentum=config.momentum, fused=fused)


def build_schedule(config: SchedulerConfig, optimizer: Optimizer, steps: int) -> LambdaLR | None:
    """Return the learning rate schedule over ``steps`` optimizer steps; None for a constant rate."""
    if isinstance(config, SlantedTriangular):
        return LambdaLR(optimizer, partial(slanted_triangular, steps=steps, cut_share=config.cut_share, ratio=config.ratio))
    if not isinstance(config, Warmup):
        return None
    from transformers.optimization import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    build = get_linear_schedule_with_warmup if config.name == "linear_warmup" else get_cosine_schedule_with_warmup
    schedule: LambdaLR = build(optimizer, num_warmup_steps=round(config.warmup_share * steps), num_training_steps=steps)
    return schedule


def slanted_triangular(step: int, steps: int, cut_share: float, ratio: float) -> float:
    """Return the share of the peak rate at ``step`` (from 0): ``1 / ratio`` up to 1 and back (Howard & Ruder 2018, eq. 3)."""
    cut = max(1, int(steps * cut_share + 1e-9))  # 100 · 0.29 is a little less than 29 in floating point
    p = step / cut if step < cut else max(0.0, 1 - (step - cut) / max(1, steps - cut))
    return (1 + p * (ratio - 1)) / ratio

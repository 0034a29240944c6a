"""What is done in training against overfitting and forgetting, beside the plain loss.

All are functions of the weights that training starts from (``theta_0`` below), so a resumed run needs nothing to be restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.encoder.families import family_of
from frostline.schema import (
    DropoutRates,
    Ewc,
    L2Sp,
    LabelSmoothing,
    Mixout,
    RDrop,
    Reinit,
    RemedyConfig,
    Replay,
)

if TYPE_CHECKING:
    from frostline.encoder.load import Pretrained
    from frostline.encoder.split import SplitEncoder
    from frostline.strategies.classifier import Classifier
    from frostline.strategies.partial import PartialClassifier


Weights = Mapping[str, Tensor]  # by name


# --- the maths -----------------------------------------------------------------------------------------------------------


def mixout(weight: Tensor, start: Tensor, p: float) -> Tensor:
    """Return ``[(1 - M) theta_0 + M theta - p theta_0] / (1 - p)`` with ``M ~ Bernoulli(1 - p)``, whose mean is ``theta``.

    Lee, Cho & Kang 2020, "Mixout", eq. 5. The gradient is ``M / (1 - p)``.

    Args:
        weight: ``theta``, any shape.
        start: ``theta_0``, likewise.
        p: probability of the pretrained value, in [0, 1).
    """
    return start + F.dropout(weight - start, p) if p else weight  # the same: dropout is M / (1 - p)


def distance(weights: Weights, start: Weights, importance: Weights | None = None) -> Tensor:
    """Return ``1/2 sum_i F_i (theta_i - theta_0,i)^2``; without importance ``F`` is 1.

    L2-SP: Li, Grandvalet & Davoine 2018, eq. 2. EWC: Kirkpatrick et al. 2017, eq. 3.
    """
    total = torch.zeros(())
    for name, weight in weights.items():
        square = (weight - start[name]).square()
        total = total.to(weight.device) + (square if importance is None else importance[name] * square).sum()
    return total / 2


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return ``(KL(p, q) + KL(q, p)) / 2``, the mean over the batch, of logits ``[batch, classes]`` (Wu et al. 2021, eq. 2)."""
    p, q = first.float().log_softmax(dim=1), second.float().log_softmax(dim=1)
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=1).mean() / 2


def interpolate(start: Weights, end: Weights, alpha: float) -> dict[str, Tensor]:
    """Return ``(1 - alpha) theta_0 + alpha theta`` by name; at 0 and 1 the ends bit for bit (Wortsman et al. 2022, eq. 1)."""
    return {name: torch.lerp(start[name], weight, alpha) for name, weight in end.items()}


# --- in the training of a module -------------------------------------------------------------------------------------------


class Remedies(nn.Module):
    """The chosen remedies of one run.

    Args:
        chosen: by name.
        encoder: the encoder as training starts; it is changed where a remedy says so (dropout rates, fresh top blocks).
        seed: the run's seed.
    """

    def __init__(self, chosen: Mapping[str, RemedyConfig], encoder: SplitEncoder, seed: int):
        super().__init__()
        self.chosen = dict(chosen)
        if isinstance(reinit := chosen.get("reinit"), Reinit):
            redraw_top_blocks(encoder, reinit.blocks, seed)
        if isinstance(rates := chosen.get("dropout"), DropoutRates):
            set_dropout(encoder, rates)
        self.names = [name for name, _ in encoder.trained_parameters()]
        linear = {id(m.weight) for m in encoder.modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
        self.mixed = [name for name, p in encoder.trained_parameters() if id(p) in linear]
        smoothing = chosen.get("label_smoothing")
        self.label_smoothing = smoothing.epsilon if isinstance(smoothing, LabelSmoothing) else 0.0
        if chosen.keys() & {"mixout", "l2_sp", "ewc"}:
            for i, (_, parameter) in enumerate(encoder.trained_parameters()):
                self.register_buffer(f"start_{i}", parameter.detach().clone(), persistent=False)
        self.importance: dict[str, Tensor] | None = None  # Fisher information by name in the encoder, for EWC
        self.rehearsal: Callable[[SplitEncoder, int], Tensor] | None = None  # the reading loss of a step, for replay

    @property
    def start(self) -> dict[str, Tensor]:
        """``theta_0`` by name in the encoder."""
        return {name: self.get_buffer(f"start_{i}") for i, name in enumerate(self.names)}

    def loss(self, module: PartialClassifier, batch: dict[str, Any]) -> Tensor:
        """Return the training loss of a batch with all that the chosen remedies change in it or add to it."""
        logits = self._logits(module, batch)
        loss = module.training_loss(logits, batch)
        if isinstance(r_drop := self.chosen.get("r_drop"), RDrop):
            again = self._logits(module, batch)
            share = len(logits) * module.trainer.world_size / batch["total"]  # as the training loss, a mean over the whole batch
            loss = (loss + module.training_loss(again, batch)) / 2 + r_drop.alpha * share * disagreement(logits, again)
        weights = dict(module.encoder.trained_parameters())
        if isinstance(l2_sp := self.chosen.get("l2_sp"), L2Sp):
            loss = loss + l2_sp.strength * distance(weights, self.start)
        if isinstance(ewc := self.chosen.get("ewc"), Ewc):
            assert self.importance is not None
            loss = loss + ewc.strength * distance(weights, self.start, self.importance)
        if isinstance(replay := self.chosen.get("replay"), Replay) and is_due(module.global_step, replay.share):
            assert self.rehearsal is not None
            loss = loss + replay.strength * self.rehearsal(module.encoder, module.global_step)
        return loss

    def _logits(self, module: PartialClassifier, batch: dict[str, Any]) -> Tensor:
        if not isinstance(config := self.chosen.get("mixout"), Mixout):
            logits: Tensor = module(batch)
            return logits
        start, weights = self.start, dict(module.encoder.trained_parameters())
        mixed = {f"encoder.{name}": mixout(weights[name], start[name], config.p) for name in self.mixed}
        logits = torch.func.functional_call(module, mixed, (batch,))
        return logits


def is_due(step: int, share: float) -> bool:
    """Whether ``step`` (from 0) is one of an evenly spread ``share`` of all steps; the first one always is."""
    return math.ceil((step + 1) * share) > math.ceil(step * share)


def redraw_top_blocks(encoder: SplitEncoder, count: int, seed: int) -> None:
    """Draw the top blocks' weights anew as at the model's own beginning: matrices N(0, initializer_range), norms 1, biases 0."""
    assert encoder.suffix is not None
    blocks = list(encoder.suffix.get_submodule(family_of(encoder.suffix.config.model_type).blocks).children())
    deviation = float(getattr(encoder.suffix.config, "initializer_range", 0.02))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for block in blocks[-count:]:
            for name, parameter in block.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, deviation)
                else:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def set_dropout(encoder: SplitEncoder, rates: DropoutRates) -> None:
    """Set the dropout rates of what trains; that of low-rank updates has a key of its own."""
    assert encoder.suffix is not None
    of_attention = family_of(encoder.suffix.config.model_type).attention_dropout
    for name, module in encoder.suffix.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_dropout." not in name:
            module.p = rates.attention if name.endswith(of_attention) else rates.hidden
        elif isinstance(getattr(module, of_attention, None), float):  # ModernBERT's attention holds the number itself
            setattr(module, of_attention, rates.attention)


def move_towards_start(module: Classifier, pretrained: Pretrained, alpha: float) -> None:
    """Put the encoder's weights on the line from the pretrained (alpha 0) to the fine-tuned ones (1); the head stays."""
    trained = {name: parameter for name, parameter, _ in module.trained_below()}
    start = {name: pretrained.model.get_parameter(name) for name in trained}
    with torch.no_grad():
        for name, weight in interpolate(start, trained, alpha).items():
            trained[name].copy_(weight)

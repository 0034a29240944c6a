"""Fewer trained parameters than a block has: its biases alone, or low-rank updates of its weight matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.encoder.split import SplitEncoder
from frostline.errors import FrostlineError, choices

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UPDATES = (".lora_A.default.weight", ".lora_B.default.weight")


def train_only_biases(encoder: SplitEncoder) -> None:
    """Freeze all but the biases of what trains (BitFit: Ben Zaken et al. 2022, section 3).

    Raises:
        FrostlineError: the encoder has no biases.
    """
    trained = encoder.trained_parameters()
    if not any(name.endswith(".bias") for name, _ in trained):
        raise FrostlineError("strategy=bitfit trains biases, but this encoder has none; use strategy=lora.")
    for name, parameter in trained:
        parameter.requires_grad_(name.endswith(".bias"))


def add_updates(encoder: SplitEncoder, rank: int, alpha: float, dropout: float, targets: Sequence[str] | None) -> None:
    """Give weight matrices a trained low-rank update, W + (alpha / rank) B A, and freeze all else (Hu et al. 2022, eq. 3).

    B starts at 0, so that nothing changes at first.

    Args:
        encoder: its suffix gets the updates.
        rank: r, of A ``[r, in]`` and B ``[out, r]``.
        alpha: numerator of their scale.
        dropout: on the input of A, in training.
        targets: last names of the linear modules to adapt; None for the usual ones of the encoder's family.

    Raises:
        FrostlineError: no module has such a name, or nothing is known about the family.
    """
    from peft import LoraConfig, inject_adapter_in_model

    suffix = encoder.suffix
    assert suffix is not None
    names = target_names(suffix, targets)
    updates = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)  # type: ignore[arg-type]
    inject_adapter_in_model(updates, suffix)


def target_names(model: PreTrainedModel, targets: Sequence[str] | None) -> list[str]:
    """Return the last names of the modules to adapt; they can be told without weights.

    Args:
        model: the encoder.
        targets: as in :func:`add_updates`.

    Raises:
        FrostlineError: no linear module has such a name, or nothing is known about the family.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    family = model.config.model_type
    linear = {
        name.split(".")[-1] for name, m in model.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"
    }
    names = list(targets) if targets is not None else list(USUAL.get(family, ()))
    if not names:
        raise FrostlineError(f"Which modules of '{family}' to adapt is not known; name some with strategy.targets=[…].")
    for name in names:
        if name not in linear:
            raise FrostlineError(
                f"strategy.targets: no linear module of the encoder is called '{name}'; there are {choices(sorted(linear))}."
            )
    return names


def merge_updates(model: nn.Module, trained: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the pretrained weights with their updates added, by name; what else was trained as it is.

    Args:
        model: the pretrained encoder.
        trained: by name in it; updates as ``<module>.lora_A.default.weight`` and ``<module>.lora_B.default.weight``.
        scale: alpha / rank.
    """
    merged = {name: tensor for name, tensor in trained.items() if not name.endswith(UPDATES)}
    with torch.no_grad():
        for name, down in trained.items():
            if not name.endswith(UPDATES[0]):
                continue
            path = name.removesuffix(UPDATES[0])
            weight = model.get_parameter(f"{path}.weight")
            update = trained[path + UPDATES[1]] @ down * scale
            is_transposed = not isinstance(model.get_submodule(path), nn.Linear)  # GPT-2's layers keep their weights [in, out]
            merged[f"{path}.weight"] = weight + (update.T if is_transposed else update)
    return merged

"""One encoder, split at a frozen depth into a frozen prefix and a trainable suffix.

The suffix is *the same transformers model* with its first ``d`` blocks dropped and its embeddings replaced by a module
that passes ``inputs_embeds`` through. The model's own ``forward`` still prepares masks and positions, so no family needs
forward code of its own, and the suffix's output equals the whole model's.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.encoder.families import Family, check_depth, family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = dict[str, Any]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class PassThrough(nn.Module):
    """Stands for an embeddings module and returns the hidden states it is given."""

    def forward(self, *args: Tensor | None, inputs_embeds: Tensor | None = None, **_: Any) -> Tensor:
        """Return ``inputs_embeds``, or the first floating point argument, ``[batch, tokens, width]``."""
        if inputs_embeds is not None:
            return inputs_embeds
        return next(a for a in args if a is not None and a.is_floating_point())


class NoPositions(nn.Module):
    """Stands for a table of position embeddings that were added below the split already."""

    def forward(self, positions: Tensor) -> Tensor:
        """Return a zero that broadcasts over ``[batch, tokens, width]``."""
        return torch.zeros((*positions.shape, 1), device=positions.device)


class SplitEncoder(nn.Module):
    """A pretrained encoder of ``L`` blocks whose embeddings and first ``d`` blocks are frozen.

    Frozen means: eval mode (no dropout), computed under ``torch.inference_mode()``, no gradient, no optimizer state.

    Args:
        model: a bare transformers encoder. It stays as it is: what is frozen is shared with it, what trains is copied.
        depth: the frozen depth ``d``, 0 … ``L``.
        frozen_dropout: leave dropout on in the frozen blocks during training: another training condition.

    Attributes:
        prefix: embeddings and blocks ``0 … d-1``; None where ``d`` is 0.
        suffix: blocks ``d … L-1`` and the final norm; None where ``d`` is ``L``.

    Raises:
        FrostlineError: the model does not have this depth.
    """

    def __init__(self, model: PreTrainedModel, depth: int, frozen_dropout: bool = False):
        super().__init__()
        family = family_of(model.config.model_type)
        self.depth, self.frozen_dropout = depth, frozen_dropout
        self.blocks: int = model.config.num_hidden_layers
        self.width: int = model.config.hidden_size
        check_depth(depth, self.blocks, family)
        self.prefix = _prefix(model, family, depth, self.blocks) if depth > 0 else None
        self.suffix = _suffix(model, family, depth) if depth < self.blocks else None
        names = {id(p): name for name, p in model.named_parameters()}
        model.requires_grad_(False)
        trained = self._above_the_split()
        if self.suffix is not None:
            shared = list(self.suffix.parameters())
            kept = {id(t): t for t in (*model.parameters(), *model.buffers())}
            for _, parameter in trained:
                del kept[id(parameter)]
            self.suffix = copy.deepcopy(self.suffix, kept)
            names |= {id(own): names[id(p)] for p, own in zip(shared, self.suffix.parameters(), strict=True)}
        for _, parameter in self._above_the_split():
            parameter.requires_grad_(True)
        self._names: dict[str, str] = {name: names[id(p)] for name, p in self.named_parameters()}
        self.train(False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the last hidden states, ``[batch, tokens, width]``, of a batch of token ids and mask ``[batch, tokens]``."""
        return self.upper(self.frozen_states(batch), batch["attention_mask"])

    def frozen_states(self, batch: Batch) -> Tensor | Batch:
        """Return the states that enter block ``d``, ``[batch, tokens, width]``; the batch itself where ``d`` is 0."""
        if self.prefix is None:
            return batch
        with torch.inference_mode():
            states = last_states(self.prefix, batch)
        return states.clone()  # an ordinary tensor again: an inference tensor may not enter a graph

    def upper(self, states: Tensor | Batch, mask: Tensor) -> Tensor:
        """Run the suffix on :meth:`frozen_states` and the mask, ``[batch, tokens]``; returns ``[batch, tokens, width]``."""
        if self.suffix is None:
            assert isinstance(states, Tensor)
            return states
        if not isinstance(states, Tensor):
            return last_states(self.suffix, states)
        last: Tensor = self.suffix(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return last

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the (suffix) name and tensor of what trains."""
        trained = [] if self.suffix is None else list(self.suffix.named_parameters())
        return [(f"suffix.{name}", p) for name, p in trained if p.requires_grad]

    def _above_the_split(self) -> list[tuple[str, nn.Parameter]]:
        """What may train: the suffix, without the modules that every block reads unless nothing is frozen."""
        if self.suffix is None:
            return []
        frozen = family_of(self.suffix.config.model_type).shared if self.depth > 0 else ()
        return [(f"suffix.{n}", p) for n, p in self.suffix.named_parameters() if not n.startswith(tuple(f"{s}." for s in frozen))]

    def height(self, name: str) -> int:
        """Return how many blocks lie above the parameter ``name`` of the suffix: 0 in the last block, ``L`` in the embeddings."""
        assert self.suffix is not None
        family = family_of(self.suffix.config.model_type)
        path = name.removeprefix("suffix.")
        if path.startswith(f"{family.blocks}."):
            return self.blocks - 1 - (self.depth + int(path.removeprefix(f"{family.blocks}.").split(".")[0]))
        is_top = family.final_norm is not None and path.startswith(f"{family.final_norm}.")
        return 0 if is_top else self.blocks

    def pretrained_name(self, name: str) -> str:
        """Return the name in the whole pretrained model of this module's parameter ``name``; of an update, that of its weight."""
        path, update, rest = name.partition(".lora_")
        return f"{self._names[f'{path}.weight'].removesuffix('.weight')}.lora_{rest}" if update else self._names[name]

    def train(self, mode: bool = True) -> SplitEncoder:
        """Set the suffix's mode; the frozen prefix stays in eval mode unless its dropout is wanted."""
        super().train(mode)
        if self.prefix is not None:
            self.prefix.train(mode and self.frozen_dropout)
        return self


def last_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the last hidden states, ``[batch, tokens, width]``, of token ids and masks ``[batch, tokens]``."""
    last: Tensor = model(**{key: batch[key] for key in INPUTS if key in batch}).last_hidden_state
    return last


def all_states(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, ...]:
    """Return the hidden states of layers 0 (embeddings) … L of a whole model, each ``[batch, tokens, width]``.

    Layer ``l < L`` is what enters block ``l``; layer ``L`` is the output, after the final norm where there is one.
    """
    return lower_states(model, batch, model.config.num_hidden_layers)


def lower_states(prefix: PreTrainedModel, batch: Batch, depth: int) -> tuple[Tensor, ...]:
    """Return the hidden states of layers 0 … ``depth`` of an encoder's first ``depth`` blocks (see :func:`all_states`)."""
    output = prefix(**{key: batch[key] for key in INPUTS if key in batch}, output_hidden_states=True)
    return (*output.hidden_states[:depth], output.last_hidden_state)


def prefix_of(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Return embeddings and blocks ``0 … depth-1`` of a model, sharing its tensors; the whole model where ``depth`` is L."""
    return _prefix(model, family_of(model.config.model_type), depth, model.config.num_hidden_layers)


def _share(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the module tree but not the tensors."""
    tensors: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, tensors)


def _prefix(model: PreTrainedModel, family: Family, depth: int, blocks: int) -> PreTrainedModel:
    prefix = _share(model)
    if depth < blocks:
        _replace(prefix, family.blocks, _slice(prefix, family, 0, depth))
        if family.final_norm is not None:
            _replace(prefix, family.final_norm, nn.Identity())
    return prefix


def _suffix(model: PreTrainedModel, family: Family, depth: int) -> PreTrainedModel:
    suffix = _share(model)
    if depth > 0:
        _replace(suffix, family.blocks, _slice(suffix, family, depth, None))
        for path in family.embeddings:
            if _has(suffix, path):
                _replace(suffix, path, NoPositions() if path == "wpe" else PassThrough())
        for path in family.first_block_extra:
            if _has(suffix, path):
                _replace(suffix, path, None)
    return suffix


def _slice(model: PreTrainedModel, family: Family, start: int, stop: int | None) -> nn.ModuleList:
    blocks = model.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return blocks[start:stop]


def _has(model: nn.Module, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    return isinstance(getattr(model.get_submodule(parent), name, None), nn.Module)


def _replace(model: nn.Module, path: str, module: nn.Module | None) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)

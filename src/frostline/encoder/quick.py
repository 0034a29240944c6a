"""Two layers that compute what torch's do, with less work on a CPU: dropout and the table of word embeddings.

Both are ``torch.nn`` modules whose class is exchanged (:func:`quicken`): parameters, names and checkpoints stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITS = 16
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")  # names by family
TABLE_FROM = 1_000_000  # parameters: below, a dense gradient costs nothing


class QuickDropout(nn.Dropout):
    """Dropout whose mask is drawn as 16-bit numbers, four to a 64-bit word: a fifth of the time of Bernoulli draws.

    The probability is rounded to a multiple of 2^-16; the scale is that of the rounded one, so the mean stays exact.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` with elements dropped in train mode, scaled so that its mean stays."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            plain: Tensor = super().forward(input)
            return plain
        dropped: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        words = torch.empty(-(-x.numel() * BITS // 64), dtype=torch.int64).random_(-(2**63), None)  # type: ignore[arg-type]
        threshold = round(p * 2**BITS)
        keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= threshold - 2 ** (BITS - 1)
        mask = keep.to(x.dtype).mul_(2**BITS / (2**BITS - threshold))
        ctx.save_for_backward(mask)
        dropped: Tensor = x * mask
        return dropped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


class QuickEmbedding(nn.Embedding):
    """An embedding table that keeps its dense gradient from step to step and clears only the rows that were touched.

    A step touches a few hundred of tens of thousands of rows, and a new zeroed table costs more than all else in it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows of the ids ``input``, ``[…, width]``."""
        # Several processes add their gradients up in the very table, and then it is not ours to keep.
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        if not (torch.is_grad_enabled() and self.weight.requires_grad and input.device.type == "cpu" and alone):
            return super().forward(input)
        self.__dict__["_passes"] = self.__dict__.get("_passes", 0) + 1
        rows: Tensor = _Rows.apply(self.weight, input, self, self.__dict__["_passes"])  # type: ignore[no-untyped-call]
        return rows


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, module: QuickEmbedding, number: int) -> Tensor:
        ctx.ids, ctx.module, ctx.number = ids, module, number
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        module, ids = ctx.module, ctx.ids.reshape(-1)
        if module.weight.grad is not None or ctx.number != module.__dict__["_passes"]:
            # Gradients accumulate, over batches or over several passes in one graph: the kept table may be in use.
            module.__dict__.pop("_kept", None)
            table = torch.zeros_like(module.weight)
        else:
            table, touched = module.__dict__.get("_kept") or (torch.zeros_like(module.weight), ids[:0])
            table[touched] = 0
            module.__dict__["_kept"] = (table, ids)
        table.index_add_(0, ids, gradients[0].reshape(len(ids), -1).to(table.dtype))
        if module.padding_idx is not None:
            table[module.padding_idx] = 0
        # Another tensor on the same memory: autograd takes a tensor that nobody else holds as it is, and copies any other.
        alias = torch.empty(0, dtype=table.dtype).set_(table.untyped_storage(), 0, table.shape, table.stride())
        return alias, None, None, None


def quicken(model: PreTrainedModel, device: torch.device) -> None:
    """Exchange what is slow on a CPU, for the rest of the model's life: dropout, large embedding tables, and attention.

    torch's fused attention falls back to a slow path where attention has dropout; the model's own (eager) one is faster.
    """
    if device.type != "cpu":
        return
    if any(getattr(model.config, key, 0) > 0 for key in ATTENTION_DROPOUT):
        model.set_attn_implementation("eager")
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
        elif type(module) is nn.Embedding and module.weight.numel() >= TABLE_FROM:
            module.__class__ = QuickEmbedding

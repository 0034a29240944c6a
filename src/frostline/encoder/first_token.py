"""The last block for the first token alone: all that pooling ``cls`` reads.

Keys and values are needed of every token, but the query, the output projection and the feed-forward part of one only. For
encoders whose blocks are built like BERT's; :func:`only_first_token` checks itself against the model's own block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.encoder.families import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
TOLERANCE = 1e-5
FEW_BLOCKS = 4  # trained; with more of them it gains less than 15 %


class FirstTokenBlock(nn.Module):
    """A last block whose output is the first token's alone.

    Args:
        block: the model's own; its tensors are shared and keep their names.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        parts: dict[str, Any] = dict(block.named_children())
        self.attention, self.intermediate, self.output = parts["attention"], parts["intermediate"], parts["output"]

    def forward(self, states: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Return the first token's new state, ``[batch, 1, width]``.

        Args:
            states: that enter the block, ``[batch, tokens, width]``.
            mask: added to the attention's scores, ``[batch, 1, 1 or tokens, tokens]``.
        """
        attention: Any = self.attention
        own = attention.self
        first = states[:, :1]
        query, key, value = (
            layer(of).unflatten(-1, (-1, own.attention_head_size)).transpose(1, 2)
            for layer, of in ((own.query, first), (own.key, states), (own.value, states))
        )
        scores = query @ key.transpose(2, 3) * own.attention_head_size**-0.5
        if mask is not None:
            scores = scores + mask[:, :, :1]
        read = (own.dropout(scores.softmax(dim=-1)) @ value).transpose(1, 2).flatten(2)
        attended = attention.output(read, first)
        state: Tensor = self.output(self.intermediate(attended), attended)
        return state


def only_first_token(model: PreTrainedModel) -> bool:
    """Let an encoder's last block compute the first token alone; its last hidden states then have that one token.

    Returns:
        Whether it was done: the family has such blocks, attention is the model's own, and the outputs agree.
    """
    if model.config.model_type not in TYPES or model.config._attn_implementation != "eager":
        return False
    blocks = model.get_submodule(family_of(model.config.model_type).blocks)
    assert isinstance(blocks, nn.ModuleList)
    quick = FirstTokenBlock(blocks[-1]).eval()
    states = torch.randn(2, 5, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 5, 5).index_fill_(3, torch.tensor([4]), torch.finfo(torch.float32).min)
    with torch.inference_mode():
        whole = blocks[-1].eval()(states, mask)
        whole = whole[0] if isinstance(whole, tuple) else whole
        if not torch.allclose(quick(states, mask), whole[:, :1], atol=TOLERANCE, rtol=0):
            return False
    blocks[-1] = quick
    return True

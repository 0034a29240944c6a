"""Pooling and a linear head, said with what transformers' own ``…ForSequenceClassification`` have: exact up to rounding.

Those classes read the first token through a dense layer and an activation. That leaves two things to say:

**A linear map through an activation.** ``z = relu(z) - relu(-z) = gelu(z) - gelu(-z)``, and ``tanh(s z) / s = z`` up to a share
``(s z)^2 / 3``, which vanishes with ``s`` while floating point keeps its relative precision.

**The mean over tokens.** One more block takes it. Its queries and keys are 0, so that every token attends to all real ones alike;
its values are the tokens' logits, so the mean of these arrives at the first token. Three things stand in the way there:

- The residual connection adds the first token's own state. The norm below is scaled down by ``SMALL`` and the values up by as
  much, so that the state vanishes beside the mean. A power of two costs no precision.
- The block's norms divide by the standard deviation. A large constant, ``LARGE`` in one feature and ``-LARGE`` in another, makes
  that deviation a constant, up to a share ``sum(z^2) / (4 LARGE^2)``.
- They subtract the features' mean, rounded at the size of ``LARGE``. It is the same for all features, so the head subtracts an
  unused feature.

After the first norm, mean and variance are 0 and 1, so the second one changes nothing; the block's feed-forward part is 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.encoder.families import FAMILIES
from frostline.errors import FrostlineError, choices

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SMALL = 2.0**-32  # of the states beside their mean
LARGE = 2.0**20  # of the constant beside the logits
TANH = 2.0**-20  # of the logits where they pass a tanh
CONSTANTS = 3  # features of the further block that hold no logit: LARGE, -LARGE, and one to compare with


@dataclass(frozen=True)
class Block:
    """Where a post-norm block keeps what the mean needs.

    Attributes:
        value: linear map to the values.
        mix: linear map after attention.
        norms: the norm after attention, and the block's last.
    """

    value: str = "attention.self.value"
    mix: str = "attention.output.dense"
    norms: tuple[str, str] = ("attention.output.LayerNorm", "output.LayerNorm")


@dataclass(frozen=True)
class Head:
    """The classification head of a family of transformers.

    Attributes:
        dense: its first linear map.
        output: its last.
        activation: between the two: ``tanh``; ``paired`` for relu and gelu; ``linear``.
        block: what the family's blocks look like; None where no further block can take the mean.
        embeddings: what last scales the embeddings, the first that there is.
    """

    dense: str
    output: str
    activation: str
    block: Block | None = None
    embeddings: tuple[str, ...] = ("embeddings.LayerNorm",)


ROBERTA = Head("classifier.dense", "classifier.out_proj", "tanh", Block())
HEADS = {
    "bert": Head("bert.pooler.dense", "classifier", "tanh", Block()),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Head("classifier.dense", "classifier.out_proj", "paired", Block(), ("embeddings_project", "embeddings.LayerNorm")),
    "deberta-v2": Head("pooler.dense", "classifier", "linear", Block(value="attention.self.value_proj")),
    "distilbert": Head(
        *("pre_classifier", "classifier", "paired"),
        Block("attention.v_lin", "attention.out_lin", ("sa_layer_norm", "output_layer_norm")),
    ),
    "albert": Head(
        *("albert.pooler", "classifier", "tanh"),
        Block(
            "albert_layers.0.attention.value",
            "albert_layers.0.attention.dense",
            ("albert_layers.0.attention.LayerNorm", "albert_layers.0.full_layer_layer_norm"),
        ),
        ("encoder.embedding_hidden_mapping_in",),
    ),
    "mpnet": Head("classifier.dense", "classifier.out_proj", "tanh"),  # adds relative positions to all attention, so no mean
    "modernbert": Head("head.dense", "classifier", "linear"),  # pools itself
    "gpt2": Head("", "score", "linear"),  # reads the last token itself
}
POOLINGS = {"mpnet": ("cls",), "gpt2": ("last",)}  # else: first token, or mean


def check_stock(family: str, pooling: str, layer: int, blocks: int, classes: int, width: int) -> None:
    """Refuse what transformers' own classes cannot say.

    Raises:
        FrostlineError: with what can be exported instead.
    """
    possible = POOLINGS.get(family, ("cls", "mean"))
    if pooling not in possible:
        raise FrostlineError(
            f"No class of transformers for '{family}' classifies by model.pooling={pooling}, so this run cannot be exported as a "
            f"plain model; train with model.pooling={choices(possible)}, or use frostline predict."
        )
    if pooling == "cls" and layer == 0:
        raise FrostlineError(
            "The run reads the first token's embedding, which is the same for all sentences; there is nothing to export."
        )
    if FAMILIES[family].final_norm is not None and layer < blocks:
        raise FrostlineError(
            f"The run reads layer {layer} of {blocks} as it is, but transformers' class for '{family}' norms it first; train "
            "with strategy.layer=last, or use frostline predict."
        )
    most = width // 2 if HEADS[family].activation == "paired" else width - CONSTANTS
    if classes > most:
        raise FrostlineError(f"An encoder of width {width} has room for {most} classes in an exported model, not for {classes}.")


def stock_classifier(
    encoder: PreTrainedModel, layer: int, pooling: str, weight: Tensor, bias: Tensor, class_names: Sequence[str]
) -> PreTrainedModel:
    """Return transformers' own classifier that computes ``pool(states of a layer) @ weight.T + bias``.

    Args:
        encoder: a bare encoder, as :func:`frostline.encoder.load.load_encoder` makes it; left as it is.
        layer: which layer's states, 0 … L.
        pooling: ``cls``, ``mean`` or ``last``.
        weight: ``[classes, width]``, floating point.
        bias: ``[classes]``.
        class_names: in the order of the logits.

    Returns:
        the model, float32, in eval mode; its blocks above ``layer`` are left out.

    Raises:
        FrostlineError: as :func:`check_stock`.
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(encoder.config)
    family, blocks, width = config.model_type, config.num_hidden_layers, config.hidden_size
    check_stock(family, pooling, layer, blocks, len(weight), width)
    head = HEADS[family]
    takes_mean = pooling == "mean" and head.block is not None
    config.num_hidden_layers = layer + takes_mean
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: i for i, name in enumerate(class_names)}
    config.problem_type, config.dtype = "single_label_classification", torch.float32
    if family == "albert" and takes_mean:
        config.num_hidden_groups = config.num_hidden_layers  # the further block must not share its weights
    if family == "modernbert":
        config.classifier_pooling, config.classifier_activation, config.classifier_bias = pooling, "linear", True
    if family == "deberta-v2":
        config.pooler_hidden_size, config.pooler_hidden_act = width, "linear"
        config.conv_kernel_size = getattr(config, "conv_kernel_size", 0) if layer > 0 else 0  # it belongs to the first block
    with torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config).eval()
    weight, bias = weight.double(), bias.double()
    with torch.no_grad():
        _copy_encoder(model.base_model, encoder, layer)
        if family == "gpt2":
            _read_last_norm(model, weight, bias)
        elif family == "modernbert":
            _read_through_norm(model, weight, bias)
        else:
            if takes_mean:
                assert head.block is not None
                weight, bias = _take_mean(model.base_model, head.block, head.embeddings, weight, bias)
            _read_first_token(model, head, weight, bias)
    return model


def _copy_encoder(base: PreTrainedModel, encoder: PreTrainedModel, layer: int) -> None:
    """Copy all weights but those of the blocks above ``layer``; a block that all layers share goes to each that is its own."""
    family = FAMILIES[encoder.config.model_type]
    own = base.state_dict()
    weights = encoder.state_dict()
    if family.shares_blocks and base.config.num_hidden_groups > 1:
        shared = {name.removeprefix(f"{family.blocks}.0."): w for name, w in weights.items() if name.startswith(family.blocks)}
        weights |= {f"{family.blocks}.{i}.{name}": w for i in range(layer) for name, w in shared.items()}
    base.load_state_dict({name: w for name, w in weights.items() if name in own}, strict=False)


def _take_mean(
    base: PreTrainedModel, block: Block, embeddings: Sequence[str], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the last block average the tokens' logits; return the linear map that reads them off the first token."""
    classes, width = weight.shape
    modules = dict(base.named_modules())
    *below, last = modules[FAMILIES[base.config.model_type].blocks].children()
    scaled = below[-1].get_submodule(block.norms[1]) if below else next(modules[path] for path in embeddings if path in modules)
    for parameter in scaled.parameters():
        parameter.mul_(SMALL)
    for parameter in last.parameters():
        parameter.zero_()
    value, mix = last.get_submodule(block.value), last.get_submodule(block.mix)
    _set(value, weight / SMALL, bias)
    constant = torch.zeros(width, dtype=torch.float64)
    constant[classes], constant[classes + 1] = LARGE, -LARGE
    _set(mix, torch.eye(width, dtype=torch.float64)[:, :classes], constant)
    for path in block.norms:
        nn.init.ones_(last.get_submodule(path).weight)  # type: ignore[arg-type]
    second: nn.LayerNorm = last.get_submodule(block.norms[1])  # type: ignore[assignment]
    return _off_norm(classes, width, second.eps), torch.zeros(classes, dtype=torch.float64)


def _off_norm(classes: int, width: int, eps: float) -> Tensor:
    """Return the map ``[classes, width]`` from a normed vector (logits, LARGE, -LARGE, 0, …) back to the logits.

    Args:
        classes: how many.
        width: of the vector.
        eps: of a second norm, which divides by ``sqrt(1 + eps)``.
    """
    reading = torch.eye(classes, width, dtype=torch.float64)
    reading[:, classes + 2] = -1
    scale: Tensor = reading * LARGE * (2 / width * (1 + eps)) ** 0.5
    return scale


def _read_first_token(model: PreTrainedModel, head: Head, weight: Tensor, bias: Tensor) -> None:
    dense, output = model.get_submodule(head.dense), model.get_submodule(head.output)
    identity = torch.eye(len(weight), dtype=torch.float64)
    if head.activation == "paired":
        _set(dense, torch.cat([weight, -weight]), torch.cat([bias, -bias]))
        _set(output, torch.cat([identity, -identity], dim=1), torch.zeros_like(bias))
    else:
        scale = TANH if head.activation == "tanh" else 1.0
        _set(dense, weight * scale, bias * scale)
        _set(output, identity / scale, torch.zeros_like(bias))


def _read_through_norm(model: PreTrainedModel, weight: Tensor, bias: Tensor) -> None:
    """ModernBERT pools itself, but then norms what its dense layer makes of it."""
    classes, width = weight.shape
    constant = torch.zeros(width, dtype=torch.float64)
    constant[:classes], constant[classes], constant[classes + 1] = bias, LARGE, -LARGE
    _set(model.get_submodule("head.dense"), weight, constant)
    _set(model.get_submodule("head.norm"), torch.ones(width), torch.zeros(width))
    _set(model.get_submodule("classifier"), _off_norm(classes, width, 0.0), torch.zeros(classes))


def _read_last_norm(model: PreTrainedModel, weight: Tensor, bias: Tensor) -> None:
    """GPT-2's head has no bias, but what the last norm centres sums to 0, so that one of its features can be a constant 1."""
    norm = model.get_submodule("transformer.ln_f")
    scale, shift = norm.weight.double(), norm.bias.double()  # type: ignore[union-attr,operator]
    on_normed = weight * scale
    reading = on_normed - on_normed[:, :1]
    reading[:, 0] = bias + weight @ shift
    _set(model.get_submodule("score"), reading, None)
    first = torch.zeros_like(shift)
    first[0] = 1
    _set(norm, 1 - first, first)


def _set(module: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Write into the first rows and columns of a linear map (or norm), and zeros into the rest."""
    for name, value in (("weight", weight), ("bias", bias)):
        parameter = getattr(module, name, None)
        if parameter is not None and value is not None:
            parameter.zero_()
            parameter[tuple(slice(n) for n in value.shape)] = value.to(parameter.dtype)

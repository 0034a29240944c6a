"""Where each model family of transformers keeps its embeddings, blocks and final normalisation.

This table is all that Frostline knows about a family: :mod:`frostline.encoder.split` needs no forward code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from frostline.errors import FrostlineError, choices


@dataclass(frozen=True)
class Family:
    """Attribute paths inside a bare transformers model.

    Attributes:
        blocks: the ``ModuleList`` of transformer blocks (the shared layer groups where ``shares_blocks``).
        embeddings: modules that turn tokens into the first block's input; frozen whenever any block is.
        shared: modules that every block reads, such as relative position embeddings; frozen whenever any block is.
        final_norm: the normalisation after the last block, if any.
        causal: a token sees only those before it, so only the last token has seen the sentence.
        shares_blocks: one block is applied at every depth, so no depth strictly between 0 and L has a meaning.
        first_block_extra: modules that belong to block 0 but live outside it.
        reserved_positions: positions that no token can have (RoBERTa counts from the padding id on).
        is_relative: positions are relative, so any length will do.
        gated: the feed-forward part has a gate, a third matrix.
        attention_dropout: how the names of attention's own dropouts end, inside a block.
    """

    blocks: str
    embeddings: tuple[str, ...] = ("embeddings",)
    shared: tuple[str, ...] = ()
    final_norm: str | None = None
    causal: bool = False
    shares_blocks: bool = False
    first_block_extra: tuple[str, ...] = ()
    reserved_positions: int = 0
    is_relative: bool = False
    gated: bool = False
    attention_dropout: str = "attention.self.dropout"


BERT_LIKE = Family("encoder.layer")
ROBERTA_LIKE = Family("encoder.layer", reserved_positions=2)
FAMILIES = {
    "bert": BERT_LIKE,
    "roberta": ROBERTA_LIKE,
    "xlm-roberta": ROBERTA_LIKE,
    "camembert": ROBERTA_LIKE,
    "electra": Family("encoder.layer", embeddings=("embeddings", "embeddings_project")),
    "mpnet": Family(
        "encoder.layer",
        shared=("encoder.relative_attention_bias",),
        reserved_positions=2,
        attention_dropout="attention.attn.dropout",
    ),
    "deberta-v2": Family(
        "encoder.layer",
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
        first_block_extra=("encoder.conv",),
        is_relative=True,
    ),
    "distilbert": Family("transformer.layer", attention_dropout="attention.dropout"),
    "modernbert": Family("layers", final_norm="final_norm", gated=True, attention_dropout="attention_dropout"),
    "gpt2": Family("h", embeddings=("wte", "wpe", "drop"), final_norm="ln_f", causal=True, attention_dropout="attn_dropout"),
    "albert": Family(
        "encoder.albert_layer_groups",
        embeddings=("embeddings", "encoder.embedding_hidden_mapping_in"),
        shares_blocks=True,
        attention_dropout="attention_dropout",
    ),
}


def family_of(model_type: str) -> Family:
    """Return the family of a transformers ``config.model_type``.

    Raises:
        FrostlineError: the family is not in the table.
    """
    if model_type not in FAMILIES:
        raise FrostlineError(f"Encoders of type '{model_type}' are not supported; supported are {choices(FAMILIES)}.")
    return FAMILIES[model_type]


def layer_of(name: str, family: Family) -> int | None:
    """Return the layer that a parameter of an encoder makes: 0 for the embeddings, l for block l-1; None for what none owns."""
    if name.startswith(f"{family.blocks}."):
        return int(name.removeprefix(f"{family.blocks}.").split(".")[0]) + 1
    return 0 if name.startswith(tuple(f"{path}." for path in family.embeddings)) else None


def check_depth(depth: int, blocks: int, family: Family, key: str = "strategy.frozen_depth") -> None:
    """Refuse a frozen depth (or probed layer) that this encoder does not have.

    Raises:
        FrostlineError: ``depth`` lies outside 0…``blocks``, or between them where one block is shared by all layers.
    """
    if not 0 <= depth <= blocks:
        raise FrostlineError(f"{key} is {depth}, but this encoder has {blocks} blocks: use 0 to {blocks}.")
    if family.shares_blocks and 0 < depth < blocks and key == "strategy.frozen_depth":
        raise FrostlineError(
            f"{key} is {depth}, but this encoder shares one block among all its layers, so it cannot be frozen in part: "
            f"use 0 or {blocks}."
        )


def check_pooling(pooling: str, family: Family) -> None:
    """Refuse a pooling that has no meaning for a family.

    Raises:
        FrostlineError: ``cls`` for a causal decoder.
    """
    if family.causal and pooling == "cls":
        raise FrostlineError("model.pooling=cls has no meaning for a causal decoder: its first token sees nothing; use last.")


def check_length(max_length: int, positions: int | None) -> None:
    """Refuse sentences longer than the encoder has positions for.

    Raises:
        FrostlineError: ``max_length`` is larger than ``positions`` (None: no limit).
    """
    if positions is not None and max_length > positions:
        raise FrostlineError(f"data.max_length is {max_length}, but this encoder has positions for {positions} tokens only.")

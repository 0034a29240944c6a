"""Token ids of a split: computed once, kept on disk, memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.runs.files import alone, sha256_of, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1  # part of the key: raise it when the stored columns change
SHOW_PROGRESS_FROM = 20_000  # sentences


@dataclass(frozen=True)
class Tokens:
    """The token ids of one split, packed without padding.

    Attributes:
        ids: all sentences' token ids one after the other, ``[total tokens]``, int.
        types: their segment (0 or 1, for sentence pairs), ``[total tokens]``, int; None where the model has no segments.
        offsets: sentence ``i`` is ``ids[offsets[i]:offsets[i + 1]]``; ``[sentences + 1]``, int.
        truncated: how many sentences were longer than the maximum length.
        pad_id: the id that fills a batch's shorter sentences.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64] | None
    offsets: NDArray[np.int64]
    truncated: int
    pad_id: int

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sentence, ``[sentences]``, int."""
        return np.diff(self.offsets)

    @cached_property
    def keys(self) -> list[bytes]:
        """What identifies each sentence to a frozen encoder: a hash of its token ids and segments, 16 bytes."""
        columns = [column.astype(np.int32) for column in (self.ids, self.types) if column is not None]
        spans = list(zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True))
        return [hashlib.blake2b(b"".join(c[i:j].tobytes() for c in columns), digest_size=16).digest() for i, j in spans]

    def take(self, rows: Sequence[int]) -> Tokens:
        """Return some sentences, in this order; of these, what was truncated is not counted."""
        spans = [slice(self.offsets[row], self.offsets[row + 1]) for row in rows]
        ids, types = (None if of is None else np.concatenate([of[span] for span in spans]) for of in (self.ids, self.types))
        assert ids is not None
        return Tokens(ids, types, np.cumsum([0, *self.lengths[list(rows)]]), 0, self.pad_id)

    def pad(self, rows: list[int]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` (and ``token_type_ids``) of ``rows``, each ``[batch, tokens]``, int64,
        padded on the right to the longest sentence of the batch."""
        lengths = self.lengths[rows]
        shape = (len(rows), int(lengths.max()))
        batch = {
            "input_ids": np.full(shape, self.pad_id, dtype=np.int64),
            "attention_mask": (np.arange(shape[1]) < lengths[:, None]).astype(np.int64),
        }
        if self.types is not None:
            batch["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        for i, row in enumerate(rows):
            span = slice(self.offsets[row], self.offsets[row + 1])
            batch["input_ids"][i, : lengths[i]] = self.ids[span]
            if self.types is not None:
                batch["token_type_ids"][i, : lengths[i]] = self.types[span]
        return {key: torch.from_numpy(array) for key, array in batch.items()}


def tokenise_texts(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Tokens:
    """Tokenise texts (and the second ones of pairs) as :func:`tokenise` does, and keep nothing on disk."""
    columns = _encode(list(texts), None if pairs is None else list(pairs), tokenizer, max_length)
    flat = {
        name: np.array([token for row in columns[name] for token in row], dtype=np.int64)
        for name in ("input_ids", "token_type_ids")
        if name in columns
    }
    return Tokens(
        ids=flat["input_ids"],
        types=flat.get("token_type_ids"),
        offsets=np.cumsum([0, *map(len, columns["input_ids"])]),
        truncated=sum(columns["truncated"]),
        pad_id=int(tokenizer.pad_token_id),
    )


def tokenise(
    split: datasets.Dataset,
    split_hash: str,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_hash: str,
    max_length: int,
    cache_dir: Path,
) -> Tokens:
    """Tokenise a split's ``text`` (and ``text_pair``), or read the undamaged tokens of an equal split from the cache.

    Of processes that call this at once, one tokenises, and the others wait for it.

    Args:
        split: the sentences.
        split_hash: hash of its content; with the tokenizer's and ``max_length`` it is the key on disk.
        tokenizer: a fast tokenizer.
        tokenizer_hash: hash of its definition.
        max_length: tokens, special ones included, beyond which a sentence is truncated.
        cache_dir: tokens are kept in its folder ``tokens``.
    """
    with_types = "token_type_ids" in tokenizer.model_input_names
    key = hashlib.sha256(f"{FORMAT} {split_hash} {tokenizer_hash} {with_types} {max_length}".encode()).hexdigest()[:32]
    folder = cache_dir / "tokens"
    folder.mkdir(parents=True, exist_ok=True)

    def encode(rows: dict[str, list[str]]) -> dict[str, Any]:
        return _encode(rows["text"], rows.get("text_pair"), tokenizer, max_length)

    path = folder / f"{key}.arrow"
    is_whole = _is_whole(path)
    was_quiet = datasets.are_progress_bars_disabled()
    if len(split) < SHOW_PROGRESS_FROM:
        datasets.disable_progress_bars()
    try:
        with nullcontext() if is_whole else alone(path.with_suffix(".lock")):
            is_whole = is_whole or _is_whole(path)  # by now
            stored = split.map(
                encode,
                batched=True,
                remove_columns=split.column_names,
                cache_file_name=str(path),
                load_from_cache_file=is_whole,  # else it is replaced
                new_fingerprint=key,
                desc="Tokenising",
            )
            if not is_whole and path.is_file():  # there is none of no sentences
                write_text(path.with_suffix(".sha256"), sha256_of(path))
    finally:
        if not was_quiet:
            datasets.enable_progress_bars()
    ids = stored.data.column("input_ids").combine_chunks()
    types = stored.data.column("token_type_ids").combine_chunks() if with_types else None
    return Tokens(
        ids=ids.flatten().to_numpy(),
        types=None if types is None else types.flatten().to_numpy(),
        offsets=np.concatenate([[0], np.cumsum(ids.value_lengths().to_numpy())]),
        truncated=sum(stored.data.column("truncated").to_pylist()),
        pad_id=int(tokenizer.pad_token_id),
    )


def _is_whole(path: Path) -> bool:
    checksum = path.with_suffix(".sha256")
    return path.is_file() and checksum.is_file() and checksum.read_bytes() == sha256_of(path).encode()


def _encode(
    texts: list[str], pairs: list[str] | None, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list[Any]]:
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    columns = {"input_ids": encoded["input_ids"], "truncated": [bool(e.overflowing) for e in encoded.encodings]}
    with_types = "token_type_ids" in tokenizer.model_input_names
    return columns | ({"token_type_ids": encoded["token_type_ids"]} if with_types else {})

"""Sentences with masked words: 15 % of them, or one at a time; drawn once from a seed, so that all encoders guess the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.tokens import Tokens, tokenise
from frostline.encoder.load import Pretrained
from frostline.errors import FrostlineError

MASKED_SHARE = 0.15  # Devlin et al. 2019
BATCH_TOKENS = 2048


@dataclass(frozen=True)
class MaskedText:
    """Sentences with masked words.

    Attributes:
        tokens: of the sentences, unmasked.
        places: which of all packed tokens are masked, ascending, ``[masked]``, int64.
        mask_id: what stands in their place.
    """

    tokens: Tokens
    places: NDArray[np.int64]
    mask_id: int

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Return :meth:`Tokens.pad` with masks, and ``numbers`` ``[batch, tokens]``: which of ``places`` it is, -1 for none."""
        batch = self.tokens.pad(rows)
        numbers = torch.full_like(batch["input_ids"], -1)
        for i, row in enumerate(rows):
            start, end = self.tokens.offsets[row : row + 2]
            first, last = np.searchsorted(self.places, [start, end])
            numbers[i, self.places[first:last] - start] = torch.arange(first, last)
        return batch | {"input_ids": batch["input_ids"].masked_fill(numbers >= 0, self.mask_id), "numbers": numbers}

    @property
    def words(self) -> Tensor:
        """The masked ids, ``[masked]``, int64."""
        return torch.from_numpy(self.tokens.ids[self.places].astype(np.int64))

    def batches(self) -> list[list[int]]:
        """Return the rows of batches of similar length."""
        order = np.argsort(self.tokens.lengths, kind="stable")[::-1].tolist()
        batches: list[list[int]] = [[]]
        for row in order:
            if batches[-1] and (len(batches[-1]) + 1) * self.tokens.lengths[batches[-1][0]] > BATCH_TOKENS:
                batches.append([])
            batches[-1].append(row)
        return batches


def mask_words(texts: Sequence[str], base: Pretrained, max_length: int, cache_dir: Path, seed: int) -> MaskedText:
    """Mask 15 % of the tokens of every sentence, at least one.

    Args:
        texts: the sentences.
        base: whose tokenizer reads them.
        max_length: tokens beyond which a sentence is truncated.
        cache_dir: tokens are kept there.
        seed: draws the places.

    Raises:
        FrostlineError: the tokenizer has no mask token.
    """
    mask_id = base.tokenizer.mask_token_id
    if mask_id is None:
        raise FrostlineError("The tokenizer has no mask token, so there are no masked words to guess.")
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    split = datasets.Dataset.from_dict({"text": list(texts)})
    tokens = tokenise(split, key, base.tokenizer, base.tokenizer_hash, max_length, cache_dir)
    special, random = np.array(base.tokenizer.all_special_ids), np.random.default_rng(seed)
    places = []
    for row in range(len(tokens.lengths)):
        start, end = tokens.offsets[row : row + 2]
        words = start + np.flatnonzero(~np.isin(tokens.ids[start:end], special))
        if len(words):
            places.append(np.sort(random.choice(words, max(1, round(MASKED_SHARE * len(words))), replace=False)))
    return MaskedText(tokens, np.concatenate(places), int(mask_id))


def one_mask_at_a_time(text: MaskedText, base: Pretrained, sentences: int) -> MaskedText:
    """Return the first sentences with every word masked in turn, in a copy of the sentence each (Salazar et al. 2020)."""
    special, tokens = np.array(base.tokenizer.all_special_ids), text.tokens
    copies = []
    for row in range(min(sentences, len(tokens.lengths))):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        copies += [(row, [int(place)]) for place in np.flatnonzero(~np.isin(tokens.ids[span], special))]
    return masked_copies(tokens, copies, text.mask_id)


def masked_copies(old: Tokens, copies: Sequence[tuple[int, Sequence[int]]], mask_id: int) -> MaskedText:
    """Return copies of sentences with tokens masked.

    Args:
        old: the sentences' tokens.
        copies: for each the sentence's number, and which of its tokens are masked, ascending.
        mask_id: what stands in their place.
    """
    ids, types, places, offsets = [], [], [], [0]
    for row, masked in copies:
        span = slice(old.offsets[row], old.offsets[row + 1])
        ids.append(old.ids[span])
        types.append(None if old.types is None else old.types[span])
        places += [offsets[-1] + place for place in masked]
        offsets.append(offsets[-1] + len(ids[-1]))
    all_types = None if old.types is None else np.concatenate([t for t in types if t is not None])
    tokens = Tokens(np.concatenate(ids), all_types, np.array(offsets), 0, old.pad_id)
    return MaskedText(tokens, np.array(places, dtype=np.int64), mask_id)

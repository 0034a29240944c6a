"""Probing single words: their tags, read at the first sub-token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.conll import TaggedSentence
from frostline.data.tokens import Tokens
from frostline.encoder.load import Pretrained
from frostline.encoder.passes import encode
from frostline.errors import FrostlineError

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
MAX_TOKENS = 512
LEAST_WORDS = 50  # a split


@dataclass(frozen=True)
class TokenTask:
    """Words and their tags, split by documents, so that no split knows another's topic (by sentences where there is one only).

    Attributes:
        words: of all sentences that have a tag which the training split has, too.
        labels: tag numbers, ``[words]``, int64.
        classes: the tags' names.
        positions: of these words among all words of the sentences, ``[words]``, int64.
        split: of each word.
        dropped: words whose tag the training split lacks.
    """

    words: list[str]
    labels: NDArray[np.int64]
    classes: list[str]
    positions: NDArray[np.int64]
    split: NDArray[np.str_]
    dropped: int

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the numbers of a split's words."""
        return np.flatnonzero(self.split == split)


def token_task(kind: str, sentences: Sequence[TaggedSentence], seed: int) -> TokenTask:
    """Return one tagging task.

    Args:
        kind: ``part_of_speech``, ``chunk`` or ``named_entity``.
        sentences: the tagged sentences.
        seed: draws which documents go to which split.

    Raises:
        FrostlineError: there are too few words or documents.
    """
    split_of = _draw_splits(sentences, seed)
    words = [word for sentence in sentences for word in sentence.words]
    tags = [tag for sentence in sentences for tag in sentence.tags[kind]]
    split = np.array([name for sentence, name in zip(sentences, split_of, strict=True) for _ in sentence.words])
    known = sorted({tag for tag, name in zip(tags, split, strict=True) if name == "train"})
    kept = np.array([position for position, tag in enumerate(tags) if tag in known], dtype=np.int64)
    sizes = Counter(split[kept].tolist())
    if len(known) < 2 or min(sizes[name] for name in SHARES) < LEAST_WORDS:
        raise FrostlineError(
            f"{kind} needs at least {LEAST_WORDS} words in each of training, validation and test and two different tags, but "
            f"there are {len(words)} words in {len({s.document for s in sentences})} documents."
        )
    labels = np.array([known.index(tags[position]) for position in kept], dtype=np.int64)
    return TokenTask([words[i] for i in kept], labels, known, kept, split[kept], len(words) - len(kept))


def token_features(pretrained: Pretrained, sentences: Sequence[TaggedSentence], device: torch.device, precision: str) -> Tensor:
    """Return every layer's state of each word's first sub-token, from one pass.

    Args:
        pretrained: the encoder.
        sentences: the words.
        device: where the pass runs.
        precision: of the pass.

    Returns:
        ``[L + 1, words, width]``, float32, the words of all sentences in order. A word beyond the longest input that the
        encoder takes has the state of the last token.

    Raises:
        FrostlineError: the tokenizer cannot say which token belongs to which word.
    """
    lines = [sentence.words for sentence in sentences]
    encoded = pretrained.tokenizer(lines, is_split_into_words=True, truncation=True, max_length=MAX_TOKENS)
    ids = [np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]]
    types = np.concatenate(encoded["token_type_ids"]) if "token_type_ids" in encoded else None
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    tokens = Tokens(np.concatenate(ids), types, offsets, 0, int(pretrained.tokenizer.pad_token_id))
    firsts = [_first_tokens(encoded.word_ids(row), len(words)) for row, words in enumerate(lines)]
    starts = np.concatenate([[0], np.cumsum([len(words) for words in lines])])
    found = torch.empty(pretrained.blocks + 1, int(starts[-1]), pretrained.width)
    batches = encode(pretrained, {row: (tokens, row) for row in range(len(lines))}, pretrained.blocks, precision, device)
    for rows, states in batches:
        for i, row in enumerate(rows):
            for layer, of_layer in enumerate(states):
                found[layer, starts[row] : starts[row + 1]] = of_layer[i, firsts[row]].float().cpu()
    return found


def _first_tokens(word_ids: list[int | None], words: int) -> list[int]:
    first: dict[int, int] = {}
    for token, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, token)
    if not first:
        raise FrostlineError("The tokenizer does not say which tokens belong to which word, so words cannot be probed.")
    last = max(first.values())
    return [first.get(word, last) for word in range(words)]


def _draw_splits(sentences: Sequence[TaggedSentence], seed: int) -> list[str]:
    documents = [sentence.document for sentence in sentences]
    if len(set(documents)) < 5:
        documents = list(range(len(sentences)))
    order = np.random.default_rng(seed).permutation(sorted(set(documents))).tolist()
    sizes = Counter[int]()
    for sentence, document in zip(sentences, documents, strict=True):
        sizes[document] += len(sentence.words)
    whole, filled, split_of = sum(sizes.values()), 0.0, {}
    names = list(SHARES)
    ends = np.cumsum(list(SHARES.values())) * whole
    for document in order:
        middle = filled + sizes[document] / 2
        split_of[document] = names[int(np.searchsorted(ends[:-1], middle))]
        filled += sizes[document]
    return [split_of[document] for document in documents]

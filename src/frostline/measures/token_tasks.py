"""Probing single words: their tags, read at the first sub-token."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.conll import TaggedSentence
from frostline.data.tokens import Tokens
from frostline.encoder.families import family_of
from frostline.encoder.load import Pretrained
from frostline.encoder.passes import encode
from frostline.errors import FrostlineError

if TYPE_CHECKING:
    from transformers import BatchEncoding

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
        ``[L + 1, words, width]``, float32, the words of all sentences in order. Words are read with spaces between them, as
        encoders that mark a word by the space before it were trained. A sentence longer than the encoder takes is read in
        pieces, so that no word is left out.

    Raises:
        FrostlineError: the tokenizer makes no token of a word.
    """
    texts = [" ".join(sentence.words) for sentence in sentences]
    limits = {"truncation": True, "max_length": _longest(pretrained), "return_overflowing_tokens": True}
    encoded = pretrained.tokenizer(texts, **limits)
    ids = [np.asarray(piece, dtype=np.int64) for piece in encoded["input_ids"]]
    types = np.concatenate(encoded["token_type_ids"]) if "token_type_ids" in encoded else None
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in ids])])
    tokens = Tokens(np.concatenate(ids), types, offsets, 0, int(pretrained.tokenizer.pad_token_id))
    places = np.array(_first_tokens(encoded, sentences))
    found = torch.empty(pretrained.blocks + 1, len(places), pretrained.width)
    batches = encode(pretrained, {piece: (tokens, piece) for piece in range(len(ids))}, pretrained.blocks, precision, device)
    for pieces, states in batches:
        for i, piece in enumerate(pieces):
            words = np.flatnonzero(places[:, 0] == piece)
            for layer, of_layer in enumerate(states):
                found[layer, words] = of_layer[i, places[words, 1]].float().cpu()
    return found


def _longest(pretrained: Pretrained) -> int:
    """How many tokens a piece may have, by the encoder's positions."""
    architecture = pretrained.model.config
    family = family_of(architecture.model_type)
    return MAX_TOKENS if family.is_relative else min(MAX_TOKENS, architecture.max_position_embeddings - family.reserved_positions)


def _first_tokens(encoded: BatchEncoding, sentences: Sequence[TaggedSentence]) -> list[tuple[int, int]]:
    """Return of every word, of all sentences in order, the piece and the place of its first token there."""
    pieces: dict[int, list[int]] = defaultdict(list)
    for piece, row in enumerate(encoded["overflow_to_sample_mapping"]):
        pieces[row].append(piece)
    places = []
    for row, sentence in enumerate(sentences):
        start = 0
        for word in sentence.words:
            # Some tokenizers drop characters, such as a soft hyphen.
            hits = ((p, encoded.char_to_token(p, start + i)) for i in range(len(word)) for p in pieces[row])
            place = next(((piece, token) for piece, token in hits if token is not None), None)
            if place is None:
                raise FrostlineError(f"The tokenizer makes no token of {word!r} in sentence {row + 1}; take it out of the file.")
            places.append(place)
            start += len(word) + 1
    return places


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

"""Masked words: drawn from seed and text alone, never a special token, and put exactly where they were drawn."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.masking import BATCH_TOKENS, MaskedText, mask_words, one_mask_at_a_time
from frostline.errors import FrostlineError
from frostline.schema import RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
DRAW = random.Random(0)
# From one word to many; a sentence without any, and some that are truncated.
TEXTS = [
    *("x" * n for n in (1, 3, 4, 9, 10, 11, 30)),
    *("".join(DRAW.choices("abc de", k=k)) for k in range(40, 90, 3)),
    "",
    "中 a",
]
LENGTH = 64


def encoder(family: str = "bert", weights_seed: int = 0) -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", family, 1, 8, 2, weights_seed), Path("no-cache"))


@pytest.fixture(scope="module")
def base() -> Pretrained:
    return encoder()


@pytest.fixture
def text(base: Pretrained, tmp_path: Path) -> MaskedText:
    return mask_words(TEXTS, base, LENGTH, tmp_path, 0)


def words_of(text: MaskedText, base: Pretrained, row: int) -> list[int]:
    """Places of a sentence's tokens that are not special, counted from its start."""
    special = {base.tokenizer.cls_token_id, base.tokenizer.sep_token_id, base.tokenizer.unk_token_id}
    ids = text.tokens.ids[text.tokens.offsets[row] : text.tokens.offsets[row + 1]]
    return [i for i, token in enumerate(ids.tolist()) if token not in special]


def masked_of(text: MaskedText, row: int) -> list[int]:
    """Masked places of a sentence, counted from its start."""
    start, end = text.tokens.offsets[row : row + 2].tolist()
    return [place - start for place in text.places.tolist() if start <= place < end]


@pytest.mark.parametrize("seed", range(3))
def test_15_percent_of_the_words_of_a_sentence_are_masked_and_at_least_one(base: Pretrained, seed: int, tmp_path: Path) -> None:
    text = mask_words(TEXTS, base, LENGTH, tmp_path, seed)
    assert text.tokens.truncated > 0
    assert text.places.tolist() == sorted(set(text.places.tolist()))
    for row in range(len(TEXTS)):
        words = words_of(text, base, row)
        assert set(masked_of(text, row)) <= set(words), "a special token is masked"
        assert len(masked_of(text, row)) == (max(1, round(0.15 * len(words))) if words else 0)
    assert not masked_of(text, len(TEXTS) - 2)


def test_every_word_may_be_masked(base: Pretrained, tmp_path: Path) -> None:
    """In 400 sentences of 10 words none is left out, but with the probability 10 · 0.8^400."""
    text = mask_words(["x" * 10] * 400, base, LENGTH, tmp_path, 0)
    assert {place for row in range(400) for place in masked_of(text, row)} == set(range(1, 11))


def test_masks_are_a_function_of_seed_and_text(base: Pretrained, text: MaskedText, tmp_path: Path) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    again = mask_words(TEXTS, base, LENGTH, tmp_path / "another", 0)
    assert again.places.tolist() == text.places.tolist()
    assert mask_words(TEXTS, base, LENGTH, tmp_path, 1).places.tolist() != text.places.tolist()


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_all_encoders_with_a_tokenizer_guess_the_same_words(text: MaskedText, family: str, tmp_path: Path) -> None:
    other = mask_words(TEXTS, encoder(family, weights_seed=1), LENGTH, tmp_path, 0)
    assert other.places.tolist() == text.places.tolist()
    assert other.words.tolist() == text.words.tolist()


def test_a_tokenizer_without_a_mask_token_is_refused(base: Pretrained, tmp_path: Path) -> None:
    other = encoder()
    other.tokenizer.mask_token = None
    with pytest.raises(FrostlineError, match="The tokenizer has no mask token, so there are no masked words to guess"):
        mask_words(TEXTS, other, LENGTH, tmp_path, 0)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[0], [3, 1, 20], [5, 5], [len(TEXTS) - 2, 0], list(range(len(TEXTS)))[::-1]], ids=str)
def test_a_batch_has_the_mask_where_it_was_drawn_and_nowhere_else(text: MaskedText, rows: list[int]) -> None:
    plain, batch = text.tokens.pad(rows), text.batch(rows)
    assert batch.keys() == plain.keys() | {"numbers"}
    for key in plain.keys() - {"input_ids"}:
        assert torch.equal(batch[key], plain[key])
    for i, row in enumerate(rows):
        expected = torch.zeros(plain["input_ids"].shape[1], dtype=torch.bool)
        expected[masked_of(text, row)] = True
        assert (batch["input_ids"][i][expected] == text.mask_id).all()
        assert torch.equal(batch["input_ids"][i][~expected], plain["input_ids"][i][~expected])
        assert torch.equal(batch["numbers"][i] >= 0, expected)
        numbers = batch["numbers"][i][expected].numpy()
        assert (text.places[numbers] - text.tokens.offsets[row]).tolist() == masked_of(text, row)
        assert torch.equal(text.words[numbers], plain["input_ids"][i][expected]), "the word to guess is what the mask hides"


def test_batches_hold_every_sentence_once_and_few_tokens(base: Pretrained, tmp_path: Path) -> None:
    texts = [f"{'x' * (1 + i % 60)} {i}" for i in range(300)]
    text = mask_words(texts, base, LENGTH, tmp_path, 0)
    batches = text.batches()
    assert sorted(row for rows in batches for row in rows) == list(range(300))
    assert len(batches) > 3
    assert all(len(rows) * max(text.tokens.lengths[rows]) <= BATCH_TOKENS for rows in batches)
    lengths = [text.tokens.lengths[rows] for rows in batches]
    assert all(min(first) >= max(second) for first, second in itertools.pairwise(lengths)), "similar lengths share a batch"


# --- one mask at a time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "distilbert"])  # with and without segments
def test_every_word_is_masked_once_in_a_copy_of_its_sentence(family: str, tmp_path: Path) -> None:
    base = encoder(family)
    text = mask_words(TEXTS, base, LENGTH, tmp_path, 0)
    if family == "distilbert":
        text = dataclasses.replace(text, tokens=dataclasses.replace(text.tokens, types=None))
    each = one_mask_at_a_time(text, base, 9)
    sentences = [(row, place) for row in range(9) for place in words_of(text, base, row)]
    assert len(each.tokens.lengths) == len(each.places) == len(sentences)
    plain = {row: text.tokens.pad([row]) for row in range(9)}
    for copy, (row, place) in enumerate(sentences):
        batch = each.batch([copy])
        assert masked_of(each, copy) == [place]
        expected = plain[row]["input_ids"].clone()
        expected[0, place] = base.tokenizer.mask_token_id
        assert torch.equal(batch["input_ids"], expected)
        assert batch.keys() - {"numbers"} == plain[row].keys()
        assert int(each.words[copy]) == int(plain[row]["input_ids"][0, place])


@pytest.mark.parametrize(("wanted", "found"), [(2, 2), (10_000, len(TEXTS))])
def test_the_first_sentences_are_taken_as_far_as_there_are_any(
    text: MaskedText, base: Pretrained, wanted: int, found: int
) -> None:
    texts: Sequence[str] = TEXTS[:found]
    words = sum(len(words_of(text, base, row)) for row in range(len(texts)))
    assert len(one_mask_at_a_time(text, base, wanted).places) == words

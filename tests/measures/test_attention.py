"""Entropy and divergence of attention against one sentence and one token at a time."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from frostline.data.tokens import Tokens
from frostline.encoder.load import Pretrained, load_encoder, weights_hash
from frostline.errors import FrostlineError
from frostline.measures import attention
from frostline.measures.attention import compare_attention
from frostline.schema import RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, HEADS = 2, 4
TEXTS = ["a film", "so good", "no", "the film was rather good", "it made no sense at all to me, but why not?", "ok film"]
ROWS = [5, 0, 3, 4, 1]


def random_encoder(family: str, weights_seed: int, heads: int = HEADS) -> Pretrained:
    """With larger weights than at initialisation, under which attention is nearly the same to all tokens."""
    pretrained = load_encoder(RandomModel("random", "mean", "tiny", family, LAYERS, 32, heads, weights_seed), Path("no-cache"))
    with torch.no_grad():
        for name, tensor in pretrained.model.named_parameters():
            if tensor.ndim == 2 and "embedding" not in name:
                tensor.mul_(15)
    return pretrained


def tokens_of(pretrained: Pretrained, texts: list[str] = TEXTS) -> Tokens:
    encoded = pretrained.tokenizer(texts)["input_ids"]
    ids, offsets = np.concatenate(encoded), np.cumsum([0, *map(len, encoded)])
    with_types = "token_type_ids" in pretrained.tokenizer.model_input_names
    return Tokens(ids, np.zeros_like(ids) if with_types else None, offsets, 0, pretrained.tokenizer.pad_token_id)


def literal(before: Pretrained, after: Pretrained, tokens: Tokens, rows: list[int]) -> np.ndarray:
    """Both entropies and the divergence, ``[3, layers, heads]``, by SciPy, token by token."""
    found: list[list[list[list[float]]]] = [[[[] for _ in range(HEADS)] for _ in range(LAYERS)] for _ in range(3)]
    models = [copy.deepcopy(pretrained.model).eval() for pretrained in (before, after)]
    for row in rows:
        ids = torch.from_numpy(tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]])[None]
        maps = []
        for model in models:
            model.set_attn_implementation("eager")
            with torch.no_grad():
                maps.append(model(input_ids=ids, output_attentions=True).attentions)
        for layer in range(LAYERS):
            for head in range(HEADS):
                for token in range(ids.shape[1]):
                    p, q = (a[layer][0, head, token].double().numpy() for a in maps)
                    found[0][layer][head].append(entropy(p) / math.log(len(p)))
                    found[1][layer][head].append(entropy(q) / math.log(len(q)))
                    found[2][layer][head].append(jensenshannon(p, q) ** 2)
    return np.array(found).mean(axis=3)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_entropy_and_divergence_are_those_of_every_token(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = random_encoder(family, 0), random_encoder(family, 1)
    tokens = tokens_of(before)
    expected = literal(before, after, tokens, ROWS)
    assert expected[0].min() < 0.95 and expected[2].min() > 0.01, "attention must differ for this to say anything"
    for pass_tokens in (1024, 10):  # all sentences of one length together, or apart
        monkeypatch.setattr(attention, "PASS_TOKENS", pass_tokens)
        found = compare_attention(before.model, after.model, tokens, ROWS)
        for ours, theirs in zip((found.entropy_before, found.entropy_after, found.divergence), expected, strict=True):
            assert ours.shape == (LAYERS, HEADS) and ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_equal_weights_diverge_by_exactly_0(family: str) -> None:
    before = random_encoder(family, 0)
    tokens = tokens_of(before)
    for after in (before.model, copy.deepcopy(before.model)):
        found = compare_attention(before.model, after, tokens, ROWS)
        np.testing.assert_array_equal(found.divergence, 0)
        np.testing.assert_array_equal(found.entropy_before, found.entropy_after)


def test_values_stay_within_their_bounds_and_swapping_the_encoders_swaps_the_entropies() -> None:
    before, after = random_encoder("bert", 0), random_encoder("bert", 1)
    there = compare_attention(before.model, after.model, tokens_of(before), ROWS)
    back = compare_attention(after.model, before.model, tokens_of(before), ROWS)
    assert ((there.entropy_before > 0) & (there.entropy_before < 1)).all()
    assert ((there.divergence > 0) & (there.divergence < math.log(2))).all()
    np.testing.assert_allclose(there.divergence, back.divergence, rtol=1e-12)
    np.testing.assert_array_equal(there.entropy_before, back.entropy_after)


def test_equal_keys_give_an_entropy_of_1() -> None:
    before = random_encoder("bert", 0)
    with torch.no_grad():
        for block in before.model.encoder.layer:
            block.attention.self.key.weight.zero_()
    found = compare_attention(before.model, before.model, tokens_of(before), ROWS)
    np.testing.assert_allclose(found.entropy_before, 1, atol=1e-6)


def test_the_encoders_stay_as_they_are() -> None:
    before, after = random_encoder("bert", 0), random_encoder("bert", 1)
    after.model.train()
    before.model.set_attn_implementation("sdpa")
    hashes = [weights_hash(encoder.model) for encoder in (before, after)]
    dropped = compare_attention(before.model, after.model, tokens_of(before), ROWS)
    again = compare_attention(before.model, after.model, tokens_of(before), ROWS)
    np.testing.assert_array_equal(dropped.divergence, again.divergence)  # no dropout, although `after` is in train mode
    assert before.model.config._attn_implementation == "sdpa" and not before.model.training
    assert after.model.training and all(module.training for module in after.model.modules())
    assert [weights_hash(encoder.model) for encoder in (before, after)] == hashes


def test_a_sentence_of_one_token_is_left_out() -> None:
    before, after = random_encoder("bert", 0), random_encoder("bert", 1)
    tokens = tokens_of(before)
    first = int(tokens.offsets[1])
    cut = Tokens(tokens.ids[first - 1 :], None, tokens.offsets[1:] - first + 1, 0, tokens.pad_id)
    one_first = Tokens(cut.ids, None, np.concatenate([[0], cut.offsets]), 0, tokens.pad_id)
    assert one_first.lengths[0] == 1
    found = compare_attention(before.model, after.model, one_first, [0, 1, 2])
    expected = compare_attention(before.model, after.model, one_first, [1, 2])
    np.testing.assert_array_equal(found.entropy_after, expected.entropy_after)
    with pytest.raises(FrostlineError, match="No sentence here has two tokens"):
        compare_attention(before.model, after.model, one_first, [0])


def test_an_encoder_that_tells_no_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = random_encoder("bert", 0)

    def without_maps(self: Any, **inputs: Any) -> Any:
        return {"last_hidden_state": None}

    monkeypatch.setattr(type(before.model), "forward", without_maps)
    with pytest.raises(FrostlineError, match="type 'bert' return no attention maps"):
        compare_attention(before.model, before.model, tokens_of(before), ROWS)


def test_encoders_of_different_size_are_refused() -> None:
    before = random_encoder("bert", 0)
    with pytest.raises(ValueError, match="equal layers and heads"):
        compare_attention(before.model, random_encoder("bert", 0, heads=2).model, tokens_of(before), ROWS)

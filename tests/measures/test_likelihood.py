"""Likelihoods of masked words against a forward pass for every mask, by transformers' own model."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frostline.data.tokens import Tokens, tokenise
from frostline.encoder.load import load_encoder
from frostline.encoder.reading import own_head
from frostline.errors import FrostlineError
from frostline.measures.likelihood import Reader, filled_log_likelihoods, icat, shared_log_likelihoods, template_association

pytestmark = pytest.mark.usefixtures("one_thread")
save_whole = runpy.run_path(str(Path(__file__).parents[1] / "encoder" / "test_reading.py"))["save_whole"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, Any]:
    """A tiny model with its head for masked words: as a reader, and as transformers has it."""
    import datasets

    folder = tmp_path_factory.mktemp("model")
    config, model = save_whole(folder, "bert")
    base, head = load_encoder(config, folder), own_head(config, folder)
    assert head is not None

    def tokens_of(texts: Any) -> Tokens:
        split = datasets.Dataset.from_dict({"text": list(texts)})
        return tokenise(split, str(hash(tuple(texts))), base.tokenizer, base.tokenizer_hash, 128, folder)

    return Reader(base, head, tokens_of, torch.device("cpu"), folder), model


def ids_of(reader: Reader, text: str) -> list[int]:
    return list(reader.encoder.tokenizer(text)["input_ids"])


def log_likelihood(reader: Reader, model: Any, ids: list[int], at: int, hidden: list[int]) -> float:
    """Of the token ``at``, with the tokens ``hidden`` masked: one sentence, one pass."""
    masked = [reader.encoder.tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(ids)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([masked]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64)).logits
    return float(logits[0, at].log_softmax(dim=0)[ids[at]])


def test_shared_tokens_are_masked_one_at_a_time_and_the_others_stay_visible(whole: tuple[Reader, Any]) -> None:
    reader, model = whole
    pairs = [("abc dab", "abc dbb"), ("ba ab c", "ba c"), ("ddca", "ddcb")]
    found = shared_log_likelihoods(reader, *zip(*pairs, strict=True))
    special = set(reader.encoder.tokenizer.all_special_ids)
    for (first, second), of_first, of_second in zip(pairs, *found, strict=True):
        a, b = ids_of(reader, first), ids_of(reader, second)
        # By hand: these pairs differ in one stretch, so what is shared is a common start and a common end.
        start = next(i for i in range(min(len(a), len(b))) if a[i] != b[i])
        end = next(i for i in range(1, min(len(a), len(b))) if a[-i] != b[-i]) - 1
        for ids, value in ((a, of_first), (b, of_second)):
            shared = [*range(start), *range(len(ids) - end, len(ids))]
            expected = sum(log_likelihood(reader, model, ids, i, [i]) for i in shared if ids[i] not in special)
            assert value == pytest.approx(expected, abs=1e-4)


def test_what_fills_the_blank_is_scored_by_its_own_tokens(whole: tuple[Reader, Any]) -> None:
    reader, model = whole
    contexts, filled = ["ab BLANK cd", "BLANK dd"], ["ab xyz cd", "zz dd"]
    found = filled_log_likelihoods(reader, contexts, filled)
    for context, text, value in zip(contexts, filled, found, strict=True):
        ids = ids_of(reader, text)
        before = len(ids_of(reader, context.split("BLANK")[0].strip())) - 1
        after = len(ids_of(reader, context.split("BLANK")[1].strip())) - 1
        expected = [log_likelihood(reader, model, ids, i, [i]) for i in range(before, len(ids) - after)]
        assert len(expected) >= 1 and value == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("template", ["{target} {attribute}", "{attribute} {target}"])
def test_an_association_takes_out_how_frequent_targets_are(whole: tuple[Reader, Any], template: str) -> None:
    reader, model = whole
    expected = []
    for target in ("a", "b"):
        ids = ids_of(reader, template.replace("{target}", target).replace("{attribute}", "xyz"))
        of, special = ids_of(reader, target), reader.encoder.tokenizer.all_special_ids
        at = ids.index(of[1])
        attribute = [i for i, token in enumerate(ids) if i != at and token not in special]
        expected.append(log_likelihood(reader, model, ids, at, [at]) - log_likelihood(reader, model, ids, at, [at, *attribute]))
    found = template_association(reader, [template], ["a", "b"], "xyz")
    assert found == pytest.approx(expected[0] - expected[1], abs=1e-4)


def test_a_target_of_several_tokens_is_told(whole: tuple[Reader, Any]) -> None:
    with pytest.raises(FrostlineError, match="'a b' is not one token"):
        template_association(whole[0], ["{target} {attribute}"], ["a b", "c"], "d")


@pytest.mark.parametrize(
    ("makes_sense", "stereotype", "expected"), [(100, 50, 100), (100, 100, 0), (100, 0, 0), (84.36, 57.82, 71.17), (50, 50, 50)]
)
def test_the_idealised_score_is_full_without_a_preference(makes_sense: float, stereotype: float, expected: float) -> None:
    assert icat(makes_sense, stereotype) == pytest.approx(expected, abs=0.02)

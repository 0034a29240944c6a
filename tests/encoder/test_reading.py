"""Reading: a head guesses masked words from any encoder's states, its own one as transformers would."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForMaskedLM

from frostline.encoder import masking, reading
from frostline.encoder.families import FAMILIES
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.masking import MaskedText, mask_words, one_mask_at_a_time
from frostline.encoder.reading import ReadingHead, fit_reading_head, masked_states, own_head, reading_head, reading_losses
from frostline.errors import FrostlineError
from frostline.schema import HubModel, ModelConfig, RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
# What is masked stands on its left and on its right, too.
TEXTS = [f"{'abcd'[i % 4] * (3 + i % 7)} {'xyz'[i % 3]}" for i in range(60)]


def random(family: str = "bert", weights_seed: int = 0) -> RandomModel:
    return RandomModel("random", "mean", "tiny", family, blocks=2, width=16, heads=4, weights_seed=weights_seed)


def encoder(family: str = "bert", weights_seed: int = 0) -> Pretrained:
    """Weights drawn large enough for a state to say something of its sentence."""
    base = load_encoder(random(family, weights_seed), Path("no-cache"))
    generator = torch.Generator().manual_seed(weights_seed)
    with torch.no_grad():
        for p in base.model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return base


@pytest.fixture(scope="module")
def base() -> Pretrained:
    return encoder()


@pytest.fixture(scope="module")
def text(base: Pretrained, tmp_path_factory: pytest.TempPathFactory) -> MaskedText:
    return mask_words(TEXTS, base, 128, tmp_path_factory.mktemp("cache"), 0)


@pytest.fixture(scope="module")
def head(base: Pretrained, text: MaskedText) -> ReadingHead:
    return fit_reading_head(base, text, CPU, 0, show_progress=False)


def one_by_one(text: MaskedText, logits_of: Any) -> list[float]:
    """Every masked word's loss, of one sentence after the other."""
    losses: list[float] = []
    for row in range(len(text.tokens.lengths)):
        batch = text.batch([row])
        at = batch.pop("numbers") >= 0
        with torch.no_grad():
            logits = logits_of(batch)[at]
        losses += F.cross_entropy(logits, text.tokens.pad([row])["input_ids"][at], reduction="none").tolist()
    return losses


def states_of(model: Any, batch: dict[str, Tensor]) -> Tensor:
    last: Tensor = model(**batch).last_hidden_state
    return last


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000], ids=["a sentence", "some", "all"])
def test_losses_are_in_the_texts_order_whatever_the_batches(
    base: Pretrained, text: MaskedText, head: ReadingHead, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking, "BATCH_TOKENS", batch_tokens)
    assert (len(text.batches()) == 1) == (batch_tokens == 100_000)
    expected = one_by_one(text, lambda batch: head(states_of(base.model, batch)))
    assert len(set(np.round(expected, 3))) > 20
    np.testing.assert_allclose(reading_losses(base.model, head, text, CPU), expected, rtol=1e-4)
    expected_states = torch.cat([_masked_states_of(base, text, row) for row in range(len(TEXTS))])
    torch.testing.assert_close(masked_states(base.model, text, CPU), expected_states, rtol=1e-4, atol=1e-5)


def _masked_states_of(base: Pretrained, text: MaskedText, row: int) -> Tensor:
    batch = text.batch([row])
    at = batch.pop("numbers") >= 0
    with torch.no_grad():
        return states_of(base.model, batch)[at]


def test_a_reading_head_is_dense_gelu_norm_and_the_word_embeddings(base: Pretrained, head: ReadingHead) -> None:
    states, table = torch.randn(5, 16), base.model.get_input_embeddings().weight
    hidden = F.gelu(states @ head.dense.weight.T + head.dense.bias)
    normed = (hidden - hidden.mean(dim=1, keepdim=True)) / (hidden.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = (normed * head.norm.weight + head.norm.bias) @ table.T + head.bias
    torch.testing.assert_close(head(states), expected)


# --- the model's own head --------------------------------------------------------------------------------------------

WITH_HEAD = [family for family in FAMILIES if family != "gpt2"]


def save_whole(folder: Path, family: str, seed: int = 0) -> tuple[ModelConfig, Any]:
    """A model with its head for masked words, as transformers saves it with a tokenizer; return it as well."""
    base = load_encoder(random(family), Path("no-cache"))
    torch.manual_seed(seed)
    whole = AutoModelForMaskedLM.from_config(base.model.config).eval()
    with torch.no_grad():
        for p in whole.parameters():
            p += 0.3 * torch.randn(p.shape)
    whole.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return HubModel("hub", "mean", str(folder), None), whole


@pytest.mark.parametrize("family", WITH_HEAD)
def test_losses_of_the_own_head_are_those_of_the_whole_model(family: str, tmp_path: Path) -> None:
    config, whole = save_whole(tmp_path / "model", family)
    base, head = load_encoder(config, tmp_path), own_head(config, tmp_path)
    assert head is not None
    assert not any(p.requires_grad for p in head.whole.parameters())
    text = mask_words(TEXTS[:9], base, 128, tmp_path, 0)
    losses, start = reading_losses(base.model, head, text, CPU), 0
    for row in range(9):  # transformers' own loss is the mean over the labels that are not -100
        batch = text.batch([row])
        labels = torch.where(batch.pop("numbers") >= 0, text.tokens.pad([row])["input_ids"], -100)
        count = int((labels >= 0).sum())
        with torch.no_grad():
            expected = whole(**batch, labels=labels).loss
        np.testing.assert_allclose(losses[start : start + count].mean(), expected, rtol=1e-4)
        start += count
    assert start == len(losses)


@pytest.mark.parametrize(("family", "head_of"), [("bert", "cls"), ("roberta", "lm_head"), ("electra", None)])
def test_the_own_head_reads_another_encoders_states_and_stays_as_it_was(family: str, head_of: str | None, tmp_path: Path) -> None:
    config, whole = save_whole(tmp_path / "model", family)
    base, other, head = load_encoder(config, tmp_path), encoder(family, weights_seed=1), own_head(config, tmp_path)
    assert head is not None
    text = mask_words(TEXTS, base, 128, tmp_path, 0)
    before = dict(head.whole.named_modules())
    own = reading_losses(base.model, head, text, CPU)
    foreign = reading_losses(other.model, head, text, CPU)
    assert np.abs(foreign - own).mean() > 0.1
    if head_of is not None:
        module = getattr(whole, head_of)
        np.testing.assert_allclose(foreign, one_by_one(text, lambda b: module(states_of(other.model, b))), rtol=1e-4)
    assert dict(head.whole.named_modules()) == before
    np.testing.assert_array_equal(reading_losses(base.model, head, text, CPU), own, strict=True)
    same = copy.deepcopy(base.model)
    np.testing.assert_array_equal(reading_losses(same, head, text, CPU), own, strict=True)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "modernbert", "gpt2"])
def test_a_bare_encoder_has_no_head_of_its_own(family: str, tmp_path: Path) -> None:
    """transformers would make up a random one."""
    base = load_encoder(random(family), Path("no-cache"))
    base.model.save_pretrained(tmp_path / "model")
    base.tokenizer.save_pretrained(tmp_path / "model")
    config = HubModel("hub", "mean", str(tmp_path / "model"), None)
    load_encoder(config, tmp_path)
    assert own_head(config, tmp_path) is None


def test_random_weights_have_no_head_of_their_own(tmp_path: Path) -> None:
    assert own_head(random(), tmp_path) is None


def test_a_part_of_a_head_is_none(tmp_path: Path) -> None:
    config, _ = save_whole(tmp_path / "model", "bert")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["cls.predictions.transform.dense.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    assert own_head(config, tmp_path) is None


# --- a fitted head ---------------------------------------------------------------------------------------------------


def unigram_loss(text: MaskedText) -> float:
    """What can be known of a word without its sentence, at best."""
    counts = torch.bincount(text.words).double()
    return float(-(counts / counts.sum()).log()[text.words].mean())


def test_a_fitted_head_reads_better_than_at_its_start(
    base: Pretrained, text: MaskedText, head: ReadingHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RATE", 0.0)
    start = fit_reading_head(base, text, CPU, 0, show_progress=False)
    assert reading_losses(base.model, head, text, CPU).mean() < reading_losses(base.model, start, text, CPU).mean()


def test_a_head_that_was_fitted_on_enough_words_reads_more_than_their_frequencies(
    base: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few words in small batches stand for many in large ones."""
    monkeypatch.setattr(reading, "BATCH_WORDS", 16)
    many = one_mask_at_a_time(mask_words(TEXTS * 3, base, 128, tmp_path, 0), base, 180)
    head = fit_reading_head(base, many, CPU, 0, show_progress=False)
    assert reading_losses(base.model, head, many, CPU).mean() < unigram_loss(many)


def test_fitting_a_head_changes_nothing_else_and_is_a_function_of_the_seed(text: MaskedText) -> None:
    base = encoder()
    before = {name: p.clone() for name, p in base.model.state_dict().items()}
    torch.manual_seed(5)
    random_state = torch.random.get_rng_state()
    first = fit_reading_head(base, text, CPU, 0, show_progress=False)
    assert torch.equal(torch.random.get_rng_state(), random_state), "the run's own random numbers moved"
    torch.manual_seed(6)
    again, other = (fit_reading_head(base, text, CPU, seed, show_progress=False) for seed in (0, 1))
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in first.state_dict().items())
    assert not torch.equal(first.dense.weight, other.dense.weight)
    assert all(torch.equal(p, before[name]) for name, p in base.model.state_dict().items())
    assert torch.equal(first.words, base.model.get_input_embeddings().weight)
    assert not any(p.requires_grad for p in first.parameters())
    assert not first.training


def test_embeddings_of_another_width_than_the_states_are_refused(tmp_path: Path) -> None:
    base = encoder("albert")
    with pytest.raises(FrostlineError, match="word embeddings are not as wide as its states"):
        fit_reading_head(base, mask_words(TEXTS, base, 128, tmp_path, 0), CPU, 0, show_progress=False)


# --- kept on disk ----------------------------------------------------------------------------------------------------


def kept(cache: Path) -> set[str]:
    return {path.name for path in (cache / "reading").iterdir()}


def assert_same(first: ReadingHead, second: ReadingHead) -> None:
    assert first.state_dict().keys() == second.state_dict().keys()
    assert all(torch.equal(p, second.state_dict()[name]) for name, p in first.state_dict().items())
    assert torch.equal(first.words, second.words)


def test_a_head_is_fitted_once_and_then_read_bit_for_bit(
    base: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reading_head(base, TEXTS, 128, tmp_path, CPU, show_progress=False)
    assert len(kept(tmp_path)) == 1
    with monkeypatch.context() as during:
        during.setattr(reading, "fit_reading_head", None)  # not called
        again = reading_head(base, TEXTS, 128, tmp_path, CPU, show_progress=False)
    assert_same(first, again)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    other = encoder(weights_seed=1)
    for given in [(base, TEXTS[1:], 128), (base, TEXTS[::-1], 128), (base, TEXTS, 8), (other, TEXTS, 128)]:
        before = kept(tmp_path)
        reading_head(*given, tmp_path, CPU, show_progress=False)
        assert len(kept(tmp_path) - before) == 1, "another encoder, text or length needs a head of its own"


def test_a_damaged_head_is_fitted_again(base: Pretrained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = reading_head(base, TEXTS, 128, tmp_path, CPU, show_progress=False)
    (path,) = (tmp_path / "reading").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_same(reading_head(base, TEXTS, 128, tmp_path, CPU, show_progress=False), first)
    assert path.read_bytes() == whole
    assert f"'{path}' is damaged" in caplog.text


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    base = encoder()
    base.tokenizer.mask_token = None
    with pytest.raises(FrostlineError, match="no mask token"):
        reading_head(base, TEXTS, 128, tmp_path, CPU, show_progress=False)
    assert not (tmp_path / "reading").exists()

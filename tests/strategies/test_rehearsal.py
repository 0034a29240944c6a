"""Keeping up reading: what each weight matters for it, and the loss of a step that reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from frostline.commands.launch import compose_alone
from frostline.config import validate
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.masking import MaskedText, mask_words
from frostline.encoder.reading import ReadingHead, reading_losses
from frostline.encoder.split import SplitEncoder
from frostline.schema import Config, RandomModel
from frostline.strategies import PartialClassifier, build_classifier, rehearsal
from frostline.strategies.rehearsal import attach_reading, fisher_information

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
TEXTS = [f"{'abcd'[i % 4] * (3 + i % 7)} {'xyz'[i % 3]}" for i in range(80)]


def pretrained() -> Pretrained:
    """Weights drawn large enough for a state to say something of its sentence."""
    base = load_encoder(RandomModel("random", "mean", "tiny", "bert", 2, 8, 2, 0), Path("no-cache"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in base.model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return base


@pytest.fixture
def base() -> Pretrained:
    return pretrained()


@pytest.fixture
def text(base: Pretrained, tmp_path: Path) -> MaskedText:
    return mask_words(TEXTS, base, 64, tmp_path, 0)


@pytest.fixture
def head(base: Pretrained) -> ReadingHead:
    """It has weights of its own, and all but three words are out of the question."""
    torch.manual_seed(0)
    head = ReadingHead(base.model.get_input_embeddings().weight)
    with torch.no_grad():
        head.bias.fill_(-50.0)
        head.bias[[10, 11, 12]] = torch.tensor([0.0, 0.5, -1.0])
    return head.requires_grad_(False).eval()


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the numbers of the sentences that are read."""
    found: list[int] = []
    batch = MaskedText.batch

    def watched(self: MaskedText, rows: list[int]) -> dict[str, Tensor]:
        found.extend(rows)
        return batch(self, rows)

    monkeypatch.setattr(MaskedText, "batch", watched)
    return found


def of_rows(text: MaskedText, rows: list[int]) -> MaskedText:
    """These sentences with their masks, one after the other, as often as they are named."""
    spans = [slice(*text.tokens.offsets[row : row + 2]) for row in rows]
    offsets = np.cumsum([0, *(span.stop - span.start for span in spans)])
    masked = [text.places[(text.places >= span.start) & (text.places < span.stop)] - span.start for span in spans]
    ids, types = (
        np.concatenate([column[span] for span in spans]) for column in (text.tokens.ids, text.tokens.types) if column is not None
    )
    tokens = dataclasses.replace(text.tokens, ids=ids, types=types, offsets=offsets)
    places = [places + offset for places, offset in zip(masked, offsets[:-1], strict=True)]
    return MaskedText(tokens, np.concatenate(places), text.mask_id)


# --- Fisher information ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_fisher_information_is_that_of_what_trains_not_negative_and_1_in_the_mean(
    base: Pretrained, head: ReadingHead, text: MaskedText, depth: int
) -> None:
    encoder = SplitEncoder(base.model, depth)
    found = fisher_information(encoder, head, text, 20, 0, CPU)
    assert {name: t.shape for name, t in found.items()} == {name: p.shape for name, p in encoder.trained_parameters()}
    every = torch.cat([t.flatten() for t in found.values()])
    assert every.isfinite().all()
    assert (every >= 0).all()
    assert every.mean().item() == pytest.approx(1, rel=1e-4)
    assert not any(t.requires_grad for t in found.values())
    assert all(p.grad is None for p in encoder.parameters())


def test_fisher_information_is_a_function_of_the_seed(base: Pretrained, head: ReadingHead, text: MaskedText) -> None:
    encoder = SplitEncoder(base.model, 0).train()
    torch.manual_seed(1)
    first = fisher_information(encoder, head, text, 10, 0, CPU)
    torch.manual_seed(2)
    encoder.train()
    again, other = (fisher_information(encoder, head, text, 10, seed, CPU) for seed in (0, 1))
    assert all(torch.equal(t, again[name]) for name, t in first.items()), "dropout, or the run's own random numbers, had a say"
    assert any(not torch.equal(t, other[name]) for name, t in first.items())


@pytest.mark.parametrize("sentences", [80, 1000])
def test_of_more_sentences_than_there_are_all_are_read_once(
    base: Pretrained, head: ReadingHead, text: MaskedText, sentences: int, rows_read: list[int]
) -> None:
    fisher_information(SplitEncoder(base.model, 1), head, text, sentences, 0, CPU)
    assert sorted(rows_read) == list(range(80))


def test_what_cannot_matter_for_reading_has_no_fisher_information(base: Pretrained, head: ReadingHead, text: MaskedText) -> None:
    found = fisher_information(SplitEncoder(base.model, 0), head, text, 80, 0, CPU)
    seen = set(text.batch(list(range(80)))["input_ids"].unique().tolist()) - {text.tokens.pad_id}
    words = found["suffix.embeddings.word_embeddings.weight"].sum(dim=1)
    assert set(words.nonzero()[:, 0].tolist()) == seen
    positions = found["suffix.embeddings.position_embeddings.weight"].sum(dim=1)
    assert set(positions.nonzero()[:, 0].tolist()) == set(range(int(text.tokens.lengths.max())))
    assert (found["suffix.embeddings.token_type_embeddings.weight"][1] == 0).all()
    for block in range(2):  # added to all scores of a query alike, which softmax does not see
        assert found[f"suffix.encoder.layer.{block}.attention.self.key.bias"].max() < 1e-6
        assert found[f"suffix.encoder.layer.{block}.attention.self.value.bias"].min() > 1e-4


def test_fisher_information_is_the_mean_over_words_that_the_model_itself_draws(
    base: Pretrained, head: ReadingHead, text: MaskedText
) -> None:
    """Exact: over sentences, masks and words, the sum of p times the squared gradient of log p; draws add noise."""
    encoder = SplitEncoder(base.model, 0)
    parameters = [p for _, p in encoder.trained_parameters()]
    exact = [torch.zeros_like(p) for p in parameters]
    for row, masks in ((0, 1), (6, 2)):
        batch = text.batch([row])
        logits = head(encoder(batch)[batch["numbers"] >= 0])
        assert len(logits) == masks
        for of_mask in logits.log_softmax(dim=1):
            for log_p in of_mask[of_mask > -20]:
                gradients = torch.autograd.grad(log_p, parameters, retain_graph=True, allow_unused=True)
                for total, gradient in zip(exact, gradients, strict=True):
                    total += 0 if gradient is None else log_p.detach().exp() * gradient.square()
    expected = torch.cat([t.flatten() for t in exact])
    expected /= expected.mean()
    found = fisher_information(encoder, head, of_rows(text, [0, 6] * 150), 300, 0, CPU)
    difference = torch.cat([t.flatten() for t in found.values()]) - expected
    assert difference.abs().sum() < 0.1 * expected.sum()


# --- rehearsal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_a_rehearsal_has_a_finite_loss_with_a_gradient_for_what_trains_only(
    base: Pretrained, head: ReadingHead, text: MaskedText, depth: int
) -> None:
    encoder = SplitEncoder(base.model, depth).train()
    loss = rehearsal.rehearsal(head, text, 0)(encoder, 0)
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    for name, p in encoder.trained_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    top = encoder.trained_parameters()[-1][1].grad
    assert top is not None and top.abs().sum() > 0
    assert all(p.grad is None for p in (*head.parameters(), *base.model.parameters()))


def test_a_rehearsal_is_a_function_of_seed_and_step(base: Pretrained, head: ReadingHead, text: MaskedText) -> None:
    encoder, found = SplitEncoder(base.model, 0), []
    for disturb in (1, 2):
        torch.manual_seed(disturb)
        losses = {seed: rehearsal.rehearsal(head, text, seed) for seed in (0, 1, 2**32 - 1)}
        found.append([loss(encoder, step).item() for loss in losses.values() for step in (0, 1, 100)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 9
    state = torch.random.get_rng_state()
    losses[0](encoder, 0)
    assert torch.equal(torch.random.get_rng_state(), state), "the run's own random numbers moved"


@pytest.mark.parametrize("row", [0, 6], ids=["one mask", "two masks"])
def test_the_loss_of_a_rehearsal_is_the_mean_over_masked_words(
    base: Pretrained, head: ReadingHead, text: MaskedText, row: int
) -> None:
    same = of_rows(text, [row] * 3)
    loss = rehearsal.rehearsal(head, same, 0)(SplitEncoder(base.model, 1), 5).item()
    assert loss == pytest.approx(reading_losses(base.model, head, same, CPU).mean(), rel=1e-5)


def test_every_sentence_is_rehearsed_sooner_or_later(
    base: Pretrained, head: ReadingHead, text: MaskedText, rows_read: list[int]
) -> None:
    """Of 80, each is left out of 40 batches of 32 with the probability (79 / 80)^1280, one in ten millions."""
    loss, encoder = rehearsal.rehearsal(head, text, 0), SplitEncoder(base.model, 2)
    for step in range(40):
        loss(encoder, step)
    assert set(rows_read) == set(range(80))


# --- what a run attaches ---------------------------------------------------------------------------------------------


def config_of(cache: Path, *words: str) -> Config:
    composed = compose_alone("train", ["model=tiny", "strategy=full", "data=tweets", f"paths.cache_dir={cache}", *words])
    assert composed is not None
    return validate(composed)


def attached(config: Config) -> PartialClassifier:
    base = load_encoder(config.model, Path(config.paths.cache_dir))
    module = build_classifier(config, base, 2)
    assert isinstance(module, PartialClassifier) and module.remedies is not None
    attach_reading(module.remedies, config, base, module.encoder, CPU)
    return module


def test_replay_and_ewc_get_a_head_that_all_seeds_share(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SENTENCES", 50)
    importance: list[dict[str, Tensor]] = []
    for seed in (0, 0, 1):
        words = [f"seed={seed}", "remedy=[ewc,replay]", "remedy.ewc.sentences=5", "trainer.progress_bar=false"]
        module = attached(config_of(own_cache, *words))
        assert module.remedies is not None and module.remedies.importance is not None and module.remedies.rehearsal is not None
        assert module.remedies.importance.keys() == module.remedies.start.keys()
        assert module.remedies.rehearsal(module.encoder, 0).isfinite()
        importance.append(module.remedies.importance)
    assert all(torch.equal(t, importance[1][name]) for name, t in importance[0].items())
    assert any(not torch.equal(t, importance[2][name]) for name, t in importance[0].items())
    assert len(list((own_cache / "reading").iterdir())) == 1


@pytest.mark.parametrize(("remedy", "has"), [("ewc", (False, True)), ("l2_sp", (False, False))])
def test_a_remedy_gets_what_it_needs_and_no_more(
    remedy: str, has: tuple[bool, bool], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SENTENCES", 50)
    remedies = attached(config_of(own_cache, f"remedy={remedy}", "trainer.progress_bar=false")).remedies
    assert remedies is not None
    assert (remedies.rehearsal is not None, remedies.importance is not None) == has
    assert (own_cache / "reading").exists() == any(has)

"""What each remedy computes, and that it reaches training."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from transformers import AutoModel

from frostline.encoder.families import FAMILIES, family_of
from frostline.encoder.load import Pretrained
from frostline.encoder.split import SplitEncoder
from frostline.schema import (
    Averaging,
    DropoutRates,
    Ewc,
    L2Sp,
    LabelSmoothing,
    LoraStrategy,
    Mixout,
    PartialStrategy,
    RDrop,
    Reinit,
    RemedyConfig,
    Replay,
)
from frostline.strategies.averaging import AverageWeights
from frostline.strategies.remedies import (
    Remedies,
    disagreement,
    distance,
    interpolate,
    mixout,
    redraw_top_blocks,
    set_dropout,
)
from tests.strategies.tiny import BLOCKS, CLASSES, batch_of, build, encoder, fit, pretend_training, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- mixout ------------------------------------------------------------------------------------------------------------


def test_mixout_with_probability_0_is_the_identity() -> None:
    weight, start = normal(50, 50).float(), 1e3 * normal(50, 50, seed=1).float()  # so far apart that sums are rounded
    assert torch.equal(mixout(weight, start, 0.0), weight)


@pytest.mark.parametrize("p", [0.3, 0.9])
def test_an_element_under_mixout_is_one_of_two_values(p: float) -> None:
    weight, start = normal(100, 100), normal(100, 100, seed=1)
    torch.manual_seed(0)
    mixed = mixout(weight, start, p)
    kept = (weight - p * start) / (1 - p)
    is_start, is_kept = (mixed - start).abs() < 1e-9, (mixed - kept).abs() < 1e-9
    assert (is_start ^ is_kept).all()
    five_deviations = 5 * (p * (1 - p) / 100**2) ** 0.5
    assert is_start.double().mean().item() == pytest.approx(p, abs=five_deviations)


def test_the_mean_of_mixout_is_the_weight() -> None:
    p, draws = 0.7, 4000
    weight, start = normal(5, 4), normal(5, 4, seed=1)
    torch.manual_seed(0)
    mean = torch.stack([mixout(weight, start, p) for _ in range(draws)]).mean(dim=0)
    deviation = (weight - start).abs() * (p / (1 - p) / draws) ** 0.5
    assert ((mean - weight).abs() < 5 * deviation).all()
    assert ((mean - start).abs() > 5 * deviation).any(), "the draws could tell the weight from its start"


def test_the_gradient_of_mixout_is_the_mask_over_1_minus_p() -> None:
    p, step = 0.6, 1e-6
    weight, start, direction = normal(6, 5).requires_grad_(), normal(6, 5, seed=1), normal(6, 5, seed=2)

    def value(of: Tensor) -> Tensor:
        torch.manual_seed(3)
        return (direction * mixout(of, start, p)).sum()

    (gradient,) = torch.autograd.grad(value(weight), [weight])
    differences = torch.zeros(30, dtype=torch.float64)
    for i in range(30):
        move = torch.zeros(30, dtype=torch.float64)
        move[i] = step
        differences[i] = (value(weight.detach() + move.view(6, 5)) - value(weight.detach() - move.view(6, 5))) / (2 * step)
    torch.testing.assert_close(gradient, differences.view(6, 5), rtol=0, atol=1e-7)
    is_mask = (gradient == 0) | ((gradient - direction / (1 - p)).abs() < 1e-12)
    assert is_mask.all() and 0 < (gradient == 0).sum() < 30


def test_mixout_exchanges_the_matrices_of_linear_layers_and_nothing_else() -> None:
    """By hand: the same draws put into the weights themselves."""
    for family in ("bert", "gpt2"):
        pretrained = encoder(family)
        module = build(pretrained, remedy={"mixout": Mixout(0.5)})
        pretend_training(module)
        names = {name for name, m in pretrained.model.named_modules() if isinstance(m, nn.Linear) or "Conv1D" in str(type(m))}
        wanted = [n for n, _ in module.encoder.trained_parameters() if n.removeprefix("suffix.").removesuffix(".weight") in names]
        assert module.remedies.mixed == wanted and len(wanted) == len(names) > 0

        move(module, 0.1)
        batch, weights = batch_of(pretrained), dict(module.encoder.trained_parameters())
        torch.manual_seed(1)
        found = module.loss(batch)
        torch.manual_seed(1)
        mixed = {name: mixout(weights[name], module.remedies.start[name], 0.5) for name in wanted}
        plain = module.training_loss(module(batch), batch)
        with torch.no_grad():
            for name, weight in mixed.items():
                weights[name].copy_(weight)
        torch.testing.assert_close(found, module.training_loss(module(batch), batch))
        assert (found - plain).abs() > 1e-4


def test_validation_sees_no_mixout() -> None:
    pretrained = encoder()
    module = build(pretrained, remedy={"mixout": Mixout(0.9)})
    move(module, 0.1)
    assert torch.equal(module(batch_of(pretrained)), module(batch_of(pretrained)))


# --- penalties ---------------------------------------------------------------------------------------------------------


def move(module: Any, deviation: float) -> None:
    """As after some training."""
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in (p for p in module.parameters() if p.requires_grad):
            p += deviation * torch.randn(p.shape, generator=random)


@pytest.mark.parametrize("importance", [None, {"a": torch.tensor([1.0, 2.0, 0.5]), "b": torch.tensor([[3.0]])}])
def test_the_distance_is_half_the_weighted_sum_of_squares(importance: dict[str, Tensor] | None) -> None:
    start = {"a": torch.tensor([0.3, -1.0, 2.0]), "b": torch.tensor([[0.7]])}
    weights = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    value = distance(weights, start, importance)
    value.backward()
    assert value.item() == 0
    assert all(w.grad is not None and (w.grad == 0).all() for w in weights.values())

    moved = {"a": torch.tensor([1.3, -1.0, 0.0], requires_grad=True), "b": torch.tensor([[1.2]], requires_grad=True)}
    value = distance(moved, start, importance)
    value.backward()
    expected = (1 * 1 + 2 * 0 + 0.5 * 4 + 3 * 0.25) / 2 if importance else (1 + 4 + 0.25) / 2
    assert value.item() == pytest.approx(expected)
    slopes = torch.tensor([1.0, 0.0, -1.0] if importance else [1.0, 0.0, -2.0])
    torch.testing.assert_close(moved["a"].grad, slopes)
    torch.testing.assert_close(moved["b"].grad, torch.tensor([[1.5 if importance else 0.5]]))


@pytest.mark.parametrize("name", ["l2_sp", "ewc"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_penalty_is_0_at_the_start_and_never_reaches_the_head(name: str, depth: int) -> None:
    pretrained = encoder()
    config: RemedyConfig = L2Sp(3.0) if name == "l2_sp" else Ewc(3.0, 1)
    module = build(pretrained, PartialStrategy("partial", 1e-4, 3, depth, False), {name: config})
    pretend_training(module)
    trained = dict(module.encoder.trained_parameters())
    if name == "ewc":
        module.remedies.importance = {n: normal(*p.shape).square().float() for n, p in trained.items()}
    batch = batch_of(pretrained)
    plain = module.training_loss(module(batch), batch)
    assert torch.equal(module.loss(batch), plain)
    gradients = torch.autograd.grad(module.loss(batch) - module.training_loss(module(batch), batch), list(trained.values()))
    assert all((gradient == 0).all() for gradient in gradients)

    with torch.no_grad():
        module.head.weight += 1
    shift = (module.loss(batch) - module.training_loss(module(batch), batch)).item()
    assert shift == 0, "the head has no pretrained weights"
    move(module, 0.1)
    start = dict(pretrained.model.named_parameters())
    squares = {n: (p - start[module.encoder.pretrained_name(n)]).square() for n, p in trained.items()}
    if name == "ewc":
        squares = {n: module.remedies.importance[n] * square for n, square in squares.items()}
    expected = 3.0 / 2 * sum(square.sum().item() for square in squares.values())
    shift = (module.loss(batch) - module.training_loss(module(batch), batch)).item()
    assert shift == pytest.approx(expected, rel=1e-4)


# --- R-Drop and label smoothing ----------------------------------------------------------------------------------------


def test_the_disagreement_is_the_mean_of_two_kullback_leibler_divergences() -> None:
    first, second = 3 * normal(20, 4), 3 * normal(20, 4, seed=1)
    p, q = first.softmax(dim=1).numpy(), second.softmax(dim=1).numpy()
    expected = np.mean([(scipy.stats.entropy(a, b) + scipy.stats.entropy(b, a)) / 2 for a, b in zip(p, q, strict=True)])
    assert disagreement(first, second).item() == pytest.approx(expected, rel=1e-5)
    assert disagreement(first, second) == disagreement(second, first)
    assert disagreement(first, first) == 0
    assert disagreement(first, first + 2.0).item() == pytest.approx(0, abs=1e-6), "logits count up to a constant"


def test_r_drop_is_the_mean_loss_of_two_passes_and_their_disagreement() -> None:
    pretrained = encoder()
    module = build(pretrained, remedy={"r_drop": RDrop(0.7), "dropout": DropoutRates(0.5, 0.5)}).train()
    pretend_training(module)
    batch = batch_of(pretrained)
    torch.manual_seed(0)
    first, second = module(batch), module(batch)
    assert disagreement(first, second) > 0
    torch.manual_seed(0)
    losses = [F.cross_entropy(logits, batch["labels"]) for logits in (first, second)]
    torch.testing.assert_close(module.loss(batch), sum(losses) / 2 + 0.7 * disagreement(first, second))


def test_over_devices_a_sentence_weighs_the_same_in_r_drop() -> None:
    """A part of a batch counts for what it has of the whole, and a part that only fills up for nothing."""
    pretrained = encoder()
    module = build(pretrained, remedy={"r_drop": RDrop(50.0), "dropout": DropoutRates(0.5, 0.5)}).train()
    batch, losses = batch_of(pretrained), []
    for devices, total in ((1, 5), (2, 20), (2, float("inf"))):
        pretend_training(module, devices=devices)
        torch.manual_seed(0)
        losses.append(module.loss(batch | {"total": total}).item())
    assert losses[1] == pytest.approx(losses[0] / 2)
    assert losses[2] == 0


@pytest.mark.parametrize("epsilon", [0.1, 0.6])
def test_label_smoothing_is_the_cross_entropy_with_softened_targets(epsilon: float) -> None:
    pretrained = encoder()
    module = build(pretrained, remedy={"label_smoothing": LabelSmoothing(epsilon)})
    pretend_training(module)
    batch = batch_of(pretrained)
    targets = (1 - epsilon) * F.one_hot(batch["labels"], CLASSES) + epsilon / CLASSES
    expected = -(targets * module(batch).log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(module.loss(batch), expected)
    module.validation_step(batch, 0)
    torch.testing.assert_close(module.validation_loss.compute(), F.cross_entropy(module(batch), batch["labels"]).detach())


# --- replay ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.6, 0.9])
def test_replay_reads_in_its_share_of_the_steps(share: float) -> None:
    pretrained = encoder()
    module = build(pretrained, remedy={"replay": Replay(share, 2.0)})
    batch, steps = batch_of(pretrained), []
    module.remedies.rehearsal = lambda _, step: steps.append(step) or torch.tensor(3.0)
    for step in range(40):
        pretend_training(module, step=step)
        added = (module.loss(batch) - module.training_loss(module(batch), batch)).item()
        assert added == pytest.approx(6.0 if step in steps else 0.0, abs=1e-5)
    assert len(steps) == 40 * share
    assert max(np.diff(steps)) - min(np.diff(steps)) <= 1, "evenly"


# --- the line between two encoders -------------------------------------------------------------------------------------


def test_the_ends_of_the_line_are_the_encoders_bit_for_bit() -> None:
    start = {"a": normal(30, 30).float(), "b": 1e-4 * normal(30).float()}
    end = {"a": 1e3 * normal(30, 30, seed=1).float(), "b": normal(30, seed=2).float()}
    for alpha, expected in ((0.0, start), (1.0, end), (0, start), (1, end)):
        found = interpolate(start, end, alpha)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert all(found[name].data_ptr() != expected[name].data_ptr() for name in expected), "a copy"


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_between_the_ends_weights_are_their_mean(alpha: float) -> None:
    start, end = {"a": normal(30, 30)}, {"a": normal(30, 30, seed=1)}
    torch.testing.assert_close(interpolate(start, end, alpha)["a"], (1 - alpha) * start["a"] + alpha * end["a"])


# --- fresh top blocks --------------------------------------------------------------------------------------------------


def top_names(pretrained: Pretrained, count: int) -> set[str]:
    path = family_of(pretrained.model.config.model_type).blocks
    top = tuple(f"{path}.{number}." for number in range(BLOCKS - count, BLOCKS))
    return {name for name, _ in pretrained.model.named_parameters() if name.startswith(top)}


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
@pytest.mark.parametrize(("depth", "count"), [(0, 1), (0, 2), (1, 2)])
def test_only_the_top_blocks_are_drawn_anew(family: str, depth: int, count: int) -> None:
    pretrained = encoder(family, width=32)
    before = snapshot(pretrained.model)
    split = SplitEncoder(pretrained.model, depth)
    noise = torch.random.get_rng_state()
    redraw_top_blocks(split, count, seed=5)
    assert torch.equal(torch.random.get_rng_state(), noise), "training draws as without it"
    now = {split.pretrained_name(name): p.detach() for name, p in split.named_parameters()}
    assert {name for name, p in now.items() if not torch.equal(p, before[name])} == top_names(pretrained, count)
    assert all(torch.equal(p, before[name]) for name, p in pretrained.model.named_parameters()), "other runs start from it"

    redrawn = {name: now[name] for name in top_names(pretrained, count)}
    matrices = torch.cat([p.flatten() for p in redrawn.values() if p.ndim > 1])
    deviation = pretrained.model.config.initializer_range
    five_deviations = 5 * deviation / len(matrices) ** 0.5
    assert abs(matrices.mean().item()) < five_deviations
    assert matrices.std().item() == pytest.approx(deviation, abs=five_deviations)
    for name, p in redrawn.items():
        if p.ndim == 1:
            assert (p == (0 if name.endswith("bias") else 1)).all(), name

    for seed, is_same in ((5, True), (6, False)):
        other = SplitEncoder(pretrained.model, depth)
        torch.manual_seed(99)
        redraw_top_blocks(other, count, seed)
        equal = [torch.equal(p, now[other.pretrained_name(n)]) for n, p in other.named_parameters() if p.ndim > 1]
        assert all(equal) == is_same


# --- dropout rates -----------------------------------------------------------------------------------------------------

# The keys of transformers' configurations that set the same rates from the beginning.
HIDDEN = {
    "distilbert": ("dropout",),
    "gpt2": ("resid_pdrop", "embd_pdrop"),
    "modernbert": ("mlp_dropout", "embedding_dropout"),
}
ATTENTION = {"distilbert": "attention_dropout", "gpt2": "attn_pdrop", "modernbert": "attention_dropout"}


def rates(model: nn.Module) -> dict[str, float]:
    """Of every dropout by its name; ModernBERT's attention holds a number in place of a module."""
    modules = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    numbers = {
        name: m.attention_dropout for name, m in model.named_modules() if isinstance(m.__dict__.get("attention_dropout"), float)
    }
    return modules | {f"{name}.attention_dropout": rate for name, rate in numbers.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_rates_are_those_of_a_model_that_was_built_with_them(family: str) -> None:
    pretrained = encoder(family, blocks=2)
    split = SplitEncoder(pretrained.model, 0)
    set_dropout(split, DropoutRates(hidden=0.25, attention=0.375))
    config = copy.deepcopy(pretrained.model.config)
    keys = dict.fromkeys(HIDDEN.get(family, ("hidden_dropout_prob",)), 0.25)
    keys[ATTENTION.get(family, "attention_probs_dropout_prob")] = 0.375
    for key, rate in keys.items():
        setattr(config, key, rate)
    wanted = rates(AutoModel.from_config(config))
    found = rates(split.suffix)  # type: ignore[arg-type]
    assert set(found.values()) == {0.25, 0.375}
    assert found == {name: wanted[name] for name in found}


def test_dropout_of_frozen_blocks_and_of_updates_is_left_alone() -> None:
    pretrained = encoder()
    before = rates(pretrained.model)
    split = SplitEncoder(pretrained.model, 1)
    set_dropout(split, DropoutRates(0.25, 0.375))
    assert set(rates(split.prefix).values()) == {0.1}  # type: ignore[arg-type]
    assert rates(pretrained.model) == before

    lora = LoraStrategy("lora", 1e-3, 3, frozen_depth=0, rank=2, alpha=4.0, dropout=0.0625, targets=None)
    module = build(pretrained, lora, {"dropout": DropoutRates(0.25, 0.375)})
    of_updates = {rate for name, rate in rates(module.encoder).items() if ".lora_" in name}
    assert of_updates == {0.0625}, "they have a key of their own, strategy.dropout"


# --- in training -------------------------------------------------------------------------------------------------------

REMEDIES: dict[str, RemedyConfig] = {
    "mixout": Mixout(0.7),
    "l2_sp": L2Sp(1.0),
    "r_drop": RDrop(0.5),
    "label_smoothing": LabelSmoothing(0.1),
    "dropout": DropoutRates(0.3, 0.3),
    "reinit": Reinit(1),
    "averaging": Averaging(0.5),
}


def seen_by_validation(remedy: dict[str, RemedyConfig], cache: Path, noise: int) -> dict[str, Tensor]:
    """The weights that are validated after two epochs."""
    pretrained = encoder()
    module, seen = build(pretrained, remedy=remedy), {}

    def look(trainer: Trainer, pl_module: LightningModule) -> None:
        seen.update(snapshot(pl_module))

    callbacks: list[Any] = [LambdaCallback(on_validation_end=look)]
    if isinstance(averaging := remedy.get("averaging"), Averaging):
        callbacks.append(AverageWeights(averaging.last_share, steps=6))
    torch.manual_seed(noise)
    fit(module, pretrained, cache, *callbacks)
    return seen


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return seen_by_validation({}, tmp_path_factory.mktemp("cache"), noise=0)


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_changes_what_training_comes_to_and_is_a_function_of_the_seed(
    name: str, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    first, second = (seen_by_validation({name: REMEDIES[name]}, tmp_path, noise) for noise in (1, 2))
    assert first.keys() == second.keys() == plain.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert any(not torch.equal(first[n], plain[n]) for n in first)


def test_a_resumed_run_holds_on_to_the_same_weights(tmp_path: Path) -> None:
    """The start is not in Lightning's checkpoint: it is what the module is built from."""
    pretrained = encoder()
    module = build(pretrained, remedy={"l2_sp": L2Sp(1.0)})
    trainer = fit(module, pretrained, tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert not any("start_" in name for name in state)
    again = build(encoder(), remedy={"l2_sp": L2Sp(1.0)})
    again.load_state_dict(state, strict=False)
    weights, start = dict(again.encoder.trained_parameters()), again.remedies.start
    assert all(torch.equal(start[n], module.remedies.start[n]) for n in start)
    assert all(torch.equal(start[n], dict(pretrained.model.named_parameters())[n.removeprefix("suffix.")]) for n in start)
    assert any(not torch.equal(start[n], weights[n]) for n in start)


def test_several_remedies_add_up() -> None:
    pretrained = encoder()
    chosen: dict[str, RemedyConfig] = {"l2_sp": L2Sp(2.0), "label_smoothing": LabelSmoothing(0.2), "r_drop": RDrop(0.5)}
    module = build(pretrained, remedy=chosen)
    pretend_training(module)
    move(module, 0.1)
    batch = batch_of(pretrained)
    smoothed = F.cross_entropy(module(batch), batch["labels"], label_smoothing=0.2)
    penalty = 2.0 * distance(dict(module.encoder.trained_parameters()), module.remedies.start)
    torch.testing.assert_close(module.loss(batch), smoothed + penalty)  # without dropout two passes agree
    assert isinstance(module.remedies, Remedies)

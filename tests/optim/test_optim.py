"""What the optimizer holds, at which rate, and when."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.encoder.load import load_encoder
from frostline.encoder.split import SplitEncoder
from frostline.optim import LBFGS_STEPS, build_optimizer, build_schedule, parameter_groups, slanted_triangular
from frostline.schema import AdamW, Constant, Lbfgs, RandomModel, SchedulerConfig, Sgd, SlantedTriangular, Warmup
from frostline.strategies import FullClassifier, PartialClassifier
from frostline.strategies.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")
ADAMW = AdamW("adamw", 32, lr=1e-3, weight_decay=0.1, betas=[0.8, 0.9], eps=1e-6, layer_decay=1.0, gradient_clip=None)
SGD = Sgd("sgd", 32, lr=0.1, momentum=0.7, weight_decay=0.05, layer_decay=1.0, gradient_clip=None)
BLOCKS = 3


def classifier(depth: int, optimizer: AdamW | Sgd = ADAMW, family: str = "bert") -> Classifier:
    model = load_encoder(RandomModel("random", "mean", "tiny", family, BLOCKS, 8, 2, 0), Path("no-cache")).model
    build = FullClassifier if depth == 0 else PartialClassifier
    return build(SplitEncoder(model, depth), "mean", 2, optimizer, Constant("constant"), 0)


def trained(module: Classifier) -> list[tuple[nn.Parameter, int]]:
    return [(p, height) for _, p, height in module.trained_below()] + [(p, 0) for p in module.head.parameters()]


@pytest.mark.parametrize("depth", range(BLOCKS + 1))
@pytest.mark.parametrize("family", ["bert", "mpnet", "gpt2", "modernbert"])
def test_the_optimizer_holds_exactly_what_trains(family: str, depth: int) -> None:
    module = classifier(depth, family=family)
    groups = build_optimizer(ADAMW, trained(module)).param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in module.parameters() if p.requires_grad}


def test_biases_and_norms_are_not_decayed_and_everything_else_is() -> None:
    module = classifier(0)
    names = {id(p): name for name, p in module.named_parameters()}
    decay = {
        names[id(p)]: group["weight_decay"]
        for group in build_optimizer(ADAMW, trained(module)).param_groups
        for p in group["params"]
    }
    for name, value in decay.items():
        spared = name.endswith(".bias") or "LayerNorm" in name
        assert value == (0.0 if spared else 0.1), name
    assert decay["head.weight"] == 0.1
    assert decay["head.bias"] == 0.0


@pytest.mark.parametrize("depth", range(BLOCKS + 1))
def test_rates_fall_by_the_decay_for_each_block_above(depth: int) -> None:
    module = classifier(depth)
    names = {id(p): name for name, p, _ in module.trained_below()}
    groups = parameter_groups(trained(module), lr=1.0, weight_decay=0.1, layer_decay=0.5)
    for group in groups:
        for p in group["params"]:
            name = names.get(id(p), "head")
            if name.startswith("encoder.layer."):
                expected = 0.5 ** (BLOCKS - 1 - int(name.split(".")[2]))
            else:
                expected = 1.0 if name == "head" else 0.5**BLOCKS
            assert group["lr"] == pytest.approx(expected), name
    rates = {round(group["lr"], 9) for group in groups}
    assert len(rates) == max(1, BLOCKS - depth) + (depth == 0)


def test_without_layer_decay_everything_has_one_rate() -> None:
    groups = parameter_groups(trained(classifier(0)), 1e-3, 0.1, 1.0)
    assert {group["lr"] for group in groups} == {1e-3}
    assert len(groups) == 2


def test_adamw_and_sgd_take_their_settings() -> None:
    module = classifier(1)
    adamw = build_optimizer(ADAMW, trained(module))
    assert isinstance(adamw, torch.optim.AdamW)
    assert {(g["betas"], g["eps"], g["lr"]) for g in adamw.param_groups} == {((0.8, 0.9), 1e-6, 1e-3)}
    sgd = build_optimizer(SGD, trained(module))
    assert isinstance(sgd, torch.optim.SGD)
    assert {(g["momentum"], g["lr"]) for g in sgd.param_groups} == {(0.7, 0.1)}
    assert {g["weight_decay"] for g in sgd.param_groups} == {0.05, 0.0}


def test_a_step_of_adamw_is_that_of_loshchilov_and_hutter() -> None:
    weight = nn.Parameter(torch.tensor([[2.0]]))
    optimizer = build_optimizer(ADAMW, [(weight, 0)])
    first = second = 0.0
    value = 2.0
    for t in range(1, 4):
        gradient = 3.0 * t
        weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        step = (first / (1 - 0.8**t)) / (math.sqrt(second / (1 - 0.9**t)) + 1e-6)
        value = value * (1 - 1e-3 * 0.1) - 1e-3 * step
        assert weight.item() == pytest.approx(value, rel=1e-6)


def test_lbfgs_finds_the_minimum_of_a_convex_function() -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 5, generator=random, dtype=torch.float64)
    target = torch.randn(40, 1, generator=random, dtype=torch.float64)
    weight, bias = nn.Parameter(torch.zeros(5, 1, dtype=torch.float64)), nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build_optimizer(Lbfgs("lbfgs", "full", C=1.0, C_grid=[1.0], tolerance=1e-10), [(weight, 0), (bias, 0)])
    assert optimizer.param_groups[0]["max_iter"] == LBFGS_STEPS

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (matrix @ weight + bias - target).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)  # type: ignore[arg-type]
    exact = torch.linalg.lstsq(torch.cat([matrix, torch.ones(40, 1, dtype=torch.float64)], dim=1), target).solution
    torch.testing.assert_close(torch.cat([weight, bias[None]]).detach(), exact, rtol=0, atol=1e-5)
    assert optimizer.state[weight]["n_iter"] < 5 * LBFGS_STEPS, "the probe takes this as a sign of convergence"


# --- schedules ---------------------------------------------------------------------------------------------------------


def rates(name: str, warmup_share: float, steps: int, layer_decay: float = 1.0) -> list[list[float]]:
    return rates_of(Warmup(name, warmup_share), steps, layer_decay)


def rates_of(scheduler: SchedulerConfig, steps: int, layer_decay: float) -> list[list[float]]:
    """The rate of every group at every step, and after the last."""
    config = AdamW("adamw", 32, 1e-3, 0.1, [0.9, 0.999], 1e-8, layer_decay, None)
    optimizer = build_optimizer(config, [(nn.Parameter(torch.ones(1, 1)), height) for height in (0, 1, 3)])
    schedule = build_schedule(scheduler, optimizer, steps)
    assert schedule is not None
    found = []
    for _ in range(steps + 1):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", ["linear_warmup", "cosine"])
@pytest.mark.parametrize(("share", "steps"), [(0.1, 100), (0.06, 50), (0.0, 10), (0.5, 7), (0.1, 3)])
def test_rates_rise_to_the_peak_and_fall_to_zero(name: str, share: float, steps: int) -> None:
    rate = [r[0] for r in rates(name, share, steps)]
    peak = round(share * steps)
    assert rate[peak] == pytest.approx(1e-3)
    assert max(rate) == rate[peak]
    assert rate[steps] == pytest.approx(0, abs=1e-12)
    assert rate[steps - 1] > 0, "the last step must still learn"
    assert rate[:peak] == pytest.approx([1e-3 * i / peak for i in range(peak)])
    for i in range(peak, steps + 1):
        left = (steps - i) / (steps - peak)
        expected = left if name == "linear_warmup" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
        assert rate[i] == pytest.approx(1e-3 * expected, abs=1e-12)


def test_schedules_keep_the_ratio_between_blocks() -> None:
    for first, second, fourth in rates("cosine", 0.2, 20, layer_decay=0.5)[1:-1]:
        assert second == pytest.approx(first * 0.5)
        assert fourth == pytest.approx(first * 0.125)


def test_a_constant_rate_has_no_schedule() -> None:
    assert build_schedule(Constant("constant"), build_optimizer(SGD, [(nn.Parameter(torch.ones(1)), 0)]), 10) is None


@pytest.mark.parametrize(("steps", "share", "ratio"), [(100, 0.1, 32.0), (50, 0.2, 4.0), (20, 0.5, 10.0), (100, 0.29, 8.0)])
def test_the_slanted_triangle_is_the_published_one(steps: int, share: float, ratio: float) -> None:
    """Howard & Ruder 2018, equation 3."""
    cut = round(steps * share)
    rates = [slanted_triangular(step, steps, share, ratio) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(1 / ratio) and rates[cut] == pytest.approx(1.0) and rates[-1] == pytest.approx(1 / ratio)
    assert max(rates) == rates[cut]
    for step, rate in enumerate(rates):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / share - 1))
        assert rate == pytest.approx((1 + p * (ratio - 1)) / ratio)


@pytest.mark.parametrize("steps", [1, 2, 7, 19, 64])
@pytest.mark.parametrize("share", [0.1, 0.35, 0.9])
def test_the_slanted_triangle_peaks_at_a_whole_step_and_stays_above_its_floor(steps: int, share: float) -> None:
    rates = [slanted_triangular(step, steps, share, 32.0) for step in range(steps + 1)]
    cut = max(1, math.floor(Fraction(str(share)) * steps))
    assert rates[0] == pytest.approx(1 / 32) and rates[cut] == 1.0 == max(rates)
    assert all(1 / 32 - 1e-12 <= rate <= 1 for rate in rates)
    assert steps == cut or rates[-1] == pytest.approx(1 / 32)
    assert rates == sorted(rates[: cut + 1]) + sorted(rates[cut + 1 :], reverse=True)


def test_the_slanted_triangle_scales_every_groups_rate() -> None:
    config = SlantedTriangular("slanted_triangular", cut_share=0.2, ratio=16.0)
    for step, (first, second, fourth) in enumerate(rates_of(config, 20, layer_decay=0.5)):
        assert first == pytest.approx(1e-3 * slanted_triangular(step, 20, 0.2, 16.0))
        assert (second, fourth) == (pytest.approx(first * 0.5), pytest.approx(first * 0.125))

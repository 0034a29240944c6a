"""Whoever computes the products, they are float32 products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from frostline.encoder import products
from frostline.encoder.products import autocast, choose_products, is_exact

pytestmark = pytest.mark.usefixtures("one_thread")
SWITCH = getattr(torch.backends.mkldnn, "matmul", None)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What this process has chosen holds for all other tests, too."""
    before = getattr(SWITCH, "fp32_precision", None)
    yield
    choose_products.cache_clear()
    if before is not None:
        SWITCH.fp32_precision = before
    choose_products()


@pytest.fixture
def fresh() -> None:
    """As in a process that has not chosen yet."""
    choose_products.cache_clear()
    if SWITCH is not None:
        SWITCH.fp32_precision = "none"


def error_of_products() -> float:
    """The largest of a product, of both gradients and of a batched product, relative to the largest value."""
    random = torch.Generator().manual_seed(7)
    x = torch.randn(4, 33, 200, generator=random, requires_grad=True)
    w = torch.randn(100, 200, generator=random, requires_grad=True)
    g = torch.randn(4, 33, 100, generator=random)
    (x @ w.t()).backward(g)
    exact = {"forward": x.detach().double() @ w.detach().double().t(), "x": g.double() @ w.detach().double()}
    exact |= {"w": g.flatten(0, 1).double().t() @ x.detach().flatten(0, 1).double()}
    found = {"forward": (x @ w.t()).detach(), "x": x.grad, "w": w.grad}
    return max(float((found[name] - exact[name]).abs().max() / exact[name].abs().max()) for name in exact)


@pytest.mark.usefixtures("fresh")
def test_the_default_arithmetic_is_exact() -> None:
    assert is_exact()
    assert error_of_products() < 2e-6


@pytest.mark.usefixtures("fresh")
def test_products_are_exact_whoever_was_chosen() -> None:
    assert choose_products() in ("onednn", "torch")
    assert is_exact()
    assert error_of_products() < 2e-6


@pytest.mark.usefixtures("fresh")
def test_bfloat16_is_found_out() -> None:
    """Guards the tests above: what is_exact is there to find would fail it by far."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_exact()


@pytest.mark.usefixtures("fresh")
@pytest.mark.skipif(not hasattr(SWITCH, "fp32_precision"), reason="this torch has no such switch")
def test_the_switch_is_put_back_where_products_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "is_exact", lambda: seen.append(SWITCH.fp32_precision))
    before = SWITCH.fp32_precision
    assert choose_products() == "torch"
    assert SWITCH.fp32_precision == before != "bf16"
    assert seen == ["bf16"]


@pytest.mark.usefixtures("fresh")
@pytest.mark.skipif(not hasattr(SWITCH, "fp32_precision"), reason="this torch has no such switch")
def test_the_switch_stays_where_products_are_exact_and_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "is_exact", lambda: not tried.append(1))
    assert [choose_products(), choose_products()] == ["onednn", "onednn"]
    assert SWITCH.fp32_precision == "bf16"
    assert tried == [1]


@pytest.mark.usefixtures("fresh")
def test_where_mkl_is_fast_nothing_is_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    before = getattr(SWITCH, "fp32_precision", None)
    assert choose_products() == "torch"
    assert getattr(SWITCH, "fp32_precision", None) == before


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)]
)
def test_a_pass_has_the_precision_of_training(precision: str, dtype: torch.dtype) -> None:
    context = autocast(precision, torch.device("cpu"))
    assert isinstance(context, nullcontext) == (precision == "32-true")
    with context:
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

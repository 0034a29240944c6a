"""The quick layers compute what torch's do: the same distribution, the same gradients, the same training."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.encoder import quick
from frostline.encoder.load import load_encoder
from frostline.encoder.quick import QuickDropout, QuickEmbedding, quicken
from frostline.schema import RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")

# --- dropout -----------------------------------------------------------------------------------------------------------


def rounded(p: float) -> float:
    return round(p * 2**16) / 2**16


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_as_many_are_dropped_as_asked(p: float) -> None:
    torch.manual_seed(0)
    count = 1_000_003
    dropped = int((QuickDropout(p)(torch.ones(count)) == 0).sum())
    assert abs(dropped - count * rounded(p)) < 6 * math.sqrt(count * p * (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (7, 11, 13), (2, 0, 3), ()], ids=str)
def test_what_is_kept_is_scaled_by_the_rounded_probability(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape)
    y = QuickDropout(p)(x)
    assert y.shape == x.shape
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / (1 - rounded(p)), rtol=2e-7, atol=0)


def test_elements_are_dropped_independently_of_their_neighbours() -> None:
    """Four numbers come from one draw of 64 bits: every lag up to 8 must look like chance."""
    torch.manual_seed(2)
    count = 1_000_000
    kept = (QuickDropout(0.3)(torch.ones(count)) != 0).double() - 0.7
    for lag in range(1, 9):
        correlation = float((kept[lag:] * kept[:-lag]).mean() / 0.21)
        assert abs(correlation) < 6 / math.sqrt(count)
    for place in range(4):
        dropped = float((kept[place::4] < 0).double().mean())
        assert abs(dropped - 0.3) < 6 * math.sqrt(0.21 / (count / 4))


@pytest.mark.parametrize("contiguous", [True, False])
def test_gradients_go_where_values_went(contiguous: bool) -> None:
    torch.manual_seed(3)
    x = torch.randn(33, 17, requires_grad=True)
    y = QuickDropout(0.4)(x if contiguous else x.t())
    gradient = torch.randn(y.shape)
    y.backward(gradient)
    mask = (y != 0) / (1 - rounded(0.4))
    assert x.grad is not None
    torch.testing.assert_close(x.grad if contiguous else x.grad.t(), gradient * mask, rtol=1e-6, atol=0)
    assert 0 < int((mask == 0).sum()) < x.numel()


def test_it_is_a_function_of_the_seed() -> None:
    x, dropout = torch.randn(50, 50), QuickDropout(0.2)
    drawn = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        drawn.append([dropout(x), dropout(x)])
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_nothing_is_dropped_in_eval_mode_or_at_probability_0() -> None:
    x = torch.randn(100)
    assert torch.equal(QuickDropout(0.5).eval()(x), x)
    assert torch.equal(QuickDropout(0.0)(x), x)


def test_other_precisions_keep_theirs() -> None:
    torch.manual_seed(6)
    y = QuickDropout(0.1)(torch.ones(1000, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - rounded(0.1))).bfloat16())}


# --- embedding ---------------------------------------------------------------------------------------------------------

ROWS, WIDTH = 50, 8


def pair(padding_idx: int | None = None) -> tuple[nn.Embedding, QuickEmbedding]:
    """torch's table and ours, with equal weights."""
    torch.manual_seed(0)
    plain = nn.Embedding(ROWS, WIDTH, padding_idx=padding_idx)
    own = nn.Embedding(ROWS, WIDTH, padding_idx=padding_idx)
    own.load_state_dict(plain.state_dict())
    own.__class__ = QuickEmbedding
    return plain, own  # type: ignore[return-value]


def ids_of(step: int) -> Tensor:
    """Other ids in every step, some of them more than once, some padding."""
    random = torch.Generator().manual_seed(step)
    ids = torch.randint(0, ROWS, (3, 5), generator=random)
    ids[0, :2] = ids[1, 0]
    ids[2, -1] = 0
    return ids


def loss_of(table: nn.Embedding, step: int) -> Tensor:
    weights = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(100 + step))
    return (table(ids_of(step)) * weights).sum()


def assert_same_gradients(tables: tuple[nn.Embedding, QuickEmbedding]) -> None:
    plain, own = tables
    assert plain.weight.grad is not None and own.weight.grad is not None
    torch.testing.assert_close(own.weight.grad, plain.weight.grad, rtol=1e-6, atol=1e-6)
    assert torch.equal(own.weight.grad == 0, plain.weight.grad == 0), "a row that was not touched has no gradient"


@pytest.mark.parametrize("padding_idx", [None, 0])
@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_torch_s_in_every_step(padding_idx: int | None, to_none: bool) -> None:
    tables = pair(padding_idx)
    for step in range(6):
        for table in tables:
            table.zero_grad(set_to_none=to_none)
            loss_of(table, step).backward()
        assert_same_gradients(tables)


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_gradients_add_up_over_several_batches(padding_idx: int | None) -> None:
    tables = pair(padding_idx)
    for step in range(0, 9, 3):
        for table in tables:
            table.zero_grad()
            for part in range(3):
                loss_of(table, step + part).backward()
        assert_same_gradients(tables)


def test_accumulation_and_single_batches_may_alternate() -> None:
    tables = pair()
    for step, parts in enumerate((1, 2, 1, 3, 1, 1)):
        for table in tables:
            table.zero_grad()
            for part in range(parts):
                loss_of(table, 10 * step + part).backward()
        assert_same_gradients(tables)


def test_two_passes_in_one_graph_add_up() -> None:
    tables = pair()
    for step in range(0, 9, 3):
        for table in tables:
            table.zero_grad()
            (loss_of(table, step) + loss_of(table, step + 1) + loss_of(table, step + 2)).backward()
        assert_same_gradients(tables)


def test_a_pass_whose_gradient_is_never_asked_for_does_no_harm() -> None:
    tables = pair()
    for step in range(4):
        for table in tables:
            table.zero_grad()
            kept = loss_of(table, step)
            loss_of(table, step + 20)
            kept.backward()
        assert_same_gradients(tables)


def test_gradients_that_the_user_keeps_are_not_overwritten() -> None:
    """Only ours to reuse is what zero_grad has let go; a second backward pass of the same graph counts twice."""
    tables = pair()
    for table in tables:
        loss = loss_of(table, 0)
        loss.backward(retain_graph=True)
        loss.backward()
    assert_same_gradients(tables)


ADAMW: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW


@pytest.mark.parametrize("to_none", [True, False])
def test_training_is_torch_s(to_none: bool) -> None:
    tables = pair(padding_idx=0)
    start = tables[0].weight.detach().clone()
    for table in tables:
        optimizer = ADAMW(table.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
        for step in range(30):
            optimizer.zero_grad(set_to_none=to_none)
            F.mse_loss(table(ids_of(step)), torch.ones(3, 5, WIDTH)).backward()
            nn.utils.clip_grad_norm_(table.parameters(), 0.1)
            optimizer.step()
    torch.testing.assert_close(tables[1].weight, tables[0].weight, rtol=0, atol=1e-7)
    assert (tables[0].weight - start).abs().max() > 0.1


def test_the_gradient_table_is_not_made_anew_in_every_step() -> None:
    """This is what it is for."""
    table, places = pair()[1], []
    for step in range(4):
        table.zero_grad()
        loss_of(table, step).backward()
        assert table.weight.grad is not None
        places.append(table.weight.grad.data_ptr())
    assert all(a == b for a, b in pairwise(places))


def test_without_gradients_it_is_a_plain_table() -> None:
    plain, own = pair()
    with torch.no_grad():
        assert torch.equal(own(ids_of(0)), plain(ids_of(0)))
    assert not own.requires_grad_(False)(ids_of(0)).requires_grad


# --- exchange ----------------------------------------------------------------------------------------------------------


def tiny(family: str = "bert"):
    return load_encoder(RandomModel("random", "mean", "tiny", family, 2, 8, 2, 0), Path("no-cache")).model


def test_quicken_exchanges_layers_and_leaves_names_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "TABLE_FROM", 1)
    model, before = tiny(), {name: tensor.clone() for name, tensor in tiny().state_dict().items()}
    quicken(model, CPU)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    assert dropouts and all(type(module) is QuickDropout and module.p == 0.1 for module in dropouts)
    assert tables and all(type(module) is QuickEmbedding for module in tables)
    quicken(model, CPU)  # a second run of a sweep


def test_small_tables_are_left_alone() -> None:
    model = tiny()
    quicken(model, CPU)
    assert not any(isinstance(module, QuickEmbedding) for module in model.modules())


def test_other_devices_are_left_alone() -> None:
    model = tiny()
    attention = model.config._attn_implementation
    quicken(model, torch.device("cuda"))
    assert not any(isinstance(module, QuickDropout | QuickEmbedding) for module in model.modules())
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "deberta-v2", "modernbert"])
def test_a_quickened_model_computes_the_same_in_eval_mode(family: str) -> None:
    plain, own = tiny(family).eval(), tiny(family).eval()
    quicken(own, CPU)
    ids = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [7]])).long()
    with torch.no_grad():
        expected, found = (model(input_ids=ids, attention_mask=mask).last_hidden_state for model in (plain, own))
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-6)

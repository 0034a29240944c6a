"""Which sentences meet in a batch: properties that hold for any seed and size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from frostline.data.batching import LengthGroupedBatches, SortedBatches, cut

SIZES = [(1, 1), (7, 3), (97, 10), (100, 10), (1000, 8), (5, 64), (33, 33), (500, 1)]  # sentences, batch size
BUDGETS = [(1, 1), (7, 100), (97, 256), (1000, 1024), (33, 10**6), (5, 3), (64, None)]  # sentences, tokens a batch


def lengths_of(sentences: int, seed: int = 0) -> NDArray[np.int64]:
    """Token counts as of reviews: log-normal, 4 to 128, median about 20."""
    drawn = np.random.default_rng(seed).lognormal(3.0, 0.7, sentences)
    return np.clip(drawn, 4, 128).astype(np.int64)


def sampler(
    sentences: int, batch_size: int, seed: int = 0, epoch: int = 0, rank: int = 0, devices: int = 1
) -> LengthGroupedBatches:
    batches = LengthGroupedBatches(lengths_of(sentences), batch_size, seed, rank, devices)
    batches.set_epoch(epoch)
    return batches


def waste(lengths: NDArray[np.int64], batches: list[list[int]]) -> float:
    """The share of padding among all positions."""
    positions = sum(len(rows) * lengths[rows].max() for rows in batches)
    return float(1 - lengths.sum() / positions)


@pytest.mark.parametrize(("sentences", "batch_size"), SIZES)
@pytest.mark.parametrize("epoch", [0, 5])
def test_every_row_comes_exactly_once_an_epoch(sentences: int, batch_size: int, epoch: int) -> None:
    parts = list(sampler(sentences, batch_size, epoch=epoch))
    assert sorted(row for part in parts for row in part.rows) == list(range(sentences))
    assert len(parts) == len(sampler(sentences, batch_size)) == math.ceil(sentences / batch_size)
    assert all(part.total == len(part.rows) <= batch_size for part in parts)
    assert sum(len(part.rows) < batch_size for part in parts) <= 1, "only one batch may be short"


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    fresh = {(seed, epoch): sampler(300, 8, seed, epoch).batches() for seed in (0, 1, 7) for epoch in (0, 1, 2)}
    assert len({str(batches) for batches in fresh.values()}) == 9, "two (seed, epoch) drew the same order"
    used = sampler(300, 8, seed=1)
    for epoch in (2, 0, 2, 1):  # whatever was drawn before
        np.random.seed(epoch)
        used.set_epoch(epoch)
        assert [part.rows for part in used] == fresh[1, epoch]
        assert [part.rows for part in used] == fresh[1, epoch]


def test_different_epochs_put_different_sentences_together() -> None:
    company = [{frozenset(batch) for batch in sampler(2000, 16, epoch=epoch).batches()} for epoch in range(3)]
    assert not company[0] & company[1]
    assert not company[1] & company[2]


@pytest.mark.parametrize("seed", range(5))
def test_grouping_by_length_saves_padding(seed: int) -> None:
    lengths = lengths_of(4000, seed)
    grouped = LengthGroupedBatches(lengths, 32, seed).batches()
    order = np.random.default_rng(seed).permutation(4000)
    at_random = [order[i : i + 32].tolist() for i in range(0, 4000, 32)]
    assert waste(lengths, grouped) < 0.15
    assert waste(lengths, at_random) > 0.30


@pytest.mark.parametrize("seed", range(5))
def test_long_and_short_batches_come_in_random_order(seed: int) -> None:
    lengths = lengths_of(1600, seed)
    means = [lengths[batch].mean() for batch in LengthGroupedBatches(lengths, 32, seed).batches()]
    correlation = np.corrcoef(means, np.arange(len(means)))[0, 1]
    assert abs(correlation) < 0.5  # 50 batches: chance exceeds this once in 4000 draws


@pytest.mark.parametrize("devices", [2, 3, 4])
@pytest.mark.parametrize(("sentences", "batch_size"), [(97, 10), (100, 4), (9, 4), (5, 64), (7, 2), (1, 1)])
def test_devices_share_every_batch(sentences: int, batch_size: int, devices: int) -> None:
    whole = sampler(sentences, batch_size, seed=3, epoch=1).batches()
    parts = [list(sampler(sentences, batch_size, 3, 1, rank, devices)) for rank in range(devices)]
    assert {len(own) for own in parts} == {len(whole)}, "devices would wait for one another for ever"
    for number, batch in enumerate(whole):
        meeting = [own[number] for own in parts]
        counted = [part for part in meeting if math.isfinite(part.total)]
        assert sorted(row for part in counted for row in part.rows) == sorted(batch), "parts overlap, or lose a sentence"
        assert all(part.total == len(batch) for part in counted)
        fillers = [part for part in meeting if not math.isfinite(part.total)]
        assert len(fillers) == max(0, devices - len(batch))
        assert all(part.total == math.inf and len(part.rows) == 1 and part.rows[0] in batch for part in fillers)
        sizes = [len(part.rows) for part in counted]
        assert max(sizes) - min(sizes) <= 1


def test_lightning_reaches_set_epoch_through_the_loader() -> None:
    loader = DataLoader(list(range(30)), batch_size=None, sampler=sampler(30, 4))  # type: ignore[arg-type]
    assert callable(getattr(loader.sampler, "set_epoch", None))


@pytest.mark.parametrize(("sentences", "batch_tokens"), BUDGETS)
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_sorted_batches_count_every_row_on_exactly_one_device_longest_first(
    sentences: int, batch_tokens: int | None, devices: int
) -> None:
    lengths = lengths_of(sentences)
    whole = SortedBatches(lengths, batch_tokens)
    parts = [SortedBatches(lengths, batch_tokens, rank, devices) for rank in range(devices)]
    assert {len(own) for own in parts} == {len(whole)}
    if batch_tokens is None:
        assert len(whole) == 1
    else:
        assert_within(lengths, [part.rows for part in whole], batch_tokens)
    counted = [part for own in parts for part in own if math.isfinite(part.total)]
    assert sorted(row for part in counted for row in part.rows) == list(range(sentences))
    in_order = [lengths[row] for part in whole for row in part.rows]
    assert in_order == sorted(in_order, reverse=True)
    for own in parts:
        assert list(own) == list(own), "a second pass must see the same"
        for part, batch in zip(own, whole, strict=True):
            assert part.rows, "a device would have nothing to run"
            assert set(part.rows) <= set(batch.rows)
            assert part.total in (len(batch.rows), math.inf)


def test_sorted_batches_waste_little() -> None:
    lengths = lengths_of(2000)
    assert waste(lengths, [part.rows for part in SortedBatches(lengths, 1024)]) < 0.10


# --- a budget of tokens ------------------------------------------------------------------------------------------------


def with_budget(sentences: int, tokens: int, seed: int = 0, epoch: int = 0, rank: int = 0, devices: int = 1):
    batches = LengthGroupedBatches(lengths_of(sentences), 32, seed, rank, devices, batch_tokens=tokens)
    batches.set_epoch(epoch)
    return batches


def positions(lengths: NDArray[np.int64], rows: list[int]) -> int:
    return len(rows) * int(lengths[rows].max())


def assert_within(lengths: NDArray[np.int64], batches: list[list[int]], tokens: int) -> None:
    assert all(positions(lengths, rows) <= tokens or len(rows) == 1 for rows in batches)


@pytest.mark.parametrize(("sentences", "tokens"), [case for case in BUDGETS if case[1] is not None])
@pytest.mark.parametrize("epoch", [0, 5])
def test_no_batch_exceeds_the_budget_and_every_row_comes_once(sentences: int, tokens: int, epoch: int) -> None:
    lengths = lengths_of(sentences)
    parts = list(with_budget(sentences, tokens, epoch=epoch))
    assert sorted(row for part in parts for row in part.rows) == list(range(sentences))
    assert_within(lengths, [part.rows for part in parts], tokens)
    assert len(parts) == len(with_budget(sentences, tokens, epoch=epoch))
    assert all(part.total == len(part.rows) for part in parts)


@pytest.mark.parametrize("tokens", [256, 2000])
def test_a_budget_is_used_up(tokens: int) -> None:
    lengths = lengths_of(4000)
    used = [positions(lengths, rows) for rows in with_budget(4000, tokens).batches()]
    assert np.mean(used) > 0.8 * tokens
    assert waste(lengths, with_budget(4000, tokens).batches()) < 0.15


def test_the_order_under_a_budget_is_a_function_of_seed_and_epoch_alone() -> None:
    fresh = {(seed, epoch): with_budget(300, 256, seed, epoch).batches() for seed in (0, 1, 7) for epoch in (0, 1, 2)}
    assert len({str(batches) for batches in fresh.values()}) == 9, "two (seed, epoch) drew the same order"
    used = with_budget(300, 256, seed=1)
    for epoch in (2, 0, 2, 1):  # whatever was drawn before
        np.random.seed(epoch)
        used.set_epoch(epoch)
        assert [part.rows for part in used] == fresh[1, epoch]
        assert len(used) == len(fresh[1, epoch])


def test_cutting_keeps_the_order_and_a_longer_sentence_is_alone() -> None:
    lengths = np.array([3, 9, 4, 30, 5, 5])
    upwards = np.argsort(lengths, kind="stable")
    assert cut(upwards, lengths, 99, batch_tokens=12) == [[0, 2], [4, 5], [1], [3]]  # 2 x 4, 2 x 5, 9, and 30 in spite of 12
    assert cut(upwards[::-1], lengths, 99, batch_tokens=12) == [[3], [1], [5, 4], [2, 0]]
    assert cut(upwards, lengths, None, batch_tokens=99) == [[0, 2, 4, 5, 1], [3]]
    assert cut(upwards, lengths, 4, None) == [[0, 2, 4, 5], [1, 3]]
    assert cut(upwards, lengths, None, None) == [upwards.tolist()]


@pytest.mark.parametrize("devices", [2, 3])
@pytest.mark.parametrize(("sentences", "tokens"), [(97, 256), (9, 64), (5, 4), (1, 100)])
def test_devices_share_every_batch_of_a_budget(sentences: int, tokens: int, devices: int) -> None:
    whole = with_budget(sentences, tokens, 3, 1).batches()
    parts = [list(with_budget(sentences, tokens, 3, 1, rank, devices)) for rank in range(devices)]
    assert {len(own) for own in parts} == {len(whole)}, "devices would wait for one another for ever"
    for number, batch in enumerate(whole):
        own = [part[number] for part in parts]
        assert sorted(row for part in own if math.isfinite(part.total) for row in part.rows) == sorted(batch)
        assert all(part.total == len(batch) for part in own if math.isfinite(part.total))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 50])
@pytest.mark.parametrize("devices", [1, 2])
def test_an_optimizer_step_is_the_mean_over_its_sentences(accumulate: int, devices: int) -> None:
    """Whatever the sizes of its batches: the trainer divides a step's losses by ``accumulate``, and devices by their number."""
    parts = [
        list(LengthGroupedBatches(lengths_of(97), 32, 3, rank, devices, batch_tokens=256, accumulate=accumulate))
        for rank in range(devices)
    ]
    assert len({len(part.rows) for part in parts[0]}) > 1, "otherwise this says nothing"
    for start in range(0, len(parts[0]), accumulate):
        step = [part for own in parts for part in own[start : start + accumulate] if math.isfinite(part.total)]
        sentences = sum(len(part.rows) for part in step)
        weights = {devices / part.total / accumulate / devices for part in step}  # of a sentence in the step's gradient
        assert list(weights) == pytest.approx([1 / sentences])

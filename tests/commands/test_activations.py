"""Frozen blocks are computed once for all runs, and no run's numbers depend on it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from frostline.data import batching, sentences
from frostline.encoder import passes as passes_module
from frostline.encoder.entries import clear, entries
from frostline.strategies import Classifier
from tests.commands.run_files import curves, manifest, metrics, predictions

PARTIAL = ["strategy=partial", "strategy.frozen_depth=2", "data.batch_size=16", "trainer.max_epochs=1"]
STRATEGIES = {
    "probe": ["strategy=frozen"],
    "partial": PARTIAL,
    "head only": ["strategy=partial", "strategy.frozen_depth=4", "data.batch_size=16", "trainer.max_epochs=1"],
}
SENTENCES = 120
by_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


@pytest.fixture
def run(frostline, tiny, tmp_path):
    """Train in a directory of this name; what was written to the terminal is kept beside it."""

    def train(name: str, *words: str) -> Path:
        result = frostline("train", *tiny[:-1], *words, f"hydra.run.dir={tmp_path / name}")
        assert result.status == 0, result.err
        (tmp_path / f"{name}.err").write_text(result.err)
        return tmp_path / name

    return train


def computed(run_dir: Path) -> int:
    return manifest(run_dir)["cache"]["computed_sentences"]


def assert_same(first: Path, second: Path) -> None:
    assert metrics(first) == metrics(second)
    assert predictions(first).equals(predictions(second))
    assert curves(first).equals(curves(second))


def assert_close(first: Path, second: Path) -> None:
    old, new = metrics(first), metrics(second)
    assert old.keys() == new.keys()
    assert {k: v for k, v in old.items() if "loss" not in k} == {k: v for k, v in new.items() if "loss" not in k}
    assert {k: v for k, v in old.items() if "loss" in k} == pytest.approx({k: v for k, v in new.items() if "loss" in k}, abs=1e-5)
    assert np.allclose(curves(first)["train/loss"].dropna(), curves(second)["train/loss"].dropna(), rtol=0, atol=1e-5)


def test_a_run_on_a_full_cache_equals_one_on_an_empty_cache_to_the_last_bit(run, own_cache):
    cold, warm = run("cold", *PARTIAL), run("warm", *PARTIAL)
    for entry in entries(own_cache):
        clear(own_cache, entry.encoder_key)
    part, mixed = run("part", *PARTIAL, "data.train_size=30"), run("mixed", *PARTIAL)  # the latter finds a half of its sentences
    assert [computed(d) for d in (cold, warm, part, mixed)] == [SENTENCES, 0, SENTENCES - 54, 54]
    assert_same(cold, warm)
    assert_same(cold, mixed)


def test_a_probe_on_a_full_cache_equals_one_on_an_empty_cache_to_the_last_bit(run):
    cold, warm = run("cold", *STRATEGIES["probe"]), run("warm", *STRATEGIES["probe"])
    assert [computed(d) for d in (cold, warm)] == [SENTENCES, 0]
    assert_same(cold, warm)


@by_strategy
def test_a_run_without_the_cache_differs_by_rounding_only(run, own_cache, strategy):
    cached = run("cached", *strategy)
    size = sum(entry.bytes for entry in entries(own_cache))
    uncached = run("uncached", *strategy, "cache=off")
    assert_close(cached, uncached)
    assert sum(entry.bytes for entry in entries(own_cache)) == size, "cache=off writes nothing"
    assert computed(uncached) == (SENTENCES if strategy == STRATEGIES["probe"] else 0)
    assert [manifest(run_dir)["cache"]["used"] for run_dir in (cached, uncached)] == [True, False]
    assert manifest(uncached)["cache"]["mode"] == "off"


def test_states_in_16_bits_are_close_and_the_page_says_so(run, frostline):
    exact, rounded = run("exact", *PARTIAL), run("rounded", *PARTIAL, "cache.dtype=fp16")
    difference = (curves(exact)["train/loss"] - curves(rounded)["train/loss"]).abs().max()
    assert 0 < difference < 1e-3
    for run_dir in (exact, rounded):
        assert frostline("report", f"run={run_dir}").status == 0
    said = "States of frozen blocks were cached in fp16, that is to 3 digits: partial, 2 of 4."
    assert said in (rounded / "report.html").read_text()
    assert "cached in fp16" not in (exact / "report.html").read_text()


def test_a_cache_in_memory_serves_the_runs_of_one_process_and_writes_nothing(run, own_cache):
    on_disk, first, second = run("disk", *PARTIAL), run("1", *PARTIAL, "cache=memory"), run("2", *PARTIAL, "cache=memory")
    assert [computed(d) for d in (on_disk, first, second)] == [SENTENCES, SENTENCES, 0]
    assert_same(on_disk, first)
    assert_same(on_disk, second)
    (entry,) = entries(own_cache)
    assert len(entry.shards) == 1


def test_the_unread_test_split_is_not_computed(run):
    assert computed(run("run", *PARTIAL, "test=false")) == SENTENCES - 24


@pytest.mark.parametrize("strategy", [STRATEGIES["probe"], STRATEGIES["partial"]], ids=["probe", "partial"])
def test_without_room_a_run_goes_on_and_says_how_much_it_takes(run, own_cache, tmp_path, strategy):
    small, usual = run("small", *strategy, "cache.max_size=1kB"), run("usual", *strategy)
    said = " ".join((tmp_path / "small.err").read_text().split())
    assert "but cache.max_size is 1.0 kB" in said and "This run goes on without the cache." in said
    needed = float(said.split("The activations need ")[1].split(" ")[0])
    kilobytes = sum(entry.bytes for entry in entries(own_cache) if "pooled-cls" not in entry.name) / 1000
    assert needed == pytest.approx(kilobytes, rel=0.05)
    assert_close(small, usual)
    assert [manifest(run_dir)["cache"]["used"] for run_dir in (small, usual)] == [False, True]


# --- sweeps ------------------------------------------------------------------------------------------------------------

GRIDS = "hydra.sweeper.grids=[{strategy: partial, strategy.frozen_depth: '1,3', data.batch_size: 16}, {strategy: frozen}]"


def test_one_pass_serves_a_whole_sweep(frostline, tiny, tmp_path, monkeypatch):
    passes, loaded, read = [], [], []

    def count(module, name, calls):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kw: calls.append(args) or own(*args, **kw))

    import frostline.commands.train as train_module

    count(passes_module, "lower_states", passes)
    count(train_module, "load_encoder", loaded)
    count(sentences, "read_files", read)
    sweep = tmp_path / "sweep"
    words = [*tiny[:-1], GRIDS, "trainer.max_epochs=2", f"hydra.sweep.dir={sweep}"]
    result = frostline("train", "-m", *words)
    assert result.status == 0, result.err
    assert [computed(sweep / job) for job in "012"] == [SENTENCES, 0, 0]
    assert {depth for *_, depth in passes} == {4}, "the probe, which comes last, needs all blocks"
    assert sum(len(batch["input_ids"]) for _, batch, _ in passes) < 1.1 * SENTENCES, "every sentence once, and some fillers"
    assert (len(loaded), len(read)) == (1, 1)

    for job, strategy in enumerate((["strategy=partial", "strategy.frozen_depth=1", "data.batch_size=16"], ["strategy=frozen"])):
        alone = tmp_path / f"alone{job}"
        words = [*tiny[:-1], *strategy, "trainer.max_epochs=2", "cache=off", f"hydra.run.dir={alone}"]
        assert frostline("train", *words).status == 0
        assert_close(sweep / "02"[job], alone)


def test_what_one_job_trains_does_not_reach_the_next(frostline, tiny, tmp_path):
    """All jobs share the loaded weights."""
    sweep = tmp_path / "sweep"
    same = ["strategy=partial", "optimizer.lr=1e-2", "trainer.max_epochs=1"]
    words = [*tiny, *same, "strategy.frozen_depth=0,2", f"hydra.sweep.dir={sweep}"]
    assert frostline("train", "-m", *words).status == 0
    alone = tmp_path / "alone"
    assert frostline("train", *tiny, *same, "strategy.frozen_depth=2", f"hydra.run.dir={alone}").status == 0
    assert_same(sweep / "1", alone)


# --- dropout in frozen blocks ------------------------------------------------------------------------------------------


def test_dropout_in_frozen_blocks_is_another_condition_and_not_cached(run, own_cache, tmp_path):
    plain = run("plain", *PARTIAL, "cache=off")
    noisy, again = (run(name, *PARTIAL, "strategy.frozen_dropout=true") for name in ("noisy", "again"))
    assert entries(own_cache) == []
    assert computed(noisy) == 0 and not manifest(noisy)["cache"]["used"]
    said = " ".join((tmp_path / "noisy.err").read_text().split())
    assert "strategy.frozen_dropout draws the frozen blocks' states anew in every step, so nothing is cached." in said
    assert_same(noisy, again)
    assert (curves(noisy)["train/loss"] - curves(plain)["train/loss"]).abs().max() > 1e-4


# --- batches of a number of tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2], ids=["", "accumulated"])
def test_epochs_of_different_numbers_of_batches(run, monkeypatch, parts):
    """data.batch_tokens: every sentence once an epoch, one row of the curves a step, and the rate ends at 0."""
    monkeypatch.setattr(batching, "BATCHES_PER_GROUP", 1)  # several groups in so few sentences, so that their number varies
    seen: dict[int, list[list[int]]] = {}
    own = Classifier.training_step

    def step(self, batch, index):
        seen.setdefault(self.current_epoch, []).append(batch["index"].tolist())
        assert batch["labels"].numel() == 1 or batch["attention_mask"].numel() <= 300
        return own(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", step)
    words = ["strategy=partial", "strategy.frozen_depth=1", "trainer.max_epochs=3", "data.batch_tokens=300"]
    run_dir = run("run", *words, f"trainer.accumulate_grad_batches={parts}")
    assert sorted(seen) == [0, 1, 2]
    for batches in seen.values():
        assert sorted(row for batch in batches for row in batch) == list(range(84))
    counts = [len(batches) for batches in seen.values()]
    assert len(set(counts)) > 1, "otherwise this says nothing"
    steps = sum(math.ceil(count / parts) for count in counts)
    curve = curves(run_dir)
    rates = curve["optimizer/lr"].dropna()
    assert len(rates) == curve["train/loss"].notna().sum() == steps
    peak, warmup = 2e-4, round(0.1 * steps)
    expected = [peak * min(i / warmup, (steps - i) / (steps - warmup)) for i in range(steps)]
    assert rates.tolist() == pytest.approx(expected, rel=1e-6), "the last step has the lowest rate above 0"

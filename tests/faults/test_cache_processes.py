"""Eight processes fill and read one activation cache at once, and one of them is killed in the middle."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frostline.encoder import entries as entries_module
from frostline.encoder.entries import entries, verify
from frostline.encoder.shards import Entry
from frostline.encoder.store import Store

ROUNDS, PROCESSES, SENTENCES, WIDTH = 20, 8, 120, 16
ENCODERS = ("3fa9", "77b1")  # whose locks are two


def key(sentence: int) -> bytes:
    return hashlib.md5(str(sentence).encode()).digest()


def states(encoder: str, sentence: int) -> NDArray[np.float32]:
    """What an encoder says of a sentence: 1 to 4 tokens."""
    draw = np.random.default_rng([int(encoder, 16), sentence])
    return draw.normal(size=(1 + sentence % 4, WIDTH)).astype(np.float32)


def ensure(cache: Path, encoder: str, wanted: list[int]) -> Entry:
    """Do what a run does: open the entry, compute what it lacks, read."""
    store = Store(cache)
    with store.lock(encoder):
        entry = store.open(encoder, "states")
        missing = [sentence for sentence in wanted if key(sentence) not in entry]
        if missing:
            rows = sum(len(states(encoder, sentence)) for sentence in missing)
            with store.writing(encoder, "states", {}, "fp32", {"states": WIDTH}, len(missing), rows) as writer:
                for sentence in missing:
                    values = states(encoder, sentence)
                    writer.add([key(sentence)], [len(values)], {"states": values})
                    time.sleep(0.0005)  # so that a kill finds it in the middle
            entry = store.open(encoder, "states")
    for sentence in wanted:
        np.testing.assert_array_equal(entry.rows("states", key(sentence)), states(encoder, sentence), strict=True)
    return entry


def work(cache: Path, seed: int, start: Any) -> None:
    draw = random.Random(seed)
    start.wait(60)
    for _ in range(6):
        ensure(cache, draw.choice(ENCODERS), draw.sample(range(SENTENCES), 30))


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_killed_process_of_eight_costs_the_others_nothing(round_: int, tmp_path: Path) -> None:
    draw, processes = random.Random(), multiprocessing.get_context("fork")
    start = processes.Barrier(PROCESSES + 1)
    workers = [processes.Process(target=work, args=(tmp_path, draw.random(), start)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    start.wait(60)
    time.sleep(draw.uniform(0.0, 0.3))
    killed = draw.choice(workers)
    killed.kill()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers if worker is not killed] == [0] * (PROCESSES - 1), "all read only what is right"
    entries_module._VERIFIED.clear()  # be a new process
    entries_module._OPENED.clear()
    assert verify(tmp_path) == []
    for encoder in ENCODERS:
        entry = ensure(tmp_path, encoder, list(range(SENTENCES)))
        assert entry.sentences == SENTENCES, "each sentence once"
    assert verify(tmp_path) == []
    kept = {
        path
        for info in entries(tmp_path)
        for path in (info.folder / "manifest.json", *(info.folder / s.file for s in info.shards))
    }
    assert {path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"} == kept, "no half file is left"

"""Partial fine-tuning, float32, one epoch, timed like full fine-tuning: HF Trainer with the same layers' requires_grad=False.

Frostline with CLS pooling and a warm cache. Building the cache: the whole of `train(config, run_dir)` with a cold cache (reading,
tokenising, encoding, writing, scoring), less the same with a warm one.
"""

import statistics

from harness import Job, Measured
from rows import Row, duration, rate, versus
from settings import SENTENCES, Settings

TITLE = "partial fine-tuning"
DEPTHS = (3, 4, 5)


def jobs(s: Settings) -> list[Job]:
    """Return the peer, a run that fills the cache, and runs that use it, for every depth."""
    peer = {"sentences": SENTENCES}
    found = []
    for depth in DEPTHS:
        own = {"words": words(s, depth)}
        found += [
            Job(f"HF Trainer, depth {depth}", "peers.hf_trainer:train", peer | {"depth": depth}, 45 - 3 * depth, repeats=1),
            Job(f"depth {depth}, cold cache", "frostline_side:train", own, 20, repeats=1, cache=f"partial-{depth}"),
            Job(f"depth {depth}, warm cache", "frostline_side:train", own, 30 - 4 * depth, cache=f"partial-{depth}"),
        ]
    return found


def words(s: Settings, depth: int) -> list[str]:
    """Return Frostline's overrides."""
    strategy = ["strategy=partial", f"strategy.frozen_depth={depth}", "model.pooling=cls", "optimizer.lr=1e-4"]
    return [*s.data_words(s.train_size), *strategy, "trainer.max_epochs=1", "trainer.precision=32-true"]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per depth, and one for the cost of the cache."""
    found = [
        versus(m, f"depth {d}", (f"HF Trainer, depth {d}", rate), (f"depth {d}, warm cache", rate), lambda r: r["seconds"])
        for d in DEPTHS
    ]
    for d in DEPTHS:
        cold, warm = (m.results.get(f"depth {d}, {kind} cache", []) for kind in ("cold", "warm"))
        if cold and warm:
            cost = cold[0]["train_seconds"] - statistics.median(r["train_seconds"] for r in warm)
            found.append(
                Row(
                    f"cache {d}", "–", f"depth {d}, building the cache once: {duration(max(cost, 0))}", repeats=f"– / {len(cold)}"
                )
            )
    return found

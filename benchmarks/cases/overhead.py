"""What Lightning, logging, callbacks and Frostline's own hooks add to a training step, float32.

The training steps of an epoch, but for the first, inside the Trainer over a bare loop on the same module, optimizer and batches,
in turn in one process. The ratio is bare over inside, best 1; at most 3 % more are meant to be lost.
"""

import statistics

from harness import Job, Measured
from rows import Row, duration, fill_ratio
from settings import Settings

TITLE = "overhead of the Trainer"
KINDS = {"full": ["strategy=full"], "depth 5, cached": ["strategy=partial", "strategy.frozen_depth=5"]}


def jobs(s: Settings) -> list[Job]:
    """Return one process per kind."""
    common = ["model.pooling=cls", "optimizer.lr=1e-4", "trainer.max_epochs=1", "trainer.precision=32-true"]
    sizes = {"full": s.step_size, "depth 5, cached": s.train_size}
    return [
        Job(
            kind,
            "frostline_side:overhead",
            {"words": [*s.data_words(sizes[kind], 0.01), *common, *words], "repeats": s.inner},
            100 if kind == "full" else 60,
            repeats=1,
            cache="overhead",
        )
        for kind, words in KINDS.items()
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per kind."""
    found = []
    for kind in KINDS:
        if kind not in m.results:
            found.append(Row(kind, "bare loop", f"{kind}: {m.reason(kind)}"))
            continue
        result = m.results[kind][0]
        inside, bare = ([seconds / result["timed_steps"] for seconds in result[key]] for key in ("inside", "bare"))
        more = statistics.median(a / b for a, b in zip(inside, bare, strict=True)) - 1
        words = f"{kind}: {duration(statistics.median(inside))} a step, {100 * more:+.1f} %"
        row = Row(kind, f"bare loop: {duration(statistics.median(bare))} a step", words, repeats=f"{len(bare)} / {len(inside)}")
        found.append(fill_ratio(row, bare, inside))
    return found

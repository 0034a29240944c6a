"""Start to result: the exact probe on a warm cache through `python -m frostline train`, from the start of the process to
metrics.json (the ratio) and to its exit; beside it, a process that does nothing but import the libraries. Job of a multirun: a
probe with another learning rate on the same features, from the job's start to its first training step; at most 0.5 s are meant.
"""

import statistics

from harness import Job, Measured
from rows import Row, duration, fill_ratio, median, seconds, versus
from settings import Settings

TITLE = "start to result"
MODULES = ["torch", "lightning", "transformers", "datasets", "wandb", "sklearn", "hydra"]
PEER, OWN, NEXT = f"import {', '.join(MODULES)}", "frostline train", "job of a multirun"
GOAL = 0.5  # seconds from a job's start to its first step


def jobs(s: Settings) -> list[Job]:
    """Return the run that fills the cache, then both sides, and a multirun over rates."""
    words = {"words": [*s.data_words(s.many_size), "strategy=frozen", "trainer.precision=32-true"]}
    probe = ["strategy=frozen", "optimizer=adamw", "trainer.max_epochs=1", "trainer.precision=32-true"]
    rates = {"words": [*s.data_words(s.many_size), *probe], "rates": [10.0 ** -(1 + i / 2) for i in range(s.inner + 1)]}
    return [
        Job("cold cache", "frostline_side:command", words, 25, repeats=1, cache="start"),
        Job(PEER, "frostline_side:imports", {"modules": MODULES}, 6),
        Job(OWN, "frostline_side:command", words, 14, cache="start"),
        Job(NEXT, "frostline_side:probe_jobs", rates, 15, repeats=1, cache="start"),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return both rows; the first ratio is below 1 by what a result costs beyond the imports."""

    def show(results: list[dict[str, float]]) -> str:
        return f"metrics.json after {duration(median(results, 'to_metrics'))}, exit after {duration(median(results, 'seconds'))}"

    found = [versus(m, "start", (PEER, seconds()), (OWN, show), lambda r: r["seconds"], lambda r: r["to_metrics"])]
    if NEXT not in m.results:
        return [*found, Row("job", "", f"{NEXT}: {m.reason(NEXT)}")]
    before = m.results[NEXT][0]["before"]
    words = f"{NEXT}: first step after {duration(statistics.median(before))}"
    return [*found, fill_ratio(Row("job", f"at most {GOAL} s", words, repeats=f"– / {len(before)}"), [GOAL], before)]

"""The exact probe on a warm cache through `python -m frostline train`: from the start of the process to metrics.json (the ratio)
and to its exit. Beside it, a process that does nothing but import the libraries.
"""

from harness import Job, Measured
from rows import Row, duration, median, seconds, versus
from settings import Settings

TITLE = "start to result"
MODULES = ["torch", "lightning", "transformers", "datasets", "wandb", "sklearn", "hydra"]
PEER, OWN = f"import {', '.join(MODULES)}", "frostline train"


def jobs(s: Settings) -> list[Job]:
    """Return the run that fills the cache, then both sides."""
    words = {"words": [*s.data_words(s.train_size), "strategy=frozen", "trainer.precision=32-true"]}
    return [
        Job("cold cache", "frostline_side:command", words, 25, repeats=1, cache="start"),
        Job(PEER, "frostline_side:imports", {"modules": MODULES}, 6),
        Job(OWN, "frostline_side:command", words, 14, cache="start"),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return one row; the ratio is below 1 by what a result costs beyond the imports."""

    def show(results: list[dict[str, float]]) -> str:
        return f"metrics.json after {duration(median(results, 'to_metrics'))}, exit after {duration(median(results, 'seconds'))}"

    return [versus(m, "start", (PEER, seconds()), (OWN, show), lambda r: r["seconds"], lambda r: r["to_metrics"])]

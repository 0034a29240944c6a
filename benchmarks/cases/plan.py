"""What `frostline plan` expects beside what `frostline train` takes, from the start of its process to its end, 2 epochs, 32-true.

The plan and the run follow one another, each in a process of its own, on an empty activation cache; the tokens are there for
both. The ratio is measured over expected: 1 is a plan that came true, and 0.8 to 1.33 (an error of at most 25 % of what was
measured) is what it may be.
"""

from harness import Job, Measured
from rows import Row, duration, median, seconds, versus
from settings import Settings

TITLE = "plan"
KINDS = {
    "frozen": ["strategy=frozen"],
    "partial, depth 4": ["strategy=partial", "strategy.frozen_depth=4"],
    "partial, depth 2": ["strategy=partial", "strategy.frozen_depth=2"],
    "full": ["strategy=full"],
    "sweep over depths and rates": [
        "-m",
        "strategy=partial",
        "strategy.frozen_depth=0,2,4,6",
        "optimizer.lr=1e-4,3e-4",
        "optimizer=adamw",
    ],
}


def jobs(s: Settings) -> list[Job]:
    """Return a plan and its run for each kind."""
    found = []
    for kind, own in KINDS.items():
        words = [*s.data_words(s.plan_size), "trainer.max_epochs=2", "trainer.precision=32-true", *own]
        options, cache = {"words": words}, f"plan-{kind.replace(' ', '-')}-{{round}}"
        found.append(Job(f"plan, {kind}", "frostline_side:plan", options, 45, repeats=2, cache=cache))
        found.append(Job(f"run, {kind}", "frostline_side:whole", options, 160 if "-m" in own else 45, repeats=2, cache=cache))
    return found


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row a kind."""

    def expected(results: list[dict[str, float]]) -> str:
        return f"{duration(median(results, 'expected'))} (the plan itself took {duration(median(results, 'wall_seconds'))})"

    return [
        versus(m, kind, (f"run, {kind}", seconds()), (f"plan, {kind}", expected), lambda r: r["seconds"], lambda r: r["expected"])
        for kind in KINDS
    ]

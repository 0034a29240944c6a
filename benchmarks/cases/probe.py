"""A linear probe on the last layer, 10 epochs of AdamW at 1e-3, float32: HF Trainer with a frozen backbone, its train_runtime.

Frostline: `fit_seconds` of metrics.json, that is computing (or reading) the features of all splits, and fitting, with validation
after every epoch.
"""

from harness import Job, Measured
from rows import Row, accuracy, median, timed, versus
from settings import SENTENCES, Settings

TITLE = "probe, 10 epochs"
PEER, COLD, WARM = "HF Trainer, frozen backbone", "cold cache", "warm cache"
BLOCKS = 6


def jobs(s: Settings) -> list[Job]:
    """Return the peer once, and Frostline twice a round in a cache of its own."""
    peer = {"sentences": SENTENCES, "epochs": s.probe_epochs, "lr": 1e-3, "depth": BLOCKS}
    strategy = ["strategy=frozen", "optimizer=adamw", "strategy.layer=last", "optimizer.lr=1e-3"]
    words = [*s.data_words(s.train_size), *strategy, f"trainer.max_epochs={s.probe_epochs}", "trainer.precision=32-true"]
    return [
        Job(PEER, "peers.hf_trainer:train", peer, 130, repeats=1),
        Job(COLD, "frostline_side:train", {"words": words}, 12, cache="probe-{round}"),
        Job(WARM, "frostline_side:train", {"words": words}, 10, cache="probe-{round}"),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per state of the cache."""

    def show(results: list[dict[str, float]]) -> str:
        return f"{median(results, 'fit_seconds'):.2f} s, {accuracy(results)}"

    return [
        versus(m, own, (PEER, timed), (own, show), lambda r: r["seconds"], lambda r: r["fit_seconds"]) for own in (COLD, WARM)
    ]

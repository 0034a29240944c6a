"""Full fine-tuning, one epoch: fetching batches and optimizer steps, without imports, tokenising, loading and evaluation.

HF Trainer: its own train_runtime. The same sentences, batch size 32, rate 1e-4; each side has its own order, schedule and head.
"""

from harness import Job, Measured
from rows import Row, rate, versus
from settings import PRECISIONS, SENTENCES, Settings

TITLE = "full fine-tuning"
DEFAULTS, GROUPED, BEST = "HF Trainer, defaults", "HF Trainer, length-grouped", "HF Trainer, bf16 and length-grouped"
LIGHTNING, BARE = "plain LightningModule (its dropout is silently off)", "bare torch loop"
FP32, BF16 = PRECISIONS


def jobs(s: Settings) -> list[Job]:
    """Return the peers and both precisions of Frostline."""
    data = {"sentences": SENTENCES}
    return [
        Job(DEFAULTS, "peers.hf_trainer:train", data, 50),
        Job(FP32, "frostline_side:train", {"words": words(s, FP32)}, 30),
        Job(GROUPED, "peers.hf_trainer:train", data | {"length_grouped": True}, 40, repeats=2),
        Job(BEST, "peers.hf_trainer:train", data | {"bf16": True, "length_grouped": True}, 25, bf16=True),
        Job(BF16, "frostline_side:train", {"words": words(s, BF16)}, 20, bf16=True),
        Job(LIGHTNING, "peers.plain_lightning:train", data, 45, repeats=1),
        Job(BARE, "peers.bare_loop:train", data, 45, repeats=1),
    ]


def words(s: Settings, precision: str) -> list[str]:
    """Return Frostline's overrides."""
    return [
        *s.data_words(s.train_size),
        "strategy=full",
        "optimizer.lr=1e-4",
        "trainer.max_epochs=1",
        f"trainer.precision={precision}",
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per pair."""
    pairs = [(DEFAULTS, FP32), (GROUPED, FP32), (LIGHTNING, FP32), (BARE, FP32), (DEFAULTS, BF16), (BEST, BF16)]
    return [versus(m, f"{peer} / {own}", (peer, rate), (own, rate), lambda r: r["seconds"]) for peer, own in pairs]

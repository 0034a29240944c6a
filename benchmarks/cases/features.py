"""Features without gradient, tokenising included, after a warm-up: sentence-transformers encodes the last layer, mean pooled.

Frostline: all 7 layers with two poolings (CLS and mean) from one pass. bf16: the peer's weights are bfloat16, Frostline's pass is
that of bf16-mixed.
"""

from harness import Job, Measured
from rows import Row, median, versus
from settings import PRECISIONS, SENTENCES, Settings

TITLE = "features"
PEER, OWN = "sentence-transformers, last layer", "7 layers x 2 poolings"


def jobs(s: Settings) -> list[Job]:
    """Return both sides in both precisions."""
    found = []
    for precision in PRECISIONS:
        bf16 = precision == "bf16-mixed"
        own = {"words": [*s.data_words(s.train_size), f"trainer.precision={precision}"]}
        peer = {"sentences": SENTENCES, "precision": precision}
        found += [
            Job(f"{PEER}, {precision}", "peers.sentence_transformers:encode", peer, 20, bf16=bf16),
            Job(f"{OWN}, {precision}", "frostline_side:encode", own, 15, bf16=bf16),
        ]
    return found


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per precision."""

    def show(results: list[dict[str, float]]) -> str:
        return f"{median(results, lambda r: r['encoded'] / r['seconds']):.0f} sentences/s"

    return [versus(m, p, (f"{PEER}, {p}", show), (f"{OWN}, {p}", show), lambda r: r["seconds"]) for p in PRECISIONS]

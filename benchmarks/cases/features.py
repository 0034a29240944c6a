"""Features without gradient, tokenising included, after a warm-up: sentence-transformers encodes the last layer, mean pooled.

Frostline: all 7 layers with two poolings (CLS and mean) from one pass. bf16: the peer's weights are bfloat16, Frostline's pass is
that of bf16-mixed.
"""

from harness import Job, Measured
from rows import Row, median, versus
from settings import Settings

TITLE = "features"
PEER, OWN = "sentence-transformers, last layer", "7 layers x 2 poolings"
PRECISIONS = ("32-true", "bf16-mixed")


def jobs(s: Settings) -> list[Job]:
    """Return both sides; each measures both precisions."""
    own = {"words": s.data_words(s.sweep_size), "precisions": PRECISIONS}
    return [
        Job(PEER, "peers.sentence_transformers:encode", {"sentences": f"{{work}}/sentences-{s.sweep_size}.json"}, 25),
        Job(OWN, "frostline_side:encode", own, 25),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per precision."""
    found = []
    for precision in PRECISIONS:

        def show(results: list[dict[str, dict[str, float]]], precision: str = precision) -> str:
            return f"{median(results, lambda r: r['encoded'] / r['seconds'][precision]):.0f} sentences/s ({precision})"

        found.append(versus(m, precision, (PEER, show), (OWN, show), lambda r, p=precision: r["seconds"][p]))
    return found

"""How much of this machine's best matrix products a forward pass without gradient reaches.

FLOPs by formula: 2 x parameters of the blocks' matrices x real tokens, and 4 x length^2 x width a block for attention. FLOPs per
second over the best FLOP/s of products of 900 rows, 384 to 1,536 and back, in the same precision (fp32 through MKL or oneDNN,
whichever is faster here), measured in turn with the passes, in the same process. HF: batches of 32 in the order of the data,
padded, weights in that precision. Frostline: all 7 layers, two poolings.
"""

import statistics
from typing import Any

from harness import Job, Measured
from rows import Row, fill_ratio, versus
from settings import PRECISIONS, SENTENCES, Settings

TITLE = "share of the GEMM limit"


def jobs(s: Settings) -> list[Job]:
    """Return both sides in both precisions."""
    hf, own = {"sentences": SENTENCES}, {"words": s.data_words(s.train_size)}
    found = []
    for precision in PRECISIONS:
        common, bf16 = {"precision": precision, "repeats": s.inner}, precision == "bf16-mixed"
        found += [
            Job(f"HF, data order, {precision}", "gemm_limit:hf", hf | common, 40, repeats=1, bf16=bf16),
            Job(f"forward, {precision}", "gemm_limit:frostline", own | common, 30, repeats=1, bf16=bf16),
        ]
    return found


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per precision."""

    def show(results: list[dict[str, Any]]) -> str:
        limit = statistics.median(results[0]["limit"])
        return f"{100 * statistics.median(shares(results)):.0f} % of {limit / 1e9:.0f} GFLOP/s"

    found = []
    for precision in PRECISIONS:
        theirs, ours = f"HF, data order, {precision}", f"forward, {precision}"
        row = versus(m, precision, (theirs, show), (ours, show))
        if theirs in m.results and ours in m.results:
            fill_ratio(row, [1 / x for x in shares(m.results[theirs])], [1 / x for x in shares(m.results[ours])])
        found.append(row)
    return found


def shares(results: list[dict[str, Any]]) -> list[float]:
    """Return what share of the limit each round reached."""
    return [reached / limit for r in results for reached, limit in zip(r["reached"], r["limit"], strict=True)]

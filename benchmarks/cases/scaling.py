"""How Frostline's cost grows. Depths: training steps at every frozen depth beside the formula, relative to full fine-tuning.

A backward pass costs two forward passes; frozen blocks need the forward pass only (3L / (3L - 2d)), and with a warm cache
nothing (L / (L - d), to which the embeddings and the head come). Depths in turn, several times, in one process. Sentences: one
pass for the features of all layers, and the training steps of one epoch at depth 4 with a warm cache; the ratio is the cost of a
sentence relative to that in the smallest set, best 1. Disk: what the cache then holds, as if of 10,000 sentences of 25 tokens.
"""

import statistics

from harness import Job, Measured
from rows import Row, duration, fill_ratio, median
from settings import Settings

TITLE = "scaling"
BLOCKS, DEPTH = 6, 4
DISK, MOST_MB = "cache on disk", 400
FORMULAS = {
    "uncached": ("3L / (3L - 2d)", lambda d: 3 * BLOCKS / (3 * BLOCKS - 2 * d)),
    "cached": ("L / (L - d)", lambda d: BLOCKS / (BLOCKS - d) if d < BLOCKS else float("inf")),
}


def jobs(s: Settings) -> list[Job]:
    """Return all depths in one process, and two measurements per number of sentences."""
    common = ["model.pooling=cls", "optimizer.lr=1e-4", "trainer.max_epochs=1", "trainer.precision=32-true"]
    depths = {"words": [*s.data_words(s.step_size, 0.01), *common], "blocks": BLOCKS, "repeats": min(s.inner, 2)}
    found = [Job("depths", "frostline_side:every_depth", depths, 170, repeats=1, cache="depths")]
    for n in s.scales:
        data = s.data_words(n, 0.01)
        train = {"words": [*data, *common, "strategy=partial", f"strategy.frozen_depth={DEPTH}"]}
        found += [
            Job(
                f"features of {n:,}",
                "frostline_side:encoding_pass",
                {"words": [*data, "trainer.precision=32-true"]},
                8 + n / 250,
                repeats=1,
            ),
            Job(f"filling the cache, {n:,}", "frostline_side:train", train, 10 + n / 80, repeats=1, cache="scales"),
            Job(f"epoch of {n:,}", "frostline_side:train", train, 10 + n / 100, repeats=1, cache="scales"),
        ]
    return [*found, Job(DISK, "frostline_side:cache_size", {"depth": DEPTH}, 2, repeats=1, cache="scales")]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per depth and kind, one per number of sentences and measurement, and one for the disk."""
    return [*depth_rows(m), *sentence_rows(s, m), disk_row(m)]


def depth_rows(m: Measured) -> list[Row]:
    """Compare every depth with full fine-tuning in the same process."""
    if "depths" not in m.results:
        return [Row("depths", "formula", m.reason("depths"))]
    found = []
    result = m.results["depths"][0]
    full = result["uncached"]["0"]
    for kind, (formula, expected) in FORMULAS.items():
        for depth in range(1, BLOCKS + 1):
            if kind in result:
                own = result[kind][str(depth)]
                words = f"depth {depth}, {kind}: {duration(statistics.median(own))} (full {duration(statistics.median(full))})"
                row = Row(f"{kind} {depth}", f"{formula} = {expected(depth):.3g}", words, repeats=f"– / {len(own)}")
                found.append(fill_ratio(row, full, own))
    return found


def sentence_rows(s: Settings, m: Measured) -> list[Row]:
    """Compare the cost of a sentence in larger sets with that in the smallest."""
    found = []
    for what, unit in (("features of", "features"), ("epoch of", "steps")):
        first = m.results.get(f"{what} {s.scales[0]:,}")
        for n in s.scales:
            side = f"{what} {n:,}"
            results = m.results.get(side)
            if not results or not first:
                found.append(Row(side, "linear", f"{side}: {m.reason(side)}"))
                continue
            each, base = ([1000 * r["seconds"] / size for r in of] for of, size in ((results, n), (first, s.scales[0])))
            words = f"{side} sentences: {duration(median(results, 'seconds'))}, {statistics.median(each):.2f} ms each ({unit})"
            found.append(fill_ratio(Row(side, "linear = 1.00", words, repeats=f"– / {len(each)}"), base, each))
    return found


def disk_row(m: Measured) -> Row:
    """Compare the size of one depth's states with what it may be."""
    row = Row("disk", f"at most {MOST_MB} MB", f"{DISK}: ")
    if DISK not in m.results:
        row.own += m.reason(DISK)
        return row
    held = m.results[DISK][0]
    size = held["bytes"] / held["tokens"] * 25 * 10_000 / 1e6
    row.own += f"{held['bytes'] / 1e6:.0f} MB for {held['cached']:,} sentences, {held['tokens']:,} tokens: {size:.0f} MB"
    return fill_ratio(row, [MOST_MB], [size])

"""Probes on 7 layers x 20 learning rates x 5 seeds, 50 epochs of AdamW, features given: one at a time in plain torch.

Only a sample is fitted one at a time, and its time scaled up to all of them. Accuracies are means over that sample on both sides.
"""

import statistics
from typing import Any

from harness import Job, Measured
from rows import Row, duration, median, versus
from settings import Settings

TITLE = "many probes"
PEER, OWN = "one at a time, plain torch", "all at once"
LAYERS = 7


def jobs(s: Settings) -> list[Job]:
    """Return the features, then both sides."""
    features = "{work}/probe-features.pt"
    rates = [10 ** (-4 + 3 * i / (s.many_rates - 1)) for i in range(s.many_rates)]
    grid = [(layer, rate, seed) for layer in range(LAYERS) for rate in rates for seed in range(s.many_seeds)]
    sample = [grid[(2 * i + 1) * len(grid) // (2 * s.many_sample)] for i in range(s.many_sample)]
    fit = {"features": features, "epochs": s.many_epochs}
    return [
        Job("features", "frostline_side:write_features", {"words": s.data_words(s.many_size), "path": features}, 20, repeats=1),
        Job(PEER, "peers.one_probe:train", fit | {"probes": sample}, 15),
        Job(OWN, "frostline_side:many_probes", fit | {"rates": rates, "seeds": s.many_seeds, "sample": sample}, 15),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return the one row."""
    count = LAYERS * s.many_rates * s.many_seeds
    scale = count / s.many_sample

    def sampled(results: list[dict[str, Any]]) -> str:
        time = duration(scale * median(results, "seconds"))
        return f"{time} for {count} probes (scaled up from {s.many_sample}), {reached(results)}"

    def all_at_once(results: list[dict[str, Any]]) -> str:
        return f"{duration(median(results, 'seconds'))} for {count} probes, {reached(results)}"

    return [versus(m, "many", (PEER, sampled), (OWN, all_at_once), lambda r: scale * r["seconds"], lambda r: r["seconds"])]


def reached(results: list[dict[str, Any]]) -> str:
    """Show the mean accuracy of the sample."""
    return f"accuracy {100 * statistics.mean(results[0]['accuracies']):.1f} %"

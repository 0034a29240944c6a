"""Learning rates x frozen depths, 1,000 sentences, 2 epochs: everything from the first process's start to the last one's end.

HF Trainer: a process per cell, one after another, evaluated once at the end. Frostline: one `frostline train -m`, evaluated
after every epoch, with results.csv and report.html at the end. Both with CLS pooling and without warm-up of the rate. HF
Trainer in bf16 is measured with one rate per depth and scaled up: the cost does not depend on the rate. Accuracies are those
after the last epoch, compared with the peer's in fp32.
"""

import statistics
from typing import Any

from harness import Job, Measured
from rows import Row, duration, fill_ratio
from settings import Settings

TITLE = "sweep"
OWN = {"fp32": "32-true", "bf16": "bf16-mixed"}


def jobs(s: Settings) -> list[Job]:
    """Return the peer's processes and Frostline's two sweeps."""
    data = {"sentences": f"{{work}}/sentences-{s.sweep_size}.json", "epochs": s.sweep_epochs}
    best = {"bf16": True, "length_grouped": True}
    found = []
    for kind in OWN:
        for depth in s.sweep_depths:
            for rate in s.sweep_rates if kind == "fp32" else s.sweep_rates[-2:-1]:
                options = data | {"depth": depth, "lr": rate} | (best if kind == "bf16" else {})
                found.append(
                    Job(
                        cell(kind, depth, rate),
                        "peers.hf_trainer:train",
                        options,
                        (65 if kind == "fp32" else 35) - 5 * depth,
                        repeats=1,
                    )
                )
        found.append(
            Job(kind, "frostline_side:sweep", {"words": words(s, OWN[kind])}, 210, repeats=1, cache=f"sweep-{kind}-{{round}}")
        )
    return found


def words(s: Settings, precision: str) -> list[str]:
    """Return Frostline's overrides."""
    depths, rates = (",".join(map(str, values)) for values in (s.sweep_depths, s.sweep_rates))
    same = ["model.pooling=cls", "scheduler.warmup_share=0", f"trainer.max_epochs={s.sweep_epochs}"]
    grid = ["strategy=partial", f"strategy.frozen_depth={depths}", f"optimizer.lr={rates}"]
    return [*s.data_words(s.sweep_size), *same, *grid, f"trainer.precision={precision}"]


def cell(kind: str, depth: int, rate: float) -> str:
    """Return the name of one process of the peer."""
    return f"HF Trainer, {kind}, depth {depth}, rate {rate:g}"


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return the total times, and how far the accuracies differ."""
    return [row(s, m, kind) for kind in OWN]


def row(s: Settings, m: Measured, kind: str) -> Row:
    """Return one precision's row."""
    cells = len(s.sweep_depths) * len(s.sweep_rates)
    expected = cells if kind == "fp32" else len(s.sweep_depths)
    of_kind = f"HF Trainer, {kind},"
    theirs = [results[0]["wall_seconds"] for side, results in m.results.items() if side.startswith(of_kind)]
    own = m.results.get(kind)
    found = Row(kind, "", f"one process, {kind}: ", repeats=f"1 x {len(theirs)} processes / {len(own or [])}")
    found.own += f"{duration(own[0]['seconds'])}{differences(m, own[0])}" if own else m.errors.get(kind, "not run")
    if len(theirs) < expected:
        found.peer = next((f"{side} {error}" for side, error in m.errors.items() if side.startswith(of_kind)), "not run")
        return found
    total = sum(theirs) * cells / expected
    style = "defaults" if kind == "fp32" else "bf16 and length-grouped"
    scaled = "" if expected == cells else f" (scaled up from {expected})"
    found.peer = f"HF Trainer, {style}, {cells} processes: {duration(total)}{scaled}"
    return fill_ratio(found, [total], [r["seconds"] for r in own]) if own else found


def differences(m: Measured, own: dict[str, Any]) -> str:
    """Return how the accuracies differ from the peer's in fp32, in words."""
    pairs = [(accuracy, m.results.get(cell("fp32", depth, rate))) for depth, rate, accuracy, _ in own["cells"]]
    points = [100 * (accuracy - peer[0]["accuracy"]) for accuracy, peer in pairs if peer]
    if not points:
        return ""
    return f"; accuracies differ by {statistics.mean(points):+.1f} points on average, at most {max(map(abs, points)):.1f}"

"""Learning rates x frozen depths, 1,000 sentences, 2 epochs: everything from the first process's start to the last one's end.

HF Trainer: a process per cell, one after another, evaluated once at the end. Frostline: one `frostline train -m`, evaluated
after every epoch, with results.csv and report.html at the end. Both with CLS pooling and without warm-up of the rate. HF
Trainer is measured with one rate per depth and scaled up: the cost does not depend on the rate. Accuracies are those after the
last epoch, compared with the peer's in fp32 at that rate.
"""

import statistics
from typing import Any

from harness import Job, Measured
from rows import Row, duration, fill_ratio
from settings import SENTENCES, Settings

TITLE = "sweep"
OWN = {"fp32": "32-true", "bf16": "bf16-mixed"}
STYLE = {"fp32": "defaults", "bf16": "bf16 and length-grouped"}


def jobs(s: Settings) -> list[Job]:
    """Return the peer's processes and Frostline's two sweeps."""
    data = {"sentences": SENTENCES, "epochs": s.sweep_epochs, "lr": peer_rate(s)}
    best = {"bf16": True, "length_grouped": True}
    found = []
    for kind in OWN:
        bf16 = kind == "bf16"
        for depth in s.sweep_depths:
            options = data | {"depth": depth} | (best if bf16 else {})
            seconds = (35 if bf16 else 65) - 5 * depth
            found.append(Job(cell(kind, depth), "peers.hf_trainer:train", options, seconds, repeats=1, bf16=bf16))
        own = {"words": words(s, OWN[kind])}
        found.append(Job(kind, "frostline_side:sweep", own, 210, repeats=1, cache=f"sweep-{kind}-{{round}}", bf16=bf16))
    return found


def peer_rate(s: Settings) -> float:
    """Return the learning rate that the peer is measured with."""
    return s.sweep_rates[-2]


def words(s: Settings, precision: str) -> list[str]:
    """Return Frostline's overrides."""
    depths, rates = (",".join(map(str, values)) for values in (s.sweep_depths, s.sweep_rates))
    same = ["model.pooling=cls", "scheduler.warmup_share=0", f"trainer.max_epochs={s.sweep_epochs}"]
    grid = ["strategy=partial", f"strategy.frozen_depth={depths}", f"optimizer.lr={rates}"]
    return [*s.data_words(s.train_size), *same, *grid, f"trainer.precision={precision}"]


def cell(kind: str, depth: int) -> str:
    """Return the name of one process of the peer."""
    return f"HF Trainer, {kind}, depth {depth}"


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return the total times, and how far the accuracies differ."""
    return [row(s, m, kind) for kind in OWN]


def row(s: Settings, m: Measured, kind: str) -> Row:
    """Return one precision's row."""
    sides = [cell(kind, depth) for depth in s.sweep_depths]
    theirs, own = [m.results.get(side) for side in sides], m.results.get(kind)
    cells = len(sides) * len(s.sweep_rates)
    found = Row(kind, "", "", repeats=f"1 x {len(sides)} processes / {len(own or [])}")
    found.peer = f"HF Trainer, {STYLE[kind]}, {cells} processes: "
    found.own = f"one process, {kind}: "
    found.own += f"{duration(own[0]['seconds'])}{differences(s, m, own[0])}" if own else m.reason(kind)
    missing = [side for side, results in zip(sides, theirs, strict=True) if not results]
    if missing:
        found.peer += m.reason(missing[0])
        return found
    total = sum(results[0]["wall_seconds"] for results in theirs if results) * len(s.sweep_rates)
    found.peer += f"{duration(total)} (scaled up from {len(sides)})"
    return fill_ratio(found, [total], [r["seconds"] for r in own]) if own else found


def differences(s: Settings, m: Measured, own: dict[str, Any]) -> str:
    """Return how the accuracies differ from the peer's in fp32 at its rate, in words."""
    pairs = [(accuracy, m.results.get(cell("fp32", depth))) for depth, rate, accuracy, _ in own["cells"] if rate == peer_rate(s)]
    points = [100 * (accuracy - peer[0]["accuracy"]) for accuracy, peer in pairs if peer]
    if not points:
        return ""
    return f"; accuracies differ by {statistics.mean(points):+.1f} points on average, at most {max(map(abs, points)):.1f}"

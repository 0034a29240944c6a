"""The answer in words: which arm won, and by how much, or that the data cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from frostline.measures.statistics import Interval, paired_difference
from frostline.report.arms import Arm, distinctions, ranking, told_apart
from frostline.report.table import percent


def best_and_by_how_much(arms: Sequence[Arm]) -> str:
    """Return two sentences a task: which arm won on validation, its test accuracy, and by how much it beats the probe.

    A task is a data set with the same ``data.*`` settings. The difference is paired over the seeds and sentences that
    both arms have; without a probe, or if the probe won, the winner is compared with the second best on validation.
    """
    if not arms:
        return "No run has finished yet."
    tasks: dict[str, list[Arm]] = {}
    told = {key: values for key, values in distinctions(arms).items() if key == "data" or key.startswith("data.")}
    for i, arm in enumerate(arms):
        tasks.setdefault(", ".join(f"{key} {values[i]}" for key, values in told.items()), []).append(arm)
    return "\n".join((f"{task}: " if task else "") + _answer(of_task) for task, of_task in tasks.items())


def _in_words(arms: Sequence[Arm]) -> list[str]:
    told = told_apart(arms)
    words = []
    for i, arm in enumerate(arms):
        name = {
            "frozen": "the linear probe" + ("" if arm.layer is None else f" on layer {arm.layer}"),
            "partial": f"partial fine-tuning with {arm.depth} of {arm.blocks} blocks frozen",
        }.get(arm.strategy, f"{arm.strategy} fine-tuning")
        detail = ", ".join(f"{key} {value}" for key, value in told[i].items())
        words.append(f"{name} ({detail})" if detail else name)
    return words


def _answer(arms: list[Arm]) -> str:
    """Two or three sentences about the arms of one task."""
    ranked = ranking(arms)
    told = dict(zip(arms, _in_words(arms), strict=True))
    best, name = ranked[0], told[ranked[0]]
    lead = f"Of {len(arms)} arms, {name} did best" if len(arms) > 1 else f"The only arm, {name}, scores"
    first = f"{lead} on validation ({percent(best.val_accuracy)} %)"
    if best.test is None:
        return f"{first}; it was not scored on test. Without test predictions the difference cannot be told."
    mean, low, high = map(percent, best.test)
    seeds = f"{len(best.seeds)} seed{'s' if len(best.seeds) > 1 else ''}"
    first += f"; on test it scores {mean} % (95 % interval {low} to {high} %; {seeds}, {best.n_test:,} sentences)."
    if len(arms) == 1:
        return f"{first} There is no other arm to compare it with."
    probes = [arm for arm in ranked if arm.strategy == "frozen"]
    probes = [] if best in probes else [p for p in probes if p.model == best.model] or probes
    other = probes[0] if probes else ranked[1]
    return f"{first} {_comparison(best, other, told[other])}{_cheaper(best, [arm for arm in ranked if arm is not other], told)}"


def _cheaper(best: Arm, arms: Sequence[Arm], told: dict[Arm, str]) -> str:
    """Which of the arms that train at least twice as fast as the best is not worse as far as we can tell; nothing if none is."""
    faster = [arm for arm in arms if arm.fit_seconds <= best.fit_seconds / 2]
    for arm in sorted(faster, key=lambda arm: arm.fit_seconds):
        difference = _difference(best, arm)
        if difference is not None and not difference.excludes_zero():
            points, low, high = (f"{100 * x:+.1f}" for x in difference)
            time = f"{_times(arm.fit_seconds / best.fit_seconds)} the time"
            interval = f"difference {points} points, {low} to {high}"
            return f" Cheaper, and not worse as far as we can tell: {told[arm]}, in {time} ({interval})."
    return ""


def _times(ratio: float) -> str:
    """A ratio of times in words: ``40 ×``, ``1.5 ×``, ``8 % of``."""
    if ratio >= 1:
        return f"{ratio:.0f} ×" if ratio >= 9.5 else f"{ratio:.1f} ×"
    return f"{100 * ratio:.0f} % of" if ratio >= 0.01 else "less than 1 % of"


def _difference(best: Arm, other: Arm) -> Interval | None:
    """The paired difference in test accuracy over shared seeds and sentences; None if there are none."""
    seeds = _shared_seeds(best, other)
    if not seeds or best.correct is None or other.correct is None:
        return None
    return paired_difference(best.correct[seeds].to_numpy().T, other.correct[seeds].to_numpy().T)


def _shared_seeds(best: Arm, other: Arm) -> list[int] | None:
    """The seeds that both arms have; None if they were not scored on the same test sentences."""
    if best.correct is None or other.correct is None or not best.correct.index.equals(other.correct.index):
        return None
    return [seed for seed in best.seeds if seed in other.seeds]


def _comparison(best: Arm, other: Arm, name: str) -> str:
    seeds, difference = _shared_seeds(best, other), _difference(best, other)
    if difference is None or other.correct is None:
        why = "were not scored on the same test sentences" if seeds is None else "share no seed"
        return f"We cannot tell by how much it differs from {name}: the two {why}."
    points, low, high = (f"{100 * x:+.1f}" for x in difference)
    accuracy = percent(float(other.correct[seeds].to_numpy().mean()))
    time = f"{_times(best.fit_seconds / other.fit_seconds)} its time"
    if not difference.excludes_zero():
        return (
            f"Whether it beats {name} ({accuracy} %), in {time}, we cannot tell: the paired difference is {points} points, "
            f"and its 95 % interval, {low} to {high}, includes 0."
        )
    side = "above" if difference.mean > 0 else "below"
    return (
        f"That is {points.lstrip('+-')} points {side} {name} ({accuracy} %), in {time}; "
        f"the 95 % interval of the paired difference is {low} to {high} points."
    )

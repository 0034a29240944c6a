"""A claim's verdict: supported, refuted or inconclusive, by a rule that was written before the data was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval
from frostline.report.arms import Arm
from frostline.report.effects import EFFECTS, Effect
from frostline.runs.files import write_json
from frostline.runs.jobs import job_folders
from frostline.runs.reading import damage_told, read_json
from frostline.runs.sweep import read_config, value_of
from frostline.schema import ClaimConfig

FILE = "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """What an experiment says of its claim.

    Attributes:
        claim: the claim and its rule.
        verdict: ``supported``, ``refuted`` or ``inconclusive``.
        effect: mean and 95 % interval; None if it could not be computed.
        seeds: how many.
        detail: what the effect was computed from, or why it could not be.
    """

    claim: ClaimConfig
    verdict: str
    effect: Interval | None
    seeds: int
    detail: str

    def in_words(self) -> str:
        """Return the verdict as a sentence."""
        claim = self.claim
        words = f"{self.verdict.upper()}: {claim.statement} ({claim.source})."
        rule = f"supported if {claim.effect.replace('_', ' ')} is {claim.supported} {claim.threshold:g} {claim.unit}".rstrip()
        if self.effect is None:
            return f"{words} Rule: {rule}. {self.detail}"
        mean, low, high = self.effect
        return (
            f"{words} Rule: {rule}. Observed: {mean:.3g} {claim.unit} (95 % interval {low:.3g} to {high:.3g}; {self.seeds} "
            f"seeds); {self.detail}."
        )


def claim_of(sweep_dir: Path) -> ClaimConfig | None:
    """Return the claim that a sweep was to decide on, as its first job's snapshot has it; None if there was none.

    Raises:
        FrostlineError: it is none.
    """
    first = job_folders(sweep_dir)[0][1]
    node = value_of(read_config(first), "claim")
    if node is None:
        return None
    with damage_told(first):
        claim = cast(ClaimConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ClaimConfig), node)))
        if claim.effect not in EFFECTS:
            raise ValueError(f"its claim's effect is {claim.effect!r:.40}")
        return claim


def decide(claim: ClaimConfig, effect: Effect) -> str:
    """Return ``supported`` if the whole interval lies on the claimed side of the threshold, ``refuted`` if on the other.

    In between, or with fewer seeds than the rule asks for, it is ``inconclusive``.
    """
    if effect.seeds < claim.min_seeds:
        return "inconclusive"
    above, below = effect.interval.low > claim.threshold, effect.interval.high < claim.threshold
    holds, fails = (above, below) if claim.supported == "above" else (below, above)
    return "supported" if holds else "refuted" if fails else "inconclusive"


def judge(sweep_dir: Path, arms: Sequence[Arm]) -> Verdict | None:
    """Decide on a sweep's claim; None for a sweep without one. What cannot be computed is inconclusive, and says why."""
    claim = claim_of(sweep_dir)
    if claim is None:
        return None
    try:
        effect = EFFECTS[claim.effect](arms, sweep_dir)
    except FrostlineError as error:
        return Verdict(claim, "inconclusive", None, 0, str(error))
    few = f" (the rule asks for {claim.min_seeds} seeds)" if effect.seeds < claim.min_seeds else ""
    return Verdict(claim, decide(claim, effect), effect.interval, effect.seeds, effect.detail + few)


def write_verdict(sweep_dir: Path, verdict: Verdict) -> None:
    """Write ``verdict.json`` into a sweep's directory."""
    write_json(sweep_dir / FILE, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """Read a ``verdict.json`` back.

    Raises:
        FrostlineError: the file is damaged.
    """
    content = read_json(path)
    with damage_told(path):
        effect = None if content["effect"] is None else Interval(*map(float, content["effect"]))
        return Verdict(**content | {"claim": ClaimConfig(**content["claim"]), "effect": effect})

"""Effects on what an encoder's layers hold, on what a linear boundary reaches, and on what fine-tuning does to the space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frostline.errors import FrostlineError
from frostline.measures.statistics import paired_difference, t_interval
from frostline.report.arms import Arm
from frostline.report.effects.evidence import Effect, arm_of, majority_of, percent_of, scores, share_of_gain, tables_of
from frostline.report.measures import PARTS, centres, curve, pooling_of, probe_correct


def probe_share_of_gain(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return which share of full fine-tuning's gain over the majority class the converged probe reaches."""
    probe, full = arm_of(arms, "frozen"), arm_of(arms, "full")
    of_probe, of_full = scores(probe, full)
    majority = majority_of(sweep_dir / full.runs[0])
    share = share_of_gain(of_probe, of_full, majority, majority, "full fine-tuning does not beat the majority class")
    detail = f"probe {percent_of(of_probe)}, full {percent_of(of_full)}, majority {100 * majority:.1f} %"
    return Effect(share, len(of_full), detail)


def upper_share_of_gain(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return which share of full fine-tuning's gain over the probe tuning only the upper blocks reaches: r(k)."""
    probe, partial, full = (arm_of(arms, name) for name in ("frozen", "partial", "full"))
    of_probe, of_partial, of_full = scores(probe, partial, full)
    share = share_of_gain(of_partial, of_full, of_probe, of_probe, "full fine-tuning does not beat the probe")
    frozen = f"{partial.depth} of {partial.blocks} frozen"
    detail = f"probe {percent_of(of_probe)}, {frozen} {percent_of(of_partial)}, full {percent_of(of_full)}"
    return Effect(share, len(of_full), detail)


def change_of_the_space(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return 1 - debiased CKA of the last layer between the pretrained and the fully fine-tuned encoder."""
    full = arm_of(arms, "full")
    tables, pooling = tables_of(sweep_dir, full, "geometry"), pooling_of(sweep_dir / full.runs[0])
    changes = np.array([1 - curve([table], "cka_debiased", pooling)["value"].iloc[-1] for table in tables])
    parts = {part: curve(tables, f"procrustes_{part}", pooling)["value"].iloc[-1] for part in PARTS}
    moved = ", ".join(f"{part} {100 * share / sum(parts.values()):.0f} %" for part, share in parts.items())
    return Effect(t_interval(changes), len(changes), f"of the distance that sentences moved: {moved}")


def top_over_bottom_change(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much more the upper half of the blocks changed than the lower half (1 - debiased CKA, means over layers)."""
    full = arm_of(arms, "full")
    pooling, halves = pooling_of(sweep_dir / full.runs[0]), []
    for table in tables_of(sweep_dir, full, "geometry"):
        change = 1 - curve([table], "cka_debiased", pooling)["value"].iloc[1:]
        half = len(change) // 2
        halves.append((change.iloc[-half:].mean(), change.iloc[:half].mean()))
    top, bottom = np.array(halves).T
    return Effect(t_interval(top - bottom), len(top), f"upper half {top.mean():.3f}, lower half {bottom.mean():.3f}")


def mean_over_cls(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much a probe on the last layer's mean beats one on its first token, of the encoder as pretrained."""
    probe = arm_of(arms, "frozen")
    runs = [sweep_dir / run for run in probe.runs]
    mean, first = (probe_correct(runs, probe.blocks, pooling) for pooling in ("mean", "cls"))
    if mean is None or first is None:
        raise FrostlineError("The probes' test predictions under mean and cls pooling are missing (measure=layers writes them).")
    detail = f"mean {percent_of(mean)}, cls {percent_of(first)}"
    for arm in arms:
        if arm.strategy == "full":
            tuned = [probe_correct([sweep_dir / run for run in arm.runs], arm.blocks, pooling) for pooling in ("mean", "cls")]
            if tuned[0] is not None and tuned[1] is not None:
                detail += f"; after full fine-tuning mean {percent_of(tuned[0])}, cls {percent_of(tuned[1])}"
    return Effect(paired_difference(mean, first), len(mean), detail)


def depth_of_meaning_over_form(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how many layers the tasks of meaning are centred above those of form (expected layer of the scalar mix)."""
    levels = [centres(table) for table in tables_of(sweep_dir, arm_of(arms, "frozen"), "layers")]
    if not all({"surface", "meaning"} <= found.keys() for found in levels):
        raise FrostlineError("Tasks of form and of meaning must both be measured (measure.layers.tasks).")
    gaps = np.array([found["meaning"] - found["surface"] for found in levels])
    surface, meaning = (float(np.mean([found[level] for found in levels])) for level in ("surface", "meaning"))
    return Effect(t_interval(gaps), len(gaps), f"meaning centred on layer {meaning:.2f}, form on layer {surface:.2f}")

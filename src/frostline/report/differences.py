"""How sure it is that one arm is better than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from frostline.measures.comparisons import aso, holm, mcnemar, seeds_needed, seeds_test
from frostline.measures.statistics import paired_difference
from frostline.report.arms import Arm, names, ranking
from frostline.report.scored import Scored


def reference_arm(arms: Sequence[Arm]) -> Arm:
    """Return what the others are compared with: the probe that is best on validation; without one, the best arm."""
    ranked = ranking(arms)
    return next((arm for arm in ranked if arm.strategy == "frozen"), ranked[0])


def differences(arms: Sequence[Arm], scored: dict[str, Scored]) -> pd.DataFrame:
    """Return how much each arm's test accuracy differs from the reference's, and how sure that is (methods notes, 9.1 and 9.2).

    Args:
        arms: from frozen to full.
        scored: test predictions by the arm's name; those of other sentences than the reference's are left out.

    Returns:
        ``arm``; ``reference``; ``difference`` of accuracies with the 95 % bootstrap interval over shared seeds and sentences;
        ``seeds``; ``p_seeds`` (t-test over seeds) and ``p_seeds_holm``, corrected for the number of arms; ``effect_size`` in
        standard deviations; ``aso``, at most 0.2 if the arm is the better one; ``p_mcnemar``, of the two models of the first
        shared seed; ``seeds_needed`` to see the observed difference with power 0.8. Empty where there are too few seeds.
    """
    told = dict(zip(arms, names(arms), strict=True))
    reference = reference_arm(arms)
    name = told[reference]
    if name not in scored:
        return pd.DataFrame()
    base = scored[name]
    rows = []
    for arm in arms:
        of = scored.get(told[arm])
        if arm is reference or of is None or not of.sentences[["index", "text"]].equals(base.sentences[["index", "text"]]):
            continue
        shared = [seed for seed in of.seeds if seed in base.seeds]
        if not shared:
            continue
        a, b = (side.correct[[side.seeds.index(seed) for seed in shared]] for side in (of, base))
        interval = paired_difference(a, b)
        row = {"arm": told[arm], "reference": name, "difference": interval.mean, "difference_low": interval.low}
        row |= {"difference_high": interval.high, "seeds": len(shared), "p_mcnemar": mcnemar(a[0], b[0]).p}
        if min(len(of.seeds), len(base.seeds)) > 1:
            row |= _over_seeds(of, base)
        rows.append(row)
    table = pd.DataFrame(rows)
    if "p_seeds" in table:
        tested = table["p_seeds"].notna()
        table.loc[tested, "p_seeds_holm"] = holm(table.loc[tested, "p_seeds"].tolist())
    return table


def _over_seeds(a: Scored, b: Scored) -> dict[str, float]:
    """Tests whose unit is the seed."""
    by_seed = [dict(zip(of.seeds, of.correct.mean(axis=1), strict=True)) for of in (a, b)]
    test = seeds_test(*by_seed)
    dominance = aso(a.correct.mean(axis=1), b.correct.mean(axis=1))
    found = {"p_seeds": test.p, "effect_size": test.effect_size, "aso": dominance}
    if test.difference.mean and np.isfinite(test.effect_size):
        sd = abs(test.difference.mean / test.effect_size)
        found["seeds_needed"] = seeds_needed(test.difference.mean, sd, is_paired=test.is_paired)
    return found

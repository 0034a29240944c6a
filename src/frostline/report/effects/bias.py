"""Effects on bias: what the encoder brings, and what fine-tuning makes of a skew in the data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, t_interval
from frostline.report.arms import Arm
from frostline.report.effects.evidence import Effect, difference, ends, runs_with, shared_seeds, statistic
from frostline.runs.measured import read_table
from frostline.runs.sweep import read_config, value_of
from frostline.words import read_words

GAP, OVER_BAYES = "balanced_rate_gap", "rate_gap_over_bayes"
GENDER = ("gender_career", "gender_maths", "gender_science", "professions")


def stereotypes_in_the_encoder(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return the mean effect size of the association tests with a social meaning, with Student's interval over tests.

    Raises:
        FrostlineError: a control did not come out, so that nothing can be said.
    """
    run = next((run for arm in arms for run in arm.runs), None)
    table = _table(sweep_dir, run, "association")
    single = table[table["layer"].isna()].set_index("statistic")["value"]
    if single.get("controls_passed", 0.0) < 1:
        raise FrostlineError(
            "The controls (flowers and insects …) did not come out, so the instrument is broken and nothing can be said."
        )
    tests = [name for name, given in read_words("associations").items() if not given["control"]]
    of = {name: float(single[f"{name}_effect_size"]) for name in tests if f"{name}_effect_size" in single}
    told = ", ".join(f"{name} {d:+.2f}" for name, d in of.items())
    return Effect(t_interval(np.array(list(of.values()))), 1, f"effect sizes: {told}; interval over tests")


def least_step_with_skew(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much the gap between groups rises from one skew to the next, where it rises least.

    Of all strategies and neighbouring skews the step with the lowest bound counts: only if every one is above 0 does the gap rise
    with the skew everywhere, so no correction for their number is needed.
    """
    skews = _values(arms, sweep_dir, "data.skew")
    if len(skews) < 2:
        raise FrostlineError("Runs with two values of data.skew are needed.")
    steps, told, seeds_seen = [], [], []
    for strategy in dict.fromkeys(arm.strategy for arm in arms):
        of = [runs_with([a for a in arms if a.strategy == strategy], sweep_dir, data__skew=skew) for skew in skews]
        seeds = shared_seeds(of)
        gaps = [statistic(sweep_dir, runs, "amplification", GAP, seeds) for runs in of]
        steps += [t_interval(after - before) for before, after in pairwise(gaps)]
        seeds_seen.append(len(seeds))
        told.append(f"{strategy} " + ", ".join(f"{gap.mean():+.3f}" for gap in gaps))
    least = min(steps, key=lambda step: step.low)
    at = ", ".join(f"{skew:g}" for skew in skews)
    return Effect(least, min(seeds_seen), f"gap at skew {at}: {'; '.join(told)}; the smallest of {len(steps)} steps")


def gap_with_scarcity(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much wider the gap between groups is with the fewest than with the most training sentences."""
    few, many = ends(arms, sweep_dir, "data.train_size")
    return _gap(arms, sweep_dir, {"data__train_size": few}, {"data__train_size": many})


def gap_with_annotation_bias(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much wider the gap is where one group's labels are wrong more often than with right labels."""
    none, most = ends(arms, sweep_dir, "data.label_noise")
    return _gap(arms, sweep_dir, {"data__label_noise": most}, {"data__label_noise": none})


def gap_with_imbalance(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much wider the gap is with a rare class than with classes of one size, the odds ratio held fixed."""
    balances = _values(arms, sweep_dir, "data.class_balance")
    if len(balances) < 2:
        raise FrostlineError("Runs with two values of data.class_balance are needed.")
    even, rare = min(balances, key=max), max(balances, key=max)
    return _gap(arms, sweep_dir, {"data__class_balance": list(rare)}, {"data__class_balance": list(even)})


def gap_of_full_over_frozen(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much further full fine-tuning's gap lies above what is rational at its accuracy than the probe's does."""
    full, frozen = {"strategy__name": "full"}, {"strategy__name": "frozen"}
    effect = difference(sweep_dir, arms, "amplification", OVER_BAYES, full, frozen, "gap over the Bayes curve")
    raw = difference(sweep_dir, arms, "amplification", GAP, full, frozen, "gap")
    return Effect(effect.interval, effect.seeds, f"{effect.detail}; {raw.detail}")


def upstream_downstream_correlation(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return the rank correlation, over layers and poolings, of the probed states' associations with gender and the probe's gap.

    The interval is bootstrapped over layers and poolings.
    """
    rows = []
    for run in (run for arm in arms for run in arm.runs):
        config, gap = read_config(sweep_dir / run), _table(sweep_dir, run, "counterfactual")
        association = _table(sweep_dir, run, "association")
        at = (association["layer"] == value_of(config, "strategy.layer")) & (
            association["pooling"] == value_of(config, "model.pooling")
        )
        sizes = association[at & association["statistic"].isin([f"{name}_effect_size" for name in GENDER])]["value"].abs()
        changes = gap[gap["statistic"] == "women_men.mean_change"]["value"].abs()
        if len(sizes) and len(changes):
            rows.append((sizes.mean(), changes.iloc[0]))
    if len(rows) < 8:
        raise FrostlineError(f"Only {len(rows)} probes were measured; a correlation needs at least 8.")
    table, random = np.array(rows), np.random.default_rng(0)

    def correlation(rows: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.nan_to_num(stats.spearmanr(*rows.T).statistic))

    draws = [correlation(table[random.integers(0, len(table), len(table))]) for _ in range(2000)]
    interval = Interval(correlation(table), *(float(bound) for bound in np.quantile(draws, [0.025, 0.975])))
    return Effect(interval, len({seed for arm in arms for seed in arm.seeds}), f"over {len(rows)} layers and poolings")


def misreading_of_dialect(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much a sentence's probability of the last class falls when it is rewritten with features of a dialect."""
    runs = runs_with(arms, sweep_dir)
    seeds = sorted(runs)
    changes = -statistic(sweep_dir, runs, "counterfactual", "dialect_mean_change", seeds)
    names = [f"dialect.{name}.mean_change" for name in read_words("dialect")]
    tables = pd.concat([_table(sweep_dir, runs[seed], "counterfactual") for seed in seeds])
    means = tables[tables["statistic"].isin(names)].groupby("statistic", sort=False)["value"].mean()
    told = ", ".join(f"{str(name).split('.')[1].replace('_', ' ')} {mean:+.3f}" for name, mean in means.items())
    return Effect(t_interval(changes), len(seeds), f"change of the probability: {told}")


# --- internals ------------------------------------------------------------------------------------------------------------


def _gap(arms: Sequence[Arm], sweep_dir: Path, a: dict[str, object], b: dict[str, object]) -> Effect:
    gap = difference(sweep_dir, arms, "amplification", GAP, a, b, "gap")
    rational = difference(sweep_dir, arms, "amplification", "bayes_rate_gap", a, b, "rational at its accuracy")
    return Effect(gap.interval, gap.seeds, f"{gap.detail}; {rational.detail}")


def _values(arms: Sequence[Arm], sweep_dir: Path, key: str) -> list:  # type: ignore[type-arg]
    """The different values of a key, in order."""
    values = [value_of(read_config(sweep_dir / run), key) for arm in arms for run in arm.tried]
    return sorted(
        {
            tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for value in values
            if value is not None
        }
    )


def _table(sweep_dir: Path, run: str | None, measure: str) -> pd.DataFrame:
    path = sweep_dir / str(run) / "measures" / f"{measure}.csv"
    if run is None or not path.is_file():
        raise FrostlineError(f"'{path}' is missing; frostline measure run='{sweep_dir}' measure={measure} makes it.")
    return read_table(path)

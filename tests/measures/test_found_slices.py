"""Slices that are found: planted ones, those of random errors, and their names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from frostline.measures.found_slices import COLUMNS, found_slices, slice_features


def features(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "words": random.integers(1, 31, n),
            "negation": random.random(n) < 0.3,
            "label": random.choice(["bad", "good"], n),
            "source": random.choice(["news", "web", "mail"], n),
            "confidence": random.uniform(0.5, 1, n),
        }
    )


def test_a_planted_slice_is_found_and_named() -> None:
    of, random = features(3000), np.random.default_rng(1)
    planted = (of["words"] > 18) & of["negation"]
    found = found_slices(of, random.random(3000) < np.where(planted, 0.5, 0.1))
    assert list(found) == COLUMNS
    best = found.iloc[0]
    assert set(best["slice"].split(" and ")) == {"words > 18", "negation"}
    assert best["confirmed"] and best["low"] < 0.5 < best["high"] and best["error_rate_of_rest"] == pytest.approx(0.1, abs=0.03)


def test_the_other_half_alone_confirms() -> None:
    of, random = features(1000), np.random.default_rng(2)
    wrong = random.random(1000) < np.where(of["negation"], 0.3, 0.18)
    best = found_slices(of, wrong, seed=5, depth=1).iloc[0]
    half = np.random.default_rng(5).permutation(1000)[500:]
    inside, errors = of["negation"].to_numpy()[half], wrong[half]
    assert best["slice"] == "negation"
    assert (best["n"], best["error_rate"]) == (inside.sum(), errors[inside].mean())
    table = pd.crosstab(~inside, ~errors).to_numpy()
    assert best["p"] == pytest.approx(stats.hypergeom.sf(table[0, 0] - 1, 500, errors.sum(), inside.sum()))


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (lambda of: of["label"] == "good", {"label = good", "label is not bad"}),
        (lambda of: of["source"] != "web", {"source is not web"}),
        (lambda of: ~of["negation"], {"without negation"}),
        (lambda of: of["words"] <= 12, {"words <= 12"}),
        (lambda of: of["confidence"] <= 0.75, {"confidence <= 0.75", "confidence <= 0.749", "confidence <= 0.751"}),
    ],
)
def test_slices_in_words(where, names: set[str]) -> None:  # type: ignore[no-untyped-def]
    of, random = features(4000), np.random.default_rng(3)
    wrong = random.random(4000) < np.where(where(of), 0.6, 0.05)
    assert found_slices(of, wrong, depth=1).iloc[0]["slice"] in names


def test_random_errors_seldom_confirm_a_slice() -> None:
    random, suggested, confirmed = np.random.default_rng(4), [], []
    of = features(800)
    for seed in range(300):
        found = found_slices(of, random.random(800) < 0.2, seed)
        suggested.append(len(found) > 0)
        confirmed.append(found["confirmed"].any())
    assert np.mean(suggested) > 0.9, "the tree always suggests something: a test that cannot fail shows nothing"
    assert np.mean(confirmed) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_little_is_no_ground_to_look_for_slices() -> None:
    of = features(200)
    wrong = np.arange(200) % 5 == 0
    assert found_slices(of[:100], wrong[:100]).empty
    assert found_slices(of, np.zeros(200, dtype=bool)).empty
    assert found_slices(of[[]], wrong).empty
    assert (found_slices(of, wrong)["n"] >= 30).all()
    with pytest.raises(ValueError, match="same sentences"):
        found_slices(of, wrong[1:])


def test_columns_with_missing_values_are_not_looked_at() -> None:
    of = features(1000)
    wrong = of["words"].to_numpy() > 20
    found = found_slices(of.assign(words=of["words"].where(of["words"] != 3)), wrong)
    assert not found["slice"].str.contains("words").any()


def test_features_are_what_slices_are_made_of() -> None:
    n = 120
    sentences = pd.DataFrame(
        {
            "text": ["a b c not"] * n,
            "rating": -2.5,
            "unknown_words": 0.25,
            "label": np.arange(n) % 2,
            "age": np.arange(n) / 1.5,
            "source": np.repeat(["web", "rare"], [n - 10, 10]),
            "judgements": [[1]] * n,
        }
    )
    found = slice_features(sentences, np.full(n, 0.9))
    assert set(found) == {
        *("words", "negation", "contrast", "question", "exclamation", "strength of rating", "share of unknown words"),
        *("age", "source = web", "label", "confidence"),
    }
    assert found["words"].eq(4).all() and found["negation"].all() and found["strength of rating"].eq(2.5).all()
    assert found["label"].tolist() == [str(i % 2) for i in range(n)]

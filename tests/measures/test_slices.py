"""Declared slices on sentences that can be read, their scores by closed forms, coverage and false alarms."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from frostline.measures.slices import declared_slices, slice_scores, wording

TEXTS = {
    "It is not good.": {"negation"},
    "It isn't good, is it?": {"negation", "question"},
    "it is n't good": {"negation"},
    "We can’t say": {"negation"},
    "NEVER again!": {"negation", "exclamation"},
    "A notable knot of nobles": set(),
    "Slow, but lovely": {"contrast"},
    "However slow , lovely": {"contrast"},
    "A butter tribute": set(),
    "Without plot": {"negation"},
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_what_a_sentence_says(text: str, expected: set[str]) -> None:
    found = wording(pd.DataFrame({"text": [text]}))
    assert {name for name, of in found.items() if of[0]} == expected


def test_both_texts_of_a_pair_are_read() -> None:
    pair = pd.DataFrame({"text": ["a b c", "a", "a b"], "text_pair": ["no", "b", "c d e f"]})
    slices = declared_slices(pair, length_bounds=(3, 5))
    assert slices["negation"].tolist() == [True, False, False]
    assert slices["short (up to 3 words)"].tolist() == [False, True, False]
    assert slices["medium (4 to 5 words)"].tolist() == [True, False, False]
    assert slices["long (over 5 words)"].tolist() == [False, False, True]


def test_slices_of_columns() -> None:
    random = np.random.default_rng(0)
    n = 300
    sentences = pd.DataFrame(
        {
            "text": [" ".join(["word"] * (1 + i % 30)) for i in range(n)],
            "label": 1,
            "logit_good": random.normal(size=n),
            "judgements": [[1, 2]] * n,
            "rating": np.linspace(-4, 4, n),
            "unknown_words": np.where(np.arange(n) < 40, 0.2, 0.1),
            "source": np.repeat(["web", "news", "rare", None], [150, 100, 29, 21]),
            "stars": np.arange(n) % 3,
            "age": np.arange(n) / 2.0,
            "same": "all",
        },
        index=np.arange(n) + 7,
    )
    slices = declared_slices(sentences)
    assert slices.index.equals(sentences.index) and set(slices.dtypes) == {np.dtype(bool)}
    assert set(slices) == {
        *("short (up to 10 words)", "medium (11 to 20 words)", "long (over 20 words)"),
        *("weak rating (|r| < 1)", "strong rating (|r| > 2)", "many unknown words (> 10 %)"),
        *("source = web", "source = news", "stars = 0", "stars = 1", "stars = 2"),
        *("age <= 49.5", "49.5 < age <= 99.5", "age > 99.5"),
    }
    assert slices["source = web"].sum() == 150 and slices["many unknown words (> 10 %)"].sum() == 40
    assert slices["strong rating (|r| > 2)"].equals(sentences["rating"].abs() > 2)
    thirds = slices[[name for name in slices if "age" in name]]
    assert thirds.shape[1] == 3 and (thirds.sum(axis=1) == 1).all() and thirds.sum().between(98, 102).all()


def test_scores_of_a_slice_are_near_the_textbook_s() -> None:
    correct, inside = np.zeros((1, 2000), dtype=bool), np.arange(2000) < 500
    correct[0, :350] = correct[0, 500:1700] = True  # 70 % of 500, 80 % of 1,500
    row = slice_scores(correct, pd.DataFrame({"a": inside})).iloc[0]
    assert (row["n"], row["accuracy"], row["difference"]) == (500, 0.7, pytest.approx(-0.1))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 500)
    assert (row["low"], row["high"]) == pytest.approx((0.7 - half, 0.7 + half), abs=0.004)
    se = np.sqrt(0.7 * 0.3 / 500 + 0.8 * 0.2 / 1500)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((-0.1 - 1.96 * se, -0.1 + 1.96 * se), abs=0.005)
    assert row["p"] == pytest.approx(2 * NormalDist().cdf(-0.1 / se), abs=1e-3) and row["p"] > 0
    assert row["p_holm"] == row["p"], "a family of one"


def test_small_slices_have_a_count_and_no_number_and_take_no_part_in_the_correction() -> None:
    random = np.random.default_rng(1)
    correct = random.random((2, 200)) < 0.8
    rows = np.arange(200)
    slices = pd.DataFrame({"few": rows < 29, "enough": rows < 30, "most": rows < 171, "half": rows < 100})
    table = slice_scores(correct, slices).set_index("slice")
    assert table["n"].tolist() == [29, 30, 171, 100]
    assert table.loc["few"].drop("n").isna().all() and table.loc["enough"].notna().all()
    assert table.loc["most", ["accuracy", "low", "high"]].notna().all() and np.isnan(table.loc["most", "difference"])
    ps = table.loc[["enough", "half"], "p"]
    assert table["p_holm"].min() == pytest.approx(min(1, 2 * ps.min()))
    assert slice_scores(correct, slices[[]]).empty
    with pytest.raises(ValueError, match="same sentences"):
        slice_scores(correct[:, 1:], slices)


def test_thirty_right_sentences_do_not_differ_from_97_percent() -> None:
    correct = np.arange(1000)[None] < 970
    row = slice_scores(correct, pd.DataFrame({"lucky": np.arange(1000) < 30})).iloc[0]
    assert row["accuracy"] == 1 and row["low"] < 0.95 and row["p"] > 0.3


@pytest.mark.parametrize(("seeds", "accuracy", "size"), [(1, 0.8, 40), (3, 0.8, 100), (1, 0.97, 60)])
def test_slices_that_mean_nothing_are_seldom_called_different_and_intervals_cover(seeds: int, accuracy: float, size: int) -> None:
    random = np.random.default_rng(2)
    inside = pd.DataFrame({"none": np.arange(600) < size})
    rejected, covered = [], []
    for i in range(250):
        hard = 0.8 * random.normal(size=600) + 0.6 * random.normal(size=(seeds, 600))  # the same sentences are hard for all seeds
        row = slice_scores(hard < NormalDist().inv_cdf(accuracy), inside, 500, i).iloc[0]
        rejected.append(row["p"] < 0.05)
        covered.append(row["low"] <= accuracy <= row["high"])
        assert (row["p"] < 0.04) <= (not row["difference_low"] <= 0 <= row["difference_high"]), "p and interval agree"
    assert np.mean(rejected) <= 0.09
    assert np.mean(covered) >= 0.91

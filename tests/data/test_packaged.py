"""The rated sentences: all of them, with labels that follow the rule."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from frostline.data.packaged import SOURCES, read_packaged
from frostline.errors import FrostlineError
from frostline.schema import PackagedData

SENTENCES = {"movie_reviews": 10_605, "amazon_reviews": 3_708, "news_editorials": 5_190, "tweets": 4_200}
DISAGREE = {"tweets": 199}  # published means that are not the mean of the published judgements


def config(name: str, min_abs_rating: float = 0.5) -> PackagedData:
    return PackagedData("packaged", 32, None, 128, None, 0.1, 0.2, 0, False, name=name, min_abs_rating=min_abs_rating)


@pytest.mark.parametrize("name", SOURCES)
def test_every_sentence_is_kept_or_counted(name: str, cache_dir: Path) -> None:
    raw = read_packaged(config(name), cache_dir)
    assert len(raw.splits["train"]) + raw.notes["dropped_weak_ratings"] == SENTENCES[name]
    assert all(raw.splits["train"]["text"])
    assert raw.class_names == ["negative", "positive"]


@pytest.mark.parametrize("name", SOURCES)
def test_labels_follow_the_rating(name: str, cache_dir: Path) -> None:
    rows = read_packaged(config(name), cache_dir).splits["train"]
    assert all((label == "positive") == (rating > 0) for label, rating in zip(rows["label"], rows["rating"], strict=True))
    assert min(map(abs, rows["rating"])) >= 0.5


def test_ratings_near_zero_are_dropped_and_counted(cache_dir: Path) -> None:
    dropped = [read_packaged(config("tweets", least), cache_dir).notes["dropped_weak_ratings"] for least in (0, 0.5, 2)]
    assert dropped[0] == 4  # rated exactly 0: no label fits
    assert dropped == sorted(set(dropped))


@pytest.mark.parametrize("name", SOURCES)
def test_judgements_are_those_of_the_sentence(name: str, cache_dir: Path) -> None:
    rows = read_packaged(config(name, 0), cache_dir).splits["train"]
    pairs = zip(rows["rating"], rows["judgements"], strict=True)
    assert sum(abs(rating - mean(single)) > 1e-3 for rating, single in pairs) == DISAGREE.get(name, 0)


def test_only_documents_are_groups(cache_dir: Path) -> None:
    raw = read_packaged(config("news_editorials", 0), cache_dir)
    assert raw.group_column == "document"
    assert len(set(raw.splits["train"]["document"])) > 400
    tweets = read_packaged(config("tweets"), cache_dir)
    assert tweets.group_column is None
    assert "document" not in tweets.splits["train"].column_names


def test_texts_are_left_as_published(cache_dir: Path) -> None:
    texts = list(read_packaged(config("tweets", 0), cache_dir).splits["train"]["text"])
    assert any("&amp;" in text for text in texts)
    assert not any(text.endswith("\r") for text in texts)


def test_an_unknown_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match=r"no packaged data set 'movie_review', only .*did you mean 'movie_reviews'"):
        read_packaged(config("movie_review"), tmp_path)

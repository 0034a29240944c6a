"""The rated sentences: all of them, with labels that follow the rule."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from frostline.data.assets import ASSETS, fetch
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


@pytest.mark.parametrize("name", SOURCES)
def test_the_judges_spread_is_the_published_one(name: str, cache_dir: Path) -> None:
    """The third cell of a line of ratings, to its five decimals; and numpy's."""
    rows = read_packaged(config(name), cache_dir).splits["train"]
    file = fetch("rated_sentiment", cache_dir) / f"{SOURCES[name][0]}_anonDataRatings.txt"
    published = {tuple(map(int, cells[3].strip("[]\r").split(","))): float(cells[2]) for cells in lines_of(file)}
    expected = [published[tuple(single)] for single in rows["judgements"]]
    np.testing.assert_allclose(rows["rating_sd"], expected, atol=1e-5)
    np.testing.assert_allclose(rows["rating_sd"], [np.std(single) for single in rows["judgements"]], atol=1e-12)


def lines_of(file: Path) -> list[list[str]]:
    return [line.split("\t") for line in file.read_text("utf-8-sig").split("\n") if line]


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("anonDataRatings", "2\t3.5\t0.7\t[4, 4", "line 2 has no list of ratings"),
        ("anonDataRatings", "2\t3.5\t0.7\t4, 4", "line 2 has no list of ratings"),
        ("anonDataRatings", "2\t3.5\t0.7\t[]", "line 2 has no list of ratings"),
        ("anonDataRatings", '2\t3.5\t0.7\t["x"]', "line 2 has no list of ratings"),
        ("anonDataRatings", "2\t3.5", "line 2 does not have 4 cells"),
        ("anonDataRatings", "", "it lacks the ratings of sentence 2"),
        ("GroundTruth", "2\tx\tA text.", "line 2 has no rating"),
        ("GroundTruth", "2", "line 2 does not have 3 cells"),
        ("GroundTruth", None, "it is missing"),
    ],
)
def test_damage_is_told_with_its_line(kind: str, line: str | None, said: str, cache_dir: Path, tmp_path: Path) -> None:
    folder = fetch("rated_sentiment", cache_dir)
    copy = shutil.copytree(folder, tmp_path / "assets" / f"rated_sentiment-{ASSETS['rated_sentiment'].sha256[:12]}")
    file = copy / f"movieReviewSnippets_{kind}.txt"
    lines = file.read_text("utf-8").split("\n")
    file.unlink()
    if line is not None:
        file.write_text("\n".join([lines[0], line, *lines[2:]]), "utf-8")
    with pytest.raises(FrostlineError) as error:
        read_packaged(config("movie_reviews"), tmp_path)
    assert str(error.value) == f"'{file}' is damaged: {said}; remove its folder, and the archive is fetched again."


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

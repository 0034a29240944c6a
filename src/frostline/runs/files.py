"""The one place that writes files: to a temporary name, then renamed, so that a reader never sees half a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from frostline.errors import FrostlineError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and rename it to ``path`` if the block succeeds.

    What was written is on the platter before the name is: a power cut leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file)
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


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let one process at a time into the block, of those that name the same ``lock``; the others wait. Leaves no file behind."""
    with FileLock(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


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
    """Write a whole Parquet file, in which a byte that changes later is noticed."""
    with replace_atomically(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_trouble(error: Exception, folders: list[Path]) -> FrostlineError | None:
    """Return the sentence for an error of a full or read-only disk; libraries hide a full one behind errors of their own.

    Args:
        error: whatever happened.
        folders: where is written, as far as known.
    """
    if isinstance(error, FrostlineError):
        return None
    number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    at = Path(name).absolute() if isinstance(name, str) else None
    move = "move the output with paths.output_dir=… (or hydra.run.dir=…) and the cache with paths.cache_dir=…."
    ours = at is not None and (not folders or any(at.is_relative_to(f.absolute()) for f in folders))
    if ours and number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
        return FrostlineError(f"'{at}' cannot be written to ({os.strerror(number)}): {move}")
    full = [f for f in folders if f.exists() and shutil.disk_usage(f).free < 1_000_000]
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        where = (full or ([] if at is None else [at.parent]) or folders or [Path.cwd()])[0]
        return FrostlineError(f"No space left on the disk of '{where}': free some, or {move}")
    return None

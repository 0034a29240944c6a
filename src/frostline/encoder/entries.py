"""What the activation cache has on disk: its entries, and whether they are whole.

``<cache_dir>/activations/<encoder_key>/<name>/`` is one entry: a manifest, and the shards (:mod:`frostline.encoder.shards`)
that it lists; a file that it does not list does not exist for a reader. Nothing is flushed to the platter: what a power cut
leaves behind has the wrong checksum.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from frostline.encoder.shards import Entry, Shard
from frostline.errors import FrostlineError
from frostline.runs.files import write_json

log = logging.getLogger(__name__)
FORMAT = 1  # of manifests: raise it when their content changes
MANIFEST, FOLDER = "manifest.json", "activations"
PATIENCE = 2.0  # seconds of waiting for another process before it is told


@dataclass(frozen=True)
class ShardInfo:
    """What a manifest says of one shard; ``bytes`` and ``checksum`` are those of its file."""

    file: str
    sentences: int
    rows: int
    bytes: int
    checksum: str


@dataclass(frozen=True)
class EntryInfo:
    """One entry as its folder shows it; what follows ``state`` says something of a ``whole`` one only.

    Attributes:
        folder: ``<encoder_key>/<name>`` in the cache.
        bytes: of all files in the folder.
        used: when it was last opened.
        state: ``whole``, ``damaged`` (its manifest), or ``unfinished``: not written yet, or its writer was killed.
    """

    folder: Path
    encoder_key: str
    name: str
    bytes: int
    used: datetime
    state: str = "unfinished"
    created: datetime = datetime.min
    describes: dict[str, Any] = field(default_factory=dict)
    dtype: str = ""
    shards: list[ShardInfo] = field(default_factory=list)
    sentences: int = 0
    rows: int = 0


def entries(cache_dir: Path) -> list[EntryInfo]:
    """Return all entries of a cache on disk, whatever state they are in."""
    return [info for folder in sorted((cache_dir / FOLDER).glob("*/*")) if (info := read_entry(folder))]


def verify(cache_dir: Path) -> list[str]:
    """Read every shard again and return what is damaged, a sentence each; removes nothing."""
    found = []
    for info in entries(cache_dir):
        if info.state == "damaged":
            found.append(f"'{info.folder / MANIFEST}' is damaged: it is not a manifest of format {FORMAT}.")
        for shard in info.shards:
            damage = _damage(info.folder, shard, again=True)
            if damage and (now := read_entry(info.folder)) and shard in now.shards:  # else it was deleted meanwhile
                found.append(f"'{info.folder / shard.file}' is damaged: {damage}.")
    return found


def clear(cache_dir: Path, encoder_key: str | None = None, unused_days: float | None = None) -> int:
    """Delete entries, and return how many bytes that freed; waits for processes that hold an encoder's lock.

    Args:
        cache_dir: of the cache.
        encoder_key: only this encoder's.
        unused_days: only what was last used so many days ago.
    """

    def is_chosen(info: EntryInfo) -> bool:
        days = (datetime.now(UTC) - info.used).total_seconds() / 86_400
        return encoder_key in (None, info.encoder_key) and (unused_days is None or days > unused_days)

    freed = 0
    for key in sorted({info.encoder_key for info in entries(cache_dir) if is_chosen(info)}):
        with locked(cache_dir / FOLDER, key):
            for info in entries(cache_dir):
                if info.encoder_key == key and is_chosen(info):
                    delete_entry(info.folder)
                    freed += info.bytes
    return freed


# --- one entry, for the store ------------------------------------------------------------------------------------------

_VERIFIED: set[tuple[Path, int, int]] = set()  # what this process has found whole: file, mtime_ns, size
_OPENED: dict[Path, tuple[list[ShardInfo], Entry]] = {}


@contextmanager
def locked(root: Path, encoder_key: str) -> Iterator[None]:
    """Keep all other processes from an encoder's entries below ``root``; waits for the one that does so now.

    Raises:
        FrostlineError: the cache cannot be written to.
    """
    lock = lock_of(root, encoder_key)
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            log.info("Another process is computing activations of this encoder; this one waits for it.")
            lock.acquire()
    except OSError as error:
        raise FrostlineError(
            f"The cache '{root}' cannot be written to ({error.strerror or error}); move it with paths.cache_dir=…."
        ) from None
    try:
        yield
    finally:
        lock.release()


def lock_of(root: Path, encoder_key: str) -> FileLock:
    """Return the lock of an encoder's entries."""
    return FileLock(root / f"{encoder_key}.lock")


def read_entry(folder: Path) -> EntryInfo | None:
    """Return what is in a folder, None if there is no such folder; other processes may write there at the same time."""
    path, size = folder / MANIFEST, 0
    try:
        used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                size += file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    info = EntryInfo(folder, folder.parent.name, folder.name, size, used)
    try:
        info = replace(info, used=datetime.fromtimestamp(path.stat().st_mtime, UTC))
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        shards = [ShardInfo(**shard) for shard in content["shards"]]
        if any(Path(shard.file).name != shard.file for shard in shards):  # a damaged shard is deleted: never one elsewhere
            raise ValueError("a shard lies elsewhere")
        return replace(
            info,
            state="whole",
            created=datetime.fromisoformat(content["created"]),
            describes=dict(content["describes"]),
            dtype=content["dtype"],
            shards=shards,
            sentences=sum(shard.sentences for shard in shards),
            rows=sum(shard.rows for shard in shards),
        )
    except FileNotFoundError:
        return info
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return replace(info, state="damaged")


def open_entry(folder: Path) -> Entry:
    """Map the whole shards of an entry whose lock is held, none if it does not exist; what is damaged is deleted.

    Every shard is verified, and mapped, once per process.
    """
    info = read_entry(folder)
    if info is None or info.state == "unfinished":
        return Entry()
    if info.state == "damaged":
        log.warning("'%s' is damaged; its sentences are computed again.", folder / MANIFEST)
        delete_entry(folder)
        return Entry()
    whole = [shard for shard in info.shards if _damage(folder, shard) is None]
    if len(whole) < len(info.shards):
        write_manifest(folder, info.describes, info.dtype, info.created, whole)
        for shard in info.shards:
            if shard not in whole:
                log.warning("'%s' is damaged; its sentences are computed again.", folder / shard.file)
                (folder / shard.file).unlink(missing_ok=True)
    os.utime(folder / MANIFEST)
    if folder not in _OPENED or _OPENED[folder][0] != whole:
        mapped = [np.memmap(folder / shard.file, np.uint8, "r").view(np.ndarray) for shard in whole]
        _OPENED[folder] = whole, Entry([Shard(content) for content in mapped])
    return _OPENED[folder][1]


def finish_shard(part: Path, path: Path, sentences: int, rows: int) -> ShardInfo:
    """Rename a written file to ``path``, and return what the manifest says of it; this process need not verify it again."""
    shard = ShardInfo(path.name, sentences, rows, part.stat().st_size, _checksum(part))
    part.rename(path)
    _VERIFIED.add(_seen(path))
    return shard


def write_manifest(folder: Path, describes: dict[str, Any], dtype: str, created: datetime, shards: list[ShardInfo]) -> None:
    """Write an entry's manifest, which makes the shards that it lists exist for readers."""
    content = {"describes": describes, "dtype": dtype, "created": created.isoformat(timespec="seconds")}
    write_json(folder / MANIFEST, {"format": FORMAT, **content, "shards": [asdict(shard) for shard in shards]})


def delete_entry(folder: Path) -> None:
    """Delete an entry whose lock is held; the manifest first, so that a process killed here leaves nothing damaged."""
    _OPENED.pop(folder, None)
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the encoder has other entries
        folder.parent.rmdir()


def _damage(folder: Path, shard: ShardInfo, again: bool = False) -> str | None:
    """Return what is wrong with a shard's file, if anything; what this process found whole is read only if asked to ``again``."""
    path = folder / shard.file
    try:
        seen = _seen(path)
        if seen[2] != shard.bytes:
            return f"it has {seen[2]} bytes instead of {shard.bytes}"
        if (again or seen not in _VERIFIED) and _checksum(path) != shard.checksum:
            return "its content is not what was written"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    _VERIFIED.add(seen)
    return None


def _seen(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(4_000_000):
            digest.update(chunk)
    return digest.hexdigest()

"""The activation cache: rows of numbers per sentence, computed once and shared by processes, on disk or in memory.

``<cache_dir>/activations/<encoder_key>/<name>/`` is one entry: a manifest, and the shards (:mod:`frostline.encoder.shards`)
that it lists; a file that it does not list does not exist for a reader. Nothing is flushed to the platter: what a power cut
leaves behind has the wrong checksum.
"""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from frostline.encoder.shards import Entry, Shard, Writer
from frostline.errors import FrostlineError
from frostline.runs.files import write_json
from frostline.sizes import readable_size

__all__ = ["Entry", "EntryInfo", "NoRoom", "Store", "Writer", "clear", "entries", "verify"]
log = logging.getLogger(__name__)
FORMAT = 1  # of manifests: raise it when their content changes
MANIFEST, FOLDER = "manifest.json", "activations"
SPARE_BYTES = 100_000_000  # what writing leaves free on the disk
PATIENCE = 2.0  # seconds of waiting for another process before it is told


class NoRoom(FrostlineError):  # noqa: N818, the name says it
    """The disk, or ``cache.max_size``, has no room for what is to be written."""


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


class Store:
    """All entries of a cache.

    Args:
        cache_dir: entries are kept in its folder ``activations``; None keeps them in memory, for this process alone.
        max_bytes: how large all entries together may become; None for no limit.
    """

    def __init__(self, cache_dir: Path | None, max_bytes: int | None = None):
        self._root = None if cache_dir is None else cache_dir / FOLDER
        self._max_bytes = max_bytes
        self._locked: set[str] = set()
        self._promised = 0  # bytes of all writers at work

    @contextmanager
    def lock(self, encoder_key: str) -> Iterator[None]:
        """Keep all other processes from an encoder's entries; waits for the one that does so now.

        Raises:
            FrostlineError: the cache cannot be written to.
        """
        if self._root is None:
            yield
            return
        lock = self._lock(encoder_key)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                log.info("Another process is computing activations of this encoder; this one waits for it.")
                lock.acquire()
        except OSError as error:
            raise FrostlineError(
                f"The cache '{self._root}' cannot be written to ({error.strerror or error}); move it with paths.cache_dir=…."
            ) from None
        self._locked.add(encoder_key)
        try:
            yield
        finally:
            self._locked.remove(encoder_key)
            lock.release()

    def open(self, encoder_key: str, name: str) -> Entry:
        """Open an entry, empty if it does not exist; the caller holds the lock. Damaged shards are deleted.

        Every shard is verified once per process.
        """
        if self._root is None:
            if (encoder_key, name) not in _IN_MEMORY:
                return Entry()
            entry = _IN_MEMORY[encoder_key, name] = _IN_MEMORY.pop((encoder_key, name))  # now the last one: last used
            return entry
        folder = self._root / encoder_key / name
        info = _read(folder)
        if info is None or info.state == "unfinished":
            return Entry()
        if info.state == "damaged":
            log.warning("'%s' is damaged; its sentences are computed again.", folder / MANIFEST)
            _delete(folder)
            return Entry()
        whole = [shard for shard in info.shards if _damage(folder, shard) is None]
        if len(whole) < len(info.shards):
            _write_manifest(folder, info.describes, info.dtype, info.created, whole)
            for shard in info.shards:
                if shard not in whole:
                    log.warning("'%s' is damaged; its sentences are computed again.", folder / shard.file)
                    (folder / shard.file).unlink(missing_ok=True)
        os.utime(folder / MANIFEST)
        if folder not in _OPENED or _OPENED[folder][0] != whole:
            mapped = [np.memmap(folder / shard.file, np.uint8, "r").view(np.ndarray) for shard in whole]
            _OPENED[folder] = whole, Entry([Shard(content) for content in mapped])
        return _OPENED[folder][1]

    @contextmanager
    def writing(
        self,
        encoder_key: str,
        name: str,
        describes: dict[str, Any],
        dtype: str,
        widths: dict[str, int],
        sentences: int,
        rows: int,
        keep: Collection[tuple[str, str]] = (),
    ) -> Iterator[Writer]:
        """Add sentences to an entry; the caller holds the lock. They are there once the block has succeeded.

        The least recently used entries make room for them.

        Args:
            encoder_key: of the encoder.
            name: of the entry.
            describes: what the entry is, for people.
            dtype: ``fp32`` or ``fp16``.
            widths: of each value tensor, by its name; the same for all shards of an entry.
            sentences: how many will be added, at least 1.
            rows: of all of them together.
            keep: encoder key and name of entries that may not be deleted for it.

        Raises:
            NoRoom: before anything is written, or when the disk becomes full.
            ValueError: not all of them were added.
        """
        writer, keep = Writer(dtype, widths, sentences, rows), {*keep, (encoder_key, name)}
        if self._root is None:
            before = _IN_MEMORY.get((encoder_key, name), Entry())
            with self._promise(writer.nbytes, keep):
                memory = mmap.mmap(-1, writer.nbytes)
                writer.begin(memory)
                yield writer
                writer.end()
                content = np.frombuffer(memory, np.uint8)
                content.flags.writeable = False
                _IN_MEMORY[encoder_key, name] = Entry([*before.shards, Shard(content)])
            return
        folder = self._root / encoder_key / name
        info = _read(folder)
        shards = info.shards if info else []
        if info:
            for leftover in {*folder.iterdir()} - {folder / shard.file for shard in shards} - {folder / MANIFEST}:
                leftover.unlink()  # of a killed process
        path = folder / f"{len(shards)}-{secrets.token_hex(4)}.safetensors"
        part = path.with_suffix(".part")
        with self._promise(writer.nbytes, keep):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    writer.begin(file)
                    yield writer
                writer.end()
                shard = ShardInfo(path.name, sentences, rows, writer.nbytes, _checksum(part))
                part.rename(path)
                _VERIFIED.add(_seen(path))
                created = info.created if info and info.state == "whole" else datetime.now(UTC)
                _write_manifest(folder, describes, dtype, created, [*shards, shard])
            except BaseException as error:
                part.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                with suppress(OSError):  # there are other shards, or other entries
                    folder.rmdir()
                    folder.parent.rmdir()
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise self._disk_full(writer.nbytes, f" ({error.strerror})") from None
                raise

    def forget(self, encoder_key: str) -> None:
        """Drop an encoder's entries from memory; what is on disk stays."""
        for key in [key for key in _IN_MEMORY if key[0] == encoder_key]:
            del _IN_MEMORY[key]

    def evict(self, keep: Collection[tuple[str, str]], room: int = 0) -> None:
        """Delete the least recently used entries until the rest, and ``room`` more bytes, are within ``max_bytes``.

        Args:
            keep: encoder key and name of entries that stay; those of an encoder that another process has locked stay, too.
            room: bytes that will be written.
        """
        sizes = self._sizes()
        total = sum(sizes.values()) + room
        for key, size in sizes.items():
            if self._max_bytes is not None and total > self._max_bytes and key not in keep and self._evict(*key):
                total -= size

    def _sizes(self) -> dict[tuple[str, str], int]:
        """Return the bytes of every entry, the least recently used first."""
        if self._root is None:
            return {key: entry.nbytes for key, entry in _IN_MEMORY.items()}
        found = sorted(_entries(self._root), key=lambda info: info.used)
        return {(info.encoder_key, info.name): info.bytes for info in found}

    def _evict(self, encoder_key: str, name: str) -> bool:
        if self._root is None:
            del _IN_MEMORY[encoder_key, name]
            return True
        try:
            with nullcontext() if encoder_key in self._locked else self._lock(encoder_key).acquire(timeout=0):
                _delete(self._root / encoder_key / name)
        except Timeout:
            return False
        return True

    def _lock(self, encoder_key: str) -> FileLock:
        assert self._root is not None
        return FileLock(self._root / f"{encoder_key}.lock")

    @contextmanager
    def _promise(self, needed: int, keep: Collection[tuple[str, str]]) -> Iterator[None]:
        """Make room for ``needed`` bytes, beside those of other writers at work and of the entries to ``keep``."""
        held = sum(size for key, size in self._sizes().items() if key in keep)
        if self._max_bytes is not None and held + needed + self._promised > self._max_bytes:
            beside = f" beside the {readable_size(held + self._promised)} of others" if held + self._promised else ""
            clear_it = " or delete the others with frostline cache do=clear" if held and self._root else ""
            raise NoRoom(
                f"The activations need {readable_size(needed)}{beside}, but cache.max_size is {readable_size(self._max_bytes)} "
                f"for '{self._root or 'memory'}'; raise it with cache.max_size=…{clear_it}."
            )
        if self._root is not None and _free(self._root) < needed + self._promised + SPARE_BYTES:
            raise self._disk_full(needed + self._promised)
        self._promised += needed
        try:
            self.evict(keep, room=self._promised)
            yield
        finally:
            self._promised -= needed

    def _disk_full(self, needed: int, reason: str = "") -> NoRoom:
        assert self._root is not None
        return NoRoom(
            f"The activations need {readable_size(needed)} and the disk of '{self._root}' has {readable_size(_free(self._root))} "
            f"free{reason}; free some (frostline cache do=clear), or move the cache with paths.cache_dir=…."
        )


def entries(cache_dir: Path) -> list[EntryInfo]:
    """Return all entries of a cache on disk, whatever state they are in."""
    return _entries(cache_dir / FOLDER)


def verify(cache_dir: Path) -> list[str]:
    """Read every shard again and return what is damaged, a sentence each; removes nothing."""
    found = []
    for info in entries(cache_dir):
        if info.state == "damaged":
            found.append(f"'{info.folder / MANIFEST}' is damaged: it is not a manifest of format {FORMAT}.")
        for shard in info.shards:
            damage = _damage(info.folder, shard, again=True)
            if damage and (now := _read(info.folder)) and shard in now.shards:  # else it was deleted meanwhile
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

    freed, store = 0, Store(cache_dir)
    for key in sorted({info.encoder_key for info in entries(cache_dir) if is_chosen(info)}):
        with store.lock(key):
            for info in entries(cache_dir):
                if info.encoder_key == key and is_chosen(info):
                    _delete(info.folder)
                    freed += info.bytes
    return freed


# --- internals ---------------------------------------------------------------------------------------------------------

_VERIFIED: set[tuple[Path, int, int]] = set()  # what this process has found whole: file, mtime_ns, size
_OPENED: dict[Path, tuple[list[ShardInfo], Entry]] = {}
_IN_MEMORY: dict[tuple[str, str], Entry] = {}  # in the order of their last use


def _entries(root: Path) -> list[EntryInfo]:
    return [info for folder in sorted(root.glob("*/*")) if (info := _read(folder))]


def _read(folder: Path) -> EntryInfo | None:
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
    except (ValueError, TypeError, KeyError):
        return replace(info, state="damaged")


def _write_manifest(folder: Path, describes: dict[str, Any], dtype: str, created: datetime, shards: list[ShardInfo]) -> None:
    content = {"describes": describes, "dtype": dtype, "created": created.isoformat(timespec="seconds")}
    write_json(folder / MANIFEST, {"format": FORMAT, **content, "shards": [asdict(shard) for shard in shards]})


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


def _delete(folder: Path) -> None:
    """Delete an entry whose lock is held; the manifest first, so that a process killed here leaves nothing damaged."""
    _OPENED.pop(folder, None)
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the encoder has other entries
        folder.parent.rmdir()


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free

"""The activation cache: rows of numbers per sentence, computed once and shared by processes, on disk or in memory.

What it keeps on disk, and what happens to damage there, is in :mod:`frostline.encoder.entries`.
"""

from __future__ import annotations

import errno
import mmap
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from frostline.encoder.entries import (
    FOLDER,
    MANIFEST,
    delete_entry,
    entries,
    finish_shard,
    lock_of,
    locked,
    open_entry,
    read_entry,
    write_manifest,
)
from frostline.encoder.shards import Entry, Shard, Writer
from frostline.errors import FrostlineError
from frostline.sizes import readable_size

__all__ = ["Entry", "NoRoom", "Store", "Writer"]
SPARE_BYTES = 100_000_000  # what writing leaves free on the disk
_IN_MEMORY: dict[tuple[str, str], Entry] = {}  # in the order of their last use


class NoRoom(FrostlineError):  # noqa: N818, the name says it
    """The disk, or ``cache.max_size``, has no room for what is to be written."""


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
        with locked(self._root, encoder_key):
            self._locked.add(encoder_key)
            try:
                yield
            finally:
                self._locked.remove(encoder_key)

    def open(self, encoder_key: str, name: str) -> Entry:
        """Open an entry, empty if it does not exist; the caller holds the lock. Damaged shards are deleted.

        Every shard is verified once per process.
        """
        if self._root is None:
            if (encoder_key, name) not in _IN_MEMORY:
                return Entry()
            entry = _IN_MEMORY[encoder_key, name] = _IN_MEMORY.pop((encoder_key, name))  # now the last one: last used
            return entry
        return open_entry(self._root / encoder_key / name)

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
        info = read_entry(folder)
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
                shard = finish_shard(part, path, sentences, rows)
                created = info.created if info and info.state == "whole" else datetime.now(UTC)
                write_manifest(folder, describes, dtype, created, [*shards, shard])
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
        found = sorted(entries(self._root.parent), key=lambda info: info.used)
        return {(info.encoder_key, info.name): info.bytes for info in found}

    def _evict(self, encoder_key: str, name: str) -> bool:
        if self._root is None:
            del _IN_MEMORY[encoder_key, name]
            return True
        try:
            with nullcontext() if encoder_key in self._locked else lock_of(self._root, encoder_key).acquire(timeout=0):
                delete_entry(self._root / encoder_key / name)
        except Timeout:
            return False
        return True

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


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free

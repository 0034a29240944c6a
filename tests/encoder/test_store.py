"""Activations are computed once, whoever asks first, and nothing damaged or half written is ever taken for whole."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frostline.encoder import entries as entries_module
from frostline.encoder import store as store_module
from frostline.encoder.entries import clear, entries, verify
from frostline.encoder.shards import Entry, Writer
from frostline.encoder.store import NoRoom, Store
from frostline.errors import FrostlineError
from frostline.sizes import parse_size, readable_size

ENCODER, NAME, WIDTH = "3fa9", "states-4-fp32", 6
DESCRIBES = {"model": "tiny", "kind": "states", "depth": 4}


def key(sentence: int) -> bytes:
    return hashlib.md5(str(sentence).encode()).digest()


def states(sentence: int) -> NDArray[np.float32]:
    """What the encoder says of a sentence: 1 to 4 tokens."""
    return np.random.default_rng(sentence).normal(size=(1 + sentence % 4, WIDTH)).astype(np.float32)


def write(store: Store, sentences: Sequence[int], encoder: str = ENCODER, name: str = NAME, dtype: str = "fp32") -> None:
    """Write sentences in batches of 3."""
    rows = sum(len(states(sentence)) for sentence in sentences)
    with store.writing(encoder, name, DESCRIBES, dtype, {"states": WIDTH}, len(sentences), rows) as writer:
        for start in range(0, len(sentences), 3):
            add(writer, sentences[start : start + 3])


def add(writer: Writer, batch: Sequence[int]) -> None:
    values = [states(sentence) for sentence in batch]
    writer.add([key(sentence) for sentence in batch], [len(v) for v in values], {"states": np.concatenate(values)})


@contextmanager
def writing(store: Store, sentences: int, rows: int) -> Iterator[Writer]:
    with store.lock(ENCODER), store.writing(ENCODER, NAME, DESCRIBES, "fp32", {"states": WIDTH}, sentences, rows) as writer:
        yield writer


def ensure(store: Store, sentences: Sequence[int], encoder: str = ENCODER, name: str = NAME) -> tuple[Entry, list[int]]:
    """Do what a run does: open the entry, compute what it lacks. Returns the entry and what was computed."""
    with store.lock(encoder):
        entry = store.open(encoder, name)
        missing = [sentence for sentence in sentences if key(sentence) not in entry]
        if missing:
            write(store, missing, encoder, name)
            entry = store.open(encoder, name)
    return entry, missing


def assert_whole(entry: Entry, sentences: Sequence[int]) -> None:
    for sentence in sentences:
        np.testing.assert_array_equal(entry.rows("states", key(sentence)), states(sentence), strict=True)


def folder(cache: Path, encoder: str = ENCODER, name: str = NAME) -> Path:
    return cache / "activations" / encoder / name


def shards(cache: Path) -> list[Path]:
    """The shards that the manifest lists."""
    return [folder(cache) / shard["file"] for shard in json.loads((folder(cache) / "manifest.json").read_text())["shards"]]


def files(cache: Path, pattern: str = "**/*") -> set[str]:
    return {path.name for path in (cache / "activations").glob(pattern) if path.is_file() and path.suffix != ".lock"}


def flip(path: Path, at: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def forget() -> None:
    """Be a new process."""
    entries_module._VERIFIED.clear()
    entries_module._OPENED.clear()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(store_module, "_IN_MEMORY", {})
    return Store(tmp_path if request.param == "disk" else None)


# --- what is written is what is read -----------------------------------------------------------------------------------


def test_an_absent_entry_is_empty(store: Store, tmp_path: Path) -> None:
    with store.lock(ENCODER):
        entry = store.open(ENCODER, NAME)
    assert (entry.sentences, entry.row_count, entry.nbytes) == (0, 0, 0)
    assert key(0) not in entry
    assert entry.table("states", []).shape[0] == 0
    assert not list(tmp_path.glob("activations/*/*"))


def test_rows_come_back_bit_by_bit_as_views(store: Store) -> None:
    entry, _ = ensure(store, range(10))
    assert_whole(entry, range(10))
    assert (entry.sentences, entry.row_count) == (10, sum(1 + i % 4 for i in range(10)))
    assert entry.nbytes > entry.row_count * WIDTH * 4
    assert key(10) not in entry
    with pytest.raises(KeyError):
        entry.rows("states", key(10))
    rows = entry.rows("states", key(3))
    shard, first, end = entry[key(3)]
    assert np.shares_memory(rows, shard.values["states"])
    assert (first, end) == (6, 10)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


def test_a_superset_computes_only_what_a_subset_lacks(store: Store) -> None:
    assert ensure(store, range(4))[1] == [0, 1, 2, 3]
    entry, computed = ensure(store, [5, 3, 0, 7, 1])
    assert computed == [5, 7]
    assert_whole(entry, [0, 1, 2, 3, 5, 7])
    assert entry.sentences == 6
    assert ensure(store, [7, 2])[1] == []


def test_entries_of_other_encoders_and_names_are_others(store: Store) -> None:
    ensure(store, range(3))
    assert ensure(store, range(3), encoder="77")[1] == [0, 1, 2]
    assert ensure(store, range(3), name="states-5-fp32")[1] == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_table_has_the_rows_in_the_order_asked_for(store: Store, dtype: str) -> None:
    values = {name: np.random.default_rng(len(name)).normal(size=(9, 5)).astype(np.float32) for name in ("cls.3", "mean.10")}
    with store.lock(ENCODER):
        for part in (slice(0, 4), slice(4, 9)):  # two shards
            some = {name: array[part] for name, array in values.items()}
            keys = [key(i) for i in range(9)][part]
            with store.writing(ENCODER, "pooled", {}, dtype, dict.fromkeys(values, 5), len(keys), len(keys)) as writer:
                writer.add(keys, [1] * len(keys), some)
        entry = store.open(ENCODER, "pooled")
    order = [8, 0, 4, 3, 3, 7]
    for name, array in values.items():
        expected = array[order] if dtype == "fp32" else array[order].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(entry.table(name, [key(i) for i in order]), expected, strict=True)
        assert entry.rows(name, key(0)).dtype == {"fp32": np.float32, "fp16": np.float16}[dtype]
    with pytest.raises(KeyError):
        entry.table("cls.3", [key(0), key(99)])


def test_shards_are_safetensors_files(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    values = {"cls.3": np.arange(10, dtype=np.float16).reshape(2, 5), "b": np.ones((2, 7), np.float16)}
    store = Store(tmp_path)
    with store.lock(ENCODER), store.writing(ENCODER, NAME, {}, "fp16", {"cls.3": 5, "b": 7}, 2, 2) as writer:
        writer.add([key(0), key(1)], [2, 0], values)
    read = load_file(shards(tmp_path)[0])
    with shards(tmp_path)[0].open("rb") as file:
        assert int.from_bytes(file.read(8), "little") % 8 == 0, "tensors are aligned"
    np.testing.assert_array_equal(read.pop("keys"), np.frombuffer(key(0) + key(1), np.uint8).reshape(2, 16), strict=True)
    np.testing.assert_array_equal(read.pop("offsets"), np.array([0, 2, 2]), strict=True)
    assert read.keys() == values.keys()
    for name in values:
        np.testing.assert_array_equal(read[name], values[name], strict=True)


def test_the_manifest_says_what_the_entry_is(tmp_path: Path) -> None:
    ensure(Store(tmp_path), range(3))
    manifest = json.loads((folder(tmp_path) / "manifest.json").read_text())
    manifest["created"] = "2026-01-02T03:04:05+00:00"
    (folder(tmp_path) / "manifest.json").write_text(json.dumps(manifest))
    ensure(Store(tmp_path), range(5))
    manifest = json.loads((folder(tmp_path) / "manifest.json").read_text())
    assert (manifest["format"], manifest["describes"], manifest["dtype"]) == (1, DESCRIBES, "fp32")
    assert manifest["created"] == "2026-01-02T03:04:05+00:00"
    assert [(shard["sentences"], shard["rows"]) for shard in manifest["shards"]] == [(3, 6), (2, 5)]
    assert [shard["bytes"] for shard in manifest["shards"]] == [path.stat().st_size for path in shards(tmp_path)]
    assert files(tmp_path) == {"manifest.json", *(path.name for path in shards(tmp_path))}


def test_a_process_verifies_a_shard_once_and_opens_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, checksum, read = Store(tmp_path), entries_module._checksum, []
    ensure(store, range(3))
    monkeypatch.setattr(entries_module, "_checksum", lambda path: read.append(path.name) or checksum(path))
    forget()
    entry, _ = ensure(store, range(3))
    assert read == [path.name for path in shards(tmp_path)]
    assert ensure(Store(tmp_path), range(3))[0] is entry
    assert len(read) == 1
    ensure(store, range(5))
    (_, new) = shards(tmp_path)
    assert ensure(store, range(5))[0].sentences == 5
    assert len(read) == 2 and read[1].startswith(new.stem), "the new one while it was written, and not again"


# --- many processes ----------------------------------------------------------------------------------------------------


def start(*args: object) -> subprocess.Popen[str]:
    """Run this file: ``ensure`` or ``stall`` in a process of its own."""
    command = [sys.executable, __file__, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(what: str, cache: Path) -> None:
    store = Store(cache)
    if what == "ensure":
        own = Writer.add

        def slow(*args: Any) -> None:
            time.sleep(0.02)  # long enough for a second writer to come in, were there no lock
            own(*args)

        Writer.add = slow  # type: ignore[method-assign]
        print("ready", flush=True)
        while not (cache / "go").exists():
            time.sleep(0.002)
        entry, computed = ensure(store, range(50))
        with (cache / "computed").open("a") as file:
            file.write("".join(f"{sentence}\n" for sentence in computed))
        print(hashlib.md5(b"".join(entry.rows("states", key(i)).tobytes() for i in range(50))).hexdigest())
    else:
        with writing(store, 50_000, 50_000) as writer:
            for _ in range(1000):
                add(writer, [0, 4, 8, 12])
            print("ready", flush=True)
            time.sleep(60)


@contextmanager
def stalled(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock in the middle of writing; killed at the end."""
    process = start("stall", cache)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_of_eight_processes_one_computes_and_all_read_the_same(tmp_path: Path) -> None:
    processes = [start("ensure", tmp_path) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, ends, strict=True)] == [(0, "")] * 8
    expected = hashlib.md5(b"".join(states(i).tobytes() for i in range(50))).hexdigest()
    assert {out for out, _ in ends} == {f"{expected}\n"}
    assert (tmp_path / "computed").read_text().split() == [str(i) for i in range(50)]


def test_what_a_killed_writer_leaves_is_not_read_and_is_cleaned_up(tmp_path: Path) -> None:
    with stalled(tmp_path):
        (part,) = folder(tmp_path).iterdir()
        assert part.stat().st_size > 10_000
        assert [entry.state for entry in entries(tmp_path)] == ["unfinished"]
    assert part.exists()
    assert verify(tmp_path) == []
    entry, computed = ensure(Store(tmp_path), range(5))
    assert computed == [0, 1, 2, 3, 4]
    assert_whole(entry, range(5))
    assert not part.exists()
    orphan = folder(tmp_path) / "1-beef.safetensors"
    shutil.copy(shards(tmp_path)[0], orphan)  # killed between the shard and the manifest
    forget()
    assert ensure(Store(tmp_path), range(5))[0].sentences == 5
    ensure(Store(tmp_path), range(6))
    assert files(tmp_path) == {"manifest.json", *(path.name for path in shards(tmp_path))}


def test_who_waits_says_so_and_goes_on_when_the_other_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(entries_module, "PATIENCE", 0.1)
    freed: list[int] = []
    ensure(Store(tmp_path), range(3), encoder="00")
    with stalled(tmp_path):
        waiting = threading.Thread(target=lambda: freed.append(clear(tmp_path)))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert [entry.encoder_key for entry in entries(tmp_path)] == [ENCODER]
    waiting.join(10)
    assert freed[0] > 10_000
    assert not folder(tmp_path).parent.exists()
    assert [record.message for record in caplog.records if record.levelno == logging.INFO] == [
        "Another process is computing activations of this encoder; this one waits for it."
    ]


def test_no_one_is_told_to_wait_where_there_is_no_one_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ensure(Store(tmp_path), range(3))
    ensure(Store(tmp_path), range(4))
    assert caplog.records == []


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FrostlineError, match=r"file/activations' cannot be written to .*paths\.cache_dir="):
        ensure(Store(tmp_path / "file"), [0])


# --- damage ------------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "its content is not what"),
        (truncate, "it has 567 bytes instead of 568"),
        (Path.unlink, "it cannot be read (No such"),
    ],
    ids=["flipped byte", "truncated", "missing"],
)
@pytest.mark.parametrize("again", [False, True], ids=["new process", "same process"])
def test_a_damaged_shard_is_dropped_and_computed_again(
    tmp_path: Path, damage: Any, reason: str, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ensure(Store(tmp_path), range(4))
    ensure(Store(tmp_path), range(7))
    first, second = shards(tmp_path)
    damage(first)
    if not again:
        forget()
    assert len(verify(tmp_path)) == 1 and f"'{first}' is damaged: {reason}" in verify(tmp_path)[0]
    assert caplog.messages == [] and shards(tmp_path) == [first, second], "verifying removes nothing"
    with Store(tmp_path).lock(ENCODER):
        assert Store(tmp_path).open(ENCODER, NAME).sentences == 3
    assert caplog.messages == [f"'{first}' is damaged; its sentences are computed again."]
    assert not first.exists() and shards(tmp_path) == [second]
    entry, computed = ensure(Store(tmp_path), range(7))
    assert computed == [0, 1, 2, 3]
    assert_whole(entry, range(7))
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda m: "",
        lambda m: json.dumps(m)[:-20],
        lambda m: "[]",
        lambda m: json.dumps(m | {"format": 2}),
        lambda m: json.dumps(m | {"shards": None}),
        lambda m: json.dumps(m | {"shards": [{"file": m["shards"][0]["file"]}]}),
        lambda m: json.dumps({k: v for k, v in m.items() if k != "created"}),
        lambda m: "\udcff",
    ],
    ids=["empty", "cut", "list", "format", "no shards", "shard", "no date", "not UTF-8"],
)
def test_a_damaged_manifest_loses_its_entry_only(tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture) -> None:
    ensure(Store(tmp_path), range(3))
    ensure(Store(tmp_path), range(3), name="other")
    path = folder(tmp_path) / "manifest.json"
    path.write_text(change(json.loads(path.read_text())), errors="surrogateescape")
    assert {entry.name: entry.state for entry in entries(tmp_path)} == {NAME: "damaged", "other": "whole"}
    assert len(verify(tmp_path)) == 1 and f"'{path}' is damaged: " in verify(tmp_path)[0]
    with Store(tmp_path).lock(ENCODER):
        assert Store(tmp_path).open(ENCODER, NAME).sentences == 0
    assert [entry.name for entry in entries(tmp_path)] == ["other"]
    entry, computed = ensure(Store(tmp_path), range(3))
    assert caplog.messages == [f"'{path}' is damaged; its sentences are computed again."]
    assert computed == [0, 1, 2]
    assert_whole(entry, range(3))
    assert files(tmp_path, f"{ENCODER}/{NAME}/*") == {"manifest.json", shards(tmp_path)[0].name}
    assert ensure(Store(tmp_path), range(3), name="other")[1] == []


def test_any_flipped_byte_is_healed(tmp_path: Path) -> None:
    """Of a shard, its header included, or of the manifest: nothing wrong is read, and afterwards all is whole again."""
    draw = np.random.default_rng()
    ensure(Store(tmp_path), range(4))
    ensure(Store(tmp_path), range(9))
    for number in range(120):
        path = [*shards(tmp_path), folder(tmp_path) / "manifest.json"][number % 3]
        content = bytearray(path.read_bytes())
        at = int(draw.integers(min(len(content), 200) if number % 2 else len(content)))  # every other time in the header
        content[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)
        forget()
        entry, _ = ensure(Store(tmp_path), range(9))
        assert_whole(entry, range(9))
        assert verify(tmp_path) == [], f"bytes of {path.name}, number {at}"
        if len(shards(tmp_path)) < 2:  # both were computed again, at once
            clear(tmp_path)
            ensure(Store(tmp_path), range(4))
            ensure(Store(tmp_path), range(9))


def test_what_is_deleted_while_it_is_verified_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(Store(tmp_path), range(3))
    checksum = entries_module._checksum

    def meanwhile(path: Path) -> str:
        monkeypatch.undo()
        clear(tmp_path)
        ensure(Store(tmp_path), written)
        return checksum(path)

    for written in (range(3), []):
        monkeypatch.setattr(entries_module, "_checksum", meanwhile)
        assert verify(tmp_path) == []
        assert sum(entry.sentences for entry in entries(tmp_path)) == len(written)


# --- writing that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True], ids=["new", "more"])
def test_an_error_while_writing_leaves_what_was_there(store: Store, tmp_path: Path, exists: bool) -> None:
    if exists:
        ensure(store, range(2))
    before = files(tmp_path) if (tmp_path / "activations").exists() else set()
    with pytest.raises(ZeroDivisionError), writing(store, 2, 7) as writer:
        add(writer, [2])
        raise ZeroDivisionError
    for announced in ((3, 7), (2, 6), (1, 7)):
        with pytest.raises(ValueError), writing(store, *announced) as writer:
            add(writer, [2, 3])
    if tmp_path.joinpath("activations").exists():
        assert files(tmp_path) == before
    entry, computed = ensure(store, range(4))
    assert computed == ([2, 3] if exists else [0, 1, 2, 3])
    assert_whole(entry, range(4))


def test_the_manifest_is_written_last_and_its_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def fail(*_: object) -> None:
        seen.extend(files(tmp_path))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module, "write_manifest", fail)
    with pytest.raises(NoRoom):
        ensure(Store(tmp_path), range(3))
    assert [Path(name).suffix for name in seen] == [".safetensors"]
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("keys", "lengths", "values"),
    [
        ([key(0)], [2], {"states": np.ones((1, WIDTH))}),
        ([key(0)], [1], {"states": np.ones((1, WIDTH + 1))}),
        ([key(0)], [1], {"other": np.ones((1, WIDTH))}),
        ([key(0)], [1], {}),
        ([key(0)], [1, 0], {"states": np.ones((1, WIDTH))}),
        ([key(0)[:15]], [1], {"states": np.ones((1, WIDTH))}),
    ],
    ids=["rows", "width", "name", "none", "lengths", "key"],
)
def test_what_does_not_fit_together_is_refused(
    store: Store, keys: list[bytes], lengths: list[int], values: dict[str, NDArray[Any]]
) -> None:
    with pytest.raises(ValueError, match="do not fit"), writing(store, 1, 1) as writer:
        writer.add(keys, lengths, values)


def test_what_is_too_large_for_fp16_is_told(store: Store) -> None:
    def put(value: float) -> None:
        with store.lock(ENCODER), store.writing(ENCODER, NAME, {}, "fp16", {"states": 2}, 1, 1) as writer:
            writer.add([key(0)], [1], {"states": np.array([[1, value]], np.float32)})

    with pytest.raises(FrostlineError, match=r"'states' \(7e\+04\) is too large for fp16; use cache\.dtype=fp32"):
        put(-70_000)
    assert store.open(ENCODER, NAME).sentences == 0
    put(-np.inf)  # was infinite before
    assert store.open(ENCODER, NAME).rows("states", key(0)).tolist() == [[1, -np.inf]]


# --- room --------------------------------------------------------------------------------------------------------------


def test_too_little_room_on_the_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"bytes": 100_003_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, free["bytes"]))
    sentences = range(1000, 1100)  # 6,000 bytes of states, and their keys and offsets
    with pytest.raises(NoRoom, match=r"need 8\.\d kB .*'.*/activations' has 100\.0 MB free.*paths\.cache_dir="):
        ensure(Store(tmp_path), sentences)
    assert files(tmp_path) == set()
    free["bytes"] = 100_010_000
    assert len(ensure(Store(tmp_path), sentences)[1]) == 100


def test_the_limit_is_kept(store: Store, tmp_path: Path) -> None:
    store._max_bytes = 1000
    with pytest.raises(
        NoRoom, match=r"need \d\.\d kB, but cache\.max_size is 1\.0 kB for '(memory|.*/activations)'; .*max_size="
    ):
        ensure(store, range(20))
    ensure(store, range(5))
    by_hand = " or delete the others with frostline cache do=clear" if store._root else ""
    with pytest.raises(NoRoom, match=rf"need \d+ B beside the \d+ B of others, .*max_size=…{by_hand}\.$"):
        ensure(store, range(10))
    assert store.open(ENCODER, NAME).sentences == 5


def test_room_that_one_writer_was_promised_is_not_another_s(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Writer("fp32", {"states": WIDTH}, 1, 50).nbytes
    if store._root:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, 100_000_000 + 2 * size))
    else:
        store._max_bytes = 2 * size
    both = [store.writing(ENCODER, name, {}, "fp32", {"states": WIDTH}, 1, 50) for name in "ab"]
    values = {"states": np.ones((50, WIDTH))}
    with store.lock(ENCODER):
        with both[0] as first, both[1] as second:
            with pytest.raises(NoRoom), store.writing(ENCODER, "c", {}, "fp32", {"states": WIDTH}, 1, 1):
                pytest.fail("it writes")
            first.add([key(0)], [50], values)
            second.add([key(1)], [50], values)
        assert store.open(ENCODER, "a").nbytes == store.open(ENCODER, "b").nbytes == size
        with store.writing(ENCODER, "c", {}, "fp32", {"states": WIDTH}, 1, 50) as third:  # promises end with their writers
            third.add([key(2)], [50], values)


def test_memory_forgets_one_encoder_and_a_disk_does_not(store: Store) -> None:
    for encoder in (ENCODER, "77"):
        ensure(store, range(3), encoder=encoder)
    store.forget(ENCODER)
    assert ensure(store, range(3))[1] == ([] if store._root else [0, 1, 2])
    assert ensure(store, range(3), encoder="77")[1] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_becomes_full_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(self: Writer, tensor: str, *args: object) -> None:
        if tensor == "keys":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as during:
        during.setattr(Writer, "_put", full)
        with pytest.raises(NoRoom, match=rf"need .*free \({os.strerror(number)}\).*paths\.cache_dir="):
            ensure(Store(tmp_path), range(3))
    assert not folder(tmp_path).parent.exists()
    with pytest.raises(OSError, match="other"), writing(Store(tmp_path), 1, 1):
        raise OSError(errno.EIO, "other")


def names(store: Store, tmp_path: Path) -> set[str]:
    return {e.name for e in entries(tmp_path)} if store._root else {name for _, name in store_module._IN_MEMORY}


def fill(store: Store, tmp_path: Path) -> int:
    """Write a, b and c, then open a again. Returns the size of one."""
    for name in "abc":
        ensure(store, range(8), encoder=f"e{name}", name=name)
    ensure(store, range(8), encoder="ea", name="a")
    for age, name in enumerate("acb" if store._root else ""):
        path = folder(tmp_path, f"e{name}", name) / "manifest.json"
        assert age or path.stat().st_mtime >= max(p.stat().st_mtime for p in tmp_path.glob("*/*/*/manifest.json"))
        os.utime(path, (time.time() - 100 * age,) * 2)  # the file system's clock is too coarse
    return max(e.bytes for e in entries(tmp_path)) if store._root else ensure(store, range(8), "ea", "a")[0].nbytes


def test_the_least_recently_used_go_first(store: Store, tmp_path: Path) -> None:
    size = fill(store, tmp_path)
    store.evict([])
    assert names(store, tmp_path) == set("abc"), "there is no limit"
    for allowed, left in ((3, "abc"), (2, "ac"), (1, "a")):
        store._max_bytes = allowed * size
        store.evict([])
        assert names(store, tmp_path) == set(left)
    assert ensure(store, range(8), "ea", "a")[1] == []
    store._max_bytes = None
    assert ensure(store, range(8), "eb", "b")[1] == list(range(8))


def test_what_is_to_be_kept_stays_even_beyond_the_limit(store: Store, tmp_path: Path) -> None:
    size = fill(store, tmp_path)
    store._max_bytes = 2 * size
    store.evict([("eb", "b")])
    assert names(store, tmp_path) == set("ab")
    store._max_bytes = 0
    store.evict([("eb", "b"), ("ea", "other"), ("other", "a")])
    assert names(store, tmp_path) == {"b"}


def test_what_is_to_be_written_finds_its_room_before_it_is_written(store: Store, tmp_path: Path) -> None:
    size = fill(store, tmp_path)
    store._max_bytes = 3 * size
    with store.lock("ed"):
        write(store, range(8), "ed", "d")
    assert names(store, tmp_path) == set("acd"), "b was used longest ago"
    kept = [("ea", "a"), ("ec", "c"), ("ed", "d")]
    size_of_widths = ("fp32", {"states": WIDTH}, 8, sum(len(states(i)) for i in range(8)))
    with pytest.raises(NoRoom), store.lock("ee"), store.writing("ee", "e", DESCRIBES, *size_of_widths, keep=kept):
        pass
    assert names(store, tmp_path) == set("acd"), "where there is no room for all, nothing is deleted for it"


def test_only_an_encoder_that_another_process_holds_is_passed_over(tmp_path: Path) -> None:
    ensure(Store(tmp_path), range(8), name="other")
    ensure(Store(tmp_path), range(8), encoder="mine")
    store = Store(tmp_path, max_bytes=0)
    with stalled(tmp_path), store.lock("mine"):
        store.evict([])
        assert {entry.encoder_key for entry in entries(tmp_path)} == {ENCODER}
    store.evict([])
    assert entries(tmp_path) == []


def test_rows_outlive_the_eviction_of_their_entry(tmp_path: Path) -> None:
    entry, _ = ensure(Store(tmp_path), range(8))
    Store(tmp_path, max_bytes=0).evict([])
    assert entries(tmp_path) == []
    assert_whole(entry, range(8))


# --- the whole cache ---------------------------------------------------------------------------------------------------


def test_entries_say_what_they_are(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    ensure(Store(tmp_path), range(8))
    ensure(Store(tmp_path), range(2), encoder="77", name="pooled-fp32")
    entry, _ = entries(tmp_path)
    assert (entry.encoder_key, entry.name, entry.state, entry.describes, entry.dtype) == (
        *(ENCODER, NAME, "whole", DESCRIBES, "fp32"),
    )
    assert (entry.sentences, entry.rows) == (8, 20)
    assert entry.bytes == sum(path.stat().st_size for path in folder(tmp_path).iterdir())
    assert entry.created.timestamp() == pytest.approx(time.time(), abs=10)
    assert entry.used.timestamp() == pytest.approx(time.time(), abs=10)


def test_clearing_frees_what_was_chosen(tmp_path: Path) -> None:
    for encoder, name in (("a", "x"), ("a", "y"), ("b", "x"), ("c", "x")):
        ensure(Store(tmp_path), range(3), encoder, name)
    sizes = {(entry.encoder_key, entry.name): entry.bytes for entry in entries(tmp_path)}
    old = time.time() - 3 * 86_400
    for encoder, name in (("a", "y"), ("b", "x")):
        os.utime(folder(tmp_path, encoder, name) / "manifest.json", (old, old))
    assert clear(tmp_path, unused_days=4) == 0
    assert clear(tmp_path, encoder_key="a", unused_days=2) == sizes["a", "y"]
    assert {(entry.encoder_key, entry.name) for entry in entries(tmp_path)} == {("a", "x"), ("b", "x"), ("c", "x")}
    assert clear(tmp_path, encoder_key="c") == sizes["c", "x"]
    assert clear(tmp_path) == sizes["a", "x"] + sizes["b", "x"]
    assert files(tmp_path) == set()
    assert clear(tmp_path / "nowhere") == 0
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5 TB", 1_500_000_000_000), (" 3 kb ", 3000), ("12", 12), (7, 7), ("0 b", 0)],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "20 GiB", "-1GB", -1, "1,5GB", "much", "1e9", "20GB!", "1.GB"])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (37_240_000, "37.2 MB"), (1.5e9, "1.5 GB"), (2e13, "20.0 TB")],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert readable_size(int(size)) == text


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""A reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from frostline.errors import FrostlineError
from frostline.runs.files import replace_atomically, write_csv, write_json, write_parquet, write_text
from frostline.runs.reading import read_frame

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", 'y, "z"']})
WRITERS: dict[str, tuple[Callable[[Path, Any], None], Any, Callable[[Path], Any]]] = {
    "text": (write_text, "é\n", lambda path: path.read_text(encoding="utf-8")),
    "json": (write_json, {"é": [1, None]}, lambda path: json.loads(path.read_text(encoding="utf-8"))),
    "csv": (write_csv, TABLE, pd.read_csv),
    "parquet": (write_parquet, TABLE, pd.read_parquet),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_read_back_and_nothing_else_is_left(kind: str, tmp_path: Path) -> None:
    write, content, read = WRITERS[kind]
    path = tmp_path / "new" / "folder" / f"file.{kind}"
    for _ in range(2):  # new, then in place of an old one
        write(path, content)
        found = read(path)
        assert found.equals(content) if isinstance(content, pd.DataFrame) else found == content
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("exists", [True, False])
def test_an_exception_leaves_the_old_file_and_no_temporary_one(error: type[BaseException], exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_text("old")
    with pytest.raises(error), replace_atomically(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent, "a rename is atomic within one file system only"
        raise error
    assert list(tmp_path.iterdir()) == ([path] if exists else [])
    assert not exists or path.read_text() == "old"


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_content_that_cannot_be_written_leaves_the_old_file(kind: str, tmp_path: Path) -> None:
    write, content, _ = WRITERS[kind]
    path = tmp_path / "file"
    write(path, content)
    before = path.read_bytes()

    class Unwritable:
        def __str__(self) -> str:
            raise ValueError

    bad = {"a": Unwritable()} if kind == "json" else pd.DataFrame({"a": [Unwritable()]})
    with pytest.raises(Exception):  # noqa: B017 -- each writer has its own
        write(path, bad)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_readable_while_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replace_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def killed_while_writing(path: Path) -> None:
    with replace_atomically(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    worker = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_changed_byte_of_a_table_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pd.DataFrame({"text": [f"sentence {i}" for i in range(500)], "logit": [i / 7 for i in range(500)]})
    write_parquet(path, table)
    content, draw, told = path.read_bytes(), random.Random(), []
    for _ in range(200):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            read = read_frame(path)
        except FrostlineError as error:
            told.append(str(error))
        else:
            assert list(read.columns) != list(table.columns) or read.equals(table)
    assert len(told) > 150 and all(said.startswith(f"'{path}' is damaged: ") and "\n" not in said for said in told)
    with pytest.raises(FrostlineError, match=r"nowhere\.parquet' is missing"):
        read_frame(tmp_path / "nowhere.parquet")

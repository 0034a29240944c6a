"""The sentences that all sides train on, in a file that Frostline wrote and every peer reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Split:
    """Texts and class numbers of one split, in Frostline's order."""

    texts: list[str]
    labels: list[int]


@dataclass
class Workload:
    """The data of one measurement.

    Attributes:
        train, validation: the sentences.
        hashes: Frostline's own hashes of both splits, as its manifest.json has them.
        model: the folder of MiniLM.
    """

    train: Split
    validation: Split
    hashes: dict[str, str]
    model: str


def write(path: Path, workload: Workload) -> None:
    """Write a workload with a fingerprint of its texts and labels."""
    splits = {name: [getattr(workload, name).texts, getattr(workload, name).labels] for name in ("train", "validation")}
    content = {"splits": splits, "hashes": workload.hashes, "model": workload.model}
    path.write_text(json.dumps(content | {"fingerprint": _fingerprint(splits)}), encoding="utf-8")


def read(path: str) -> Workload:
    """Read a workload and make sure that it is the one that was written."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if _fingerprint(content["splits"]) != content["fingerprint"]:
        raise ValueError(f"{path} does not hold the sentences that Frostline wrote")
    train, validation = (Split(*content["splits"][name]) for name in ("train", "validation"))
    return Workload(train, validation, content["hashes"], content["model"])


def _fingerprint(splits: dict[str, list[list[str | int]]]) -> str:
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()

"""Keys of the commands that are not ``train``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PredictOptions:
    """Keys of ``frostline predict``."""

    run: str
    text: str | None
    text_pair: str | None
    file: str | None
    text_column: str | None
    text_pair_column: str | None
    out: str | None


@dataclass
class ReportOptions:
    """Keys of ``frostline report``."""

    run: str
    table: str


@dataclass
class CompareOptions:
    """Keys of ``frostline compare``."""

    run: list[str]
    sentences: int


@dataclass
class ExportOptions:
    """Keys of ``frostline export``."""

    run: str
    to: str


@dataclass
class StatusOptions:
    """Keys of ``frostline status``."""

    run: str


@dataclass
class PlanOptions:
    """Keys of ``frostline plan`` besides those of ``frostline train``."""

    steps: int
    gflops: float | None

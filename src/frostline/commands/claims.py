"""``frostline claims``: every claim with its source, the experiment that decides on it, and its last verdict."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.commands.launch import CONF
from frostline.report.verdict import FILE, Verdict, read_verdict

COLOURS = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}


def claims(output_dir: Path) -> int:
    """Print the table of claims.

    Args:
        output_dir: where sweeps are; the newest verdict of each claim counts.

    Returns:
        The exit status 0.
    """
    verdicts: dict[str, Verdict] = {}
    for path in sorted(output_dir.glob(f"sweeps/*/*/{FILE}"), key=lambda path: path.stat().st_mtime):
        verdict = read_verdict(path)
        verdicts[verdict.claim.name] = verdict
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("experiment", "claim", "source", "last verdict"):
        table.add_column(title, overflow="fold")
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        claim = OmegaConf.select(OmegaConf.load(path), "claim")
        if claim is not None:
            table.add_row(claim.name, claim.statement, claim.source, _last(verdicts.get(claim.name)))
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)
    return 0


def _last(verdict: Verdict | None) -> Text:
    if verdict is None:
        return Text("not run yet", style="dim")
    words = verdict.verdict
    if verdict.effect is not None:
        mean, low, high = verdict.effect
        words += f"\n{mean:.3g} ({low:.3g} to {high:.3g}), {verdict.seeds} seeds"
    return Text(words, style=COLOURS[verdict.verdict])

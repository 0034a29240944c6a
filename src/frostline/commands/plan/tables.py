"""A plan in the terminal: the jobs, their operations, what the cache keeps of them, and the expected time."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.commands.plan.kinds import Kind, varying
from frostline.sizes import parse_size, readable_size

if TYPE_CHECKING:
    from frostline.commands.plan import Plan
    from frostline.commands.plan.work import Encoding, Job

SWEPT = ("seed", "optimizer.lr", "data.train_size", "trainer.max_epochs")  # within a kind, as far as they vary


def print_jobs(kinds: Sequence[Kind], console: Console) -> None:
    """Print a row a kind of job: how many there are, and over which values."""
    table = _table("strategy", "frozen depth", *varying(kinds), "|jobs", "over")
    for kind in kinds:
        table.add_row(*_names(kind, kinds), f"{len(kind.configs):,}", _swept(kind))
    total = sum(len(kind.configs) for kind in kinds)
    console.print(f"{total:,} job{'' if total == 1 else 's'}", style="bold", highlight=False)
    console.print(table)


def print_work(kinds: Sequence[Kind], jobs: Sequence[Sequence[Job]], counts: Sequence[tuple[int, int]], console: Console) -> None:
    """Print a row a kind of job: what trains, and the operations of one job on average; with the sentences above.

    Args:
        kinds: of jobs.
        jobs: of every kind.
        counts: per kind, parameters that train and all.
        console: where.
    """
    from frostline.report.table import compact

    sizes = Counter(tuple(len(tokens) for tokens in job.lengths.values()) for of_kind in jobs for job in of_kind)
    lengths = [length for job in {id(j.sentences): j for of_kind in jobs for j in of_kind}.values() for length in _all(job)]
    (train, validation, *test), _ = sizes.most_common(1)[0]
    words = f"{train:,} training sentences, {validation:,} for validation" + (f", {test[0]:,} for test" if test else "")
    more = f" (and {len(sizes) - 1} other sizes)" if len(sizes) > 1 else ""
    console.print(
        f"\n[bold]Operations[/bold] of one job, on average. {words}{more}; {statistics.mean(lengths):.1f} tokens on average, "
        f"{max(lengths)} at most.",
        highlight=False,
    )
    titles = ("strategy", "frozen depth", *varying(kinds), "|trained", "|of", "|forward", "|backward", "|scoring")
    table = _table(*titles, "|in all", "|without the cache", "|saved")
    for kind, of_kind, (trained, total) in zip(kinds, jobs, counts, strict=True):
        with_cache = [job.work.flops for job in of_kind]
        parts = [statistics.mean(getattr(f, part) for f in with_cache) for part in ("steps", "backward", "scoring", "total")]
        without = statistics.mean(job.work.uncached.total for job in of_kind)
        saved = f"{100 * (1 - parts[3] / without):.0f} %" if without else "–"
        row = [compact(trained), compact(total), *map(operations, parts), operations(without), saved]
        table.add_row(*_names(kind, kinds), *row)
    console.print(table)
    everything = [job.work for of_kind in jobs for job in of_kind]
    with_it, without_it = (sum(getattr(work, name).total for work in everything) for name in ("flops", "uncached"))
    console.print(
        f"All jobs: {operations(with_it)}, and what is computed once; {operations(without_it)} without the cache.",
        highlight=False,
    )


def print_cache(encodings: Sequence[Encoding], console: Console) -> None:
    """Print what is computed once for all jobs, and how much of the disk or of memory it takes."""
    for encoding in encodings:
        config, parts = encoding.jobs[0].config, encoding.parts()
        where = "in memory" if config.cache.mode == "memory" else f"in '{Path(config.paths.cache_dir)}'"
        console.print(
            f"\n[bold]Computed once[/bold] by {config.model.name} for {len(encoding.jobs):,} jobs: {len(encoding.lengths):,} "
            f"different sentences, {encoding.lengths.sum():,} tokens, {operations(encoding.flops)}. Kept {where}:",
            highlight=False,
            soft_wrap=True,
        )
        table = _table("states of", "|bytes")
        for what, size in parts.items():
            table.add_row(what, readable_size(size))
        table.add_row("in all", readable_size(sum(parts.values())))
        console.print(table)
        if sum(parts.values()) > parse_size(config.cache.max_size):
            console.print(
                f"That is more than cache.max_size, {config.cache.max_size}: runs go on without what has no room; raise it, or "
                "use cache.dtype=fp16."
            )


def print_time(plan: Plan, notes: Sequence[str], console: Console) -> None:
    """Print the expected time: a row a part, and all of them one after another."""
    console.print("\n[bold]Time[/bold], one job after another", highlight=False)
    table = _table("part", "|jobs", "|each", "|in all", "|peak memory")
    for part in plan.parts:
        each = "" if not part.each else duration(min(part.each))
        if part.each and duration(max(part.each)) != each:
            each += f" – {duration(max(part.each))}"
        peak = "" if part.peak_mb is None else readable_size(round(part.peak_mb * 1e6))
        table.add_row(part.what, f"{len(part.each):,}" if part.each else "", each, duration(part.total), peak)
    table.add_row(Text("in all", style="bold"), "", "", Text(duration(plan.seconds), style="bold"), "")
    console.print(table)
    for note in notes:
        console.print(Text(note, style="dim"))


def operations(flops: float) -> str:
    """Return a number of floating-point operations in short: ``0``, ``0.69 GFLOP``, ``1.4 EFLOP``."""
    if flops == 0:
        return "0"
    unit, size = next(((u, s) for u, s in (("E", 1e18), ("P", 1e15), ("T", 1e12)) if flops >= s), ("G", 1e9))
    return f"{flops / size:.3g} {unit}FLOP" if flops / size < 1000 else f"{flops / size:,.0f} {unit}FLOP"


def duration(seconds: float) -> str:
    """Return a time for people: ``0.4 s``, ``38 s``, ``12.5 min``, ``3.2 h``, ``1,200 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 3600:,.0f} h"


def _all(job: Job) -> list[int]:
    return [int(length) for of_split in job.lengths.values() for length in of_split]


def _names(kind: Kind, kinds: Sequence[Kind]) -> list[Text]:
    told = ("strategy", "frozen depth", *varying(kinds))
    return [Text(kind.traits.get(name, "–")) for name in told]  # Text: brackets in a name are not markup


def _swept(kind: Kind) -> Text:
    """Return the values over which the jobs of a kind go, in short."""
    found = []
    for key in SWEPT:
        group, _, name = key.rpartition(".")
        owners = [getattr(config, group) if group else config for config in kind.configs]
        values = list(dict.fromkeys(getattr(owner, name, None) for owner in owners))
        if len(values) > 1:
            words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
            found.append(f"{name} {', '.join(words[:6])}{f', … ({len(words)})' if len(words) > 6 else ''}")
    return Text("; ".join(found))


def _table(*titles: str) -> Table:
    """Return a table with these columns; a bar before a title: numbers, aligned on the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(Text(title.removeprefix("|")), justify="right" if title.startswith("|") else "left")
    return table

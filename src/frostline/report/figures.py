"""The picture of a sweep: test accuracy against how much of the encoder is thawed. And how any figure is kept."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from frostline.report.arms import Arm, names
from frostline.report.table import compact
from frostline.runs.files import replace_atomically

INK, FAINT = "#24292f", "#8b949e"
# From frozen to thawed; every shade has a contrast of about 3:1 or more with white and with a dark page.
SHADES = ["#3576d9", "#1593b0", "#239b63", "#a98a1f", "#dd7420", "#d24a43"]
ICE_TO_FIRE = LinearSegmentedColormap.from_list("thaw", SHADES)
# Text stays text (small, selectable), and ids do not change from run to run.
SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "frostline", "font.family": "sans-serif"}
SVG |= {"text.parse_math": False, "text.usetex": False}  # a dollar in a name is a dollar
INKED = SVG | {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}


def colours(arms: Sequence[Arm]) -> list[str]:
    """Return a colour ``#rrggbb`` for each arm, from cold to warm in their order."""
    return [to_hex(ICE_TO_FIRE(i / max(1, len(arms) - 1))) for i in range(len(arms))]


def save(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write a figure as SVG and as PNG (200 dots an inch); return their paths.

    Args:
        figure: drawn within :func:`inked`.
        path_stem: where to write, without suffix.
    """
    svg, png = path_stem.with_suffix(".svg"), path_stem.with_suffix(".png")
    with matplotlib.rc_context(SVG):
        for path, form in ((svg, "svg"), (png, "png")):
            with replace_atomically(path) as temporary:
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(temporary, format=form, dpi=200, facecolor="white", metadata=metadata)
    return svg, png


def inline_svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element, its ink the page's text colour."""
    buffer = io.StringIO()
    with matplotlib.rc_context(SVG):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    smallest = f"{0.8 * 72 * figure.get_figwidth():.0f}pt"  # on a phone, the text must stay readable
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = text.replace("<svg ", f'<svg style="min-width: {smallest}" ', 1)
    return text.replace("*{", ".drawing *{")  # or its style would reach the whole page


@contextmanager
def inked() -> Iterator[None]:
    """Draw in the project's colours."""
    with matplotlib.rc_context(INKED):
        yield


def plain(axes: Axes) -> None:
    """Take from a panel what is not data: its frame and ticks; faint lines are left to read values by."""
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def accuracy_by_depth(arms: Sequence[Arm]) -> Figure:
    """Draw test accuracy (%) of every arm from frozen to full, with its 95 % interval and what it trained.

    Args:
        arms: as :func:`frostline.report.arms.summarise` returns them; arms without test predictions are left out.
    """
    shown = [
        (name, arm, arm.test, colour)
        for name, arm, colour in zip(names(arms), arms, colours(arms), strict=True)
        if arm.test is not None
    ]
    with inked():
        figure = Figure(figsize=(max(4.4, 1.15 * len(shown) + 0.8), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for x, (_, arm, test, colour) in enumerate(shown):
            axes.plot([x, x], [100 * test.low, 100 * test.high], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot(x, 100 * test.mean, "o", color=colour, markersize=8)
            label = f"{100 * test.mean:.1f} %\n{compact(arm.trained_parameters)} trained"
            axes.annotate(label, (x, 100 * test.high), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        axes.set_xticks(range(len(shown)), [name.replace(" · ", "\n").replace(", ", "\n") for name, *_ in shown])
        axes.set_xlim(-0.6, len(shown) - 0.4)
        axes.margins(y=0.08)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.16 * (high - low))  # room for the labels
        axes.set_ylabel("test accuracy, % (95 % interval)")
        axes.set_xlabel("frozen  →  thawed")
        plain(axes)
    return figure

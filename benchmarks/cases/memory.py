"""Peak resident memory (VmHWM) of the whole process in the runs of `full`, loading and evaluation included."""

from cases import full
from harness import Job, Measured
from rows import Row, median, versus
from settings import Settings

TITLE = "peak memory"
PAIRS = ((full.DEFAULTS, full.FP32), (full.BEST, full.BF16))


def jobs(s: Settings) -> list[Job]:
    """Return the jobs of ``full`` that are compared; they are not run twice."""
    return [job for job in full.jobs(s) if job.side in {side for pair in PAIRS for side in pair}]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row per precision."""

    def show(results: list[dict[str, float]]) -> str:
        return f"{median(results, 'peak_mb'):,.0f} MB"

    return [versus(m, own, (peer, show), (own, show), lambda r: r["peak_mb"]) for peer, own in PAIRS]

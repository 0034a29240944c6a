"""The page of a sweep of 100 runs x 2,000 test sentences, from run directories that are written for it: at most 30 s and 15 MB
are meant. A ratio is the 30 s over the time it took.
"""

from harness import Job, Measured
from rows import Row, duration, fill_ratio, median
from settings import Settings

TITLE = "the page of a sweep"
GOAL = 30.0  # seconds


def jobs(s: Settings) -> list[Job]:
    """Return the one job."""
    size = {"runs": 6, "sentences": 400} if s.small else {"runs": 100, "sentences": 2000}
    return [Job("page", "frostline_side:page", size, 40, repeats=1 if s.small else 3)]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return its row."""
    goal = f"at most {GOAL:.0f} s and 15 MB"
    if "page" not in m.results:
        return [Row("page", goal, f"report.html: {m.reason('page')}")]
    results = m.results["page"]
    took = [result["seconds"] for result in results]
    time, size = duration(median(results, "seconds")), median(results, "megabytes")
    words = f"report.html of {results[0]['runs']} runs: {time}, {size:.1f} MB"
    return [fill_ratio(Row("page", goal, words, repeats=f"{len(took)} / {len(took)}"), [GOAL], took)]

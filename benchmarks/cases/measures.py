"""What measures cost beside the encoding that they need. Layers: all probes of a run's own task (7 layers x 3 poolings, strengths
chosen on validation) beside the one pass over the sentences. Geometry: all statistics of two encoders at 7 layers x 2 poolings
beside encoding the sentences with both. A ratio is encoding time over the measure's own; both stand in one process.
"""

from harness import Job, Measured
from rows import Row, duration, fill_ratio, median
from settings import Settings

TITLE = "measures"
WHAT = {
    "layers": ("at most 20 % of the pass: 5", "probes of all layers and poolings"),
    "geometry": ("less than encoding twice: 1", "geometry of two encoders"),
}


def jobs(s: Settings) -> list[Job]:
    """Return one job a measure."""
    common = ["logger=csv", "trainer.progress_bar=false", "trainer.precision=32-true", "data.min_abs_rating=0", "cache=off"]
    quick = ["data.train_size=300", "data.validation_share=0.02", "data.test_share=0.02"] if s.small else []
    layers = [*common, *quick, "strategy=frozen", "strategy.layer=last", "measure=layers", "measure.layers.baselines=false"]
    layers += ["measure.layers.codelength_shuffles=0", "measure.layers.tasks=[]", "measure.layers.token_tasks=[]"]
    geometry = [*common, "data.train_size=64", "data.validation_share=0.02", "test=false", "measure=geometry", "strategy=full"]
    geometry += ["trainer.max_epochs=1", *(["data.test_share=0.02"] if s.small else ["data.test_share=0.2"])]
    return [
        Job("layers", "frostline_side:measured", {"words": layers}, 150, repeats=1 if s.small else 3),
        Job("geometry", "frostline_side:measured", {"words": geometry}, 60, repeats=1 if s.small else 3),
    ]


def rows(s: Settings, m: Measured) -> list[Row]:
    """Return a row a measure."""
    found = []
    for name, (goal, words) in WHAT.items():
        if name not in m.results:
            found.append(Row(name, goal, f"{words}: {m.reason(name)}"))
            continue
        results = m.results[name]
        encoding, own = ([r[key] for r in results] for key in ("encoding", "seconds"))
        peer = f"encoding {results[0]['encoded']:,} sentences: {duration(median(results, 'encoding'))} ({goal})"
        row = Row(name, peer, f"{words}: {duration(median(results, 'seconds'))}", repeats=f"{len(own)} / {len(own)}")
        found.append(fill_ratio(row, encoding, own))
    return found

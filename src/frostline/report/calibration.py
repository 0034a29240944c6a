"""How far an arm's probabilities can be trusted, before and after a temperature that validation chose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.measures.calibration import calibrated_null, expected_calibration_error, fit_temperature, reliability, tempered
from frostline.measures.scores import nll
from frostline.report.figures import FAINT, INK, inked, plain
from frostline.report.scored import Scored

RESAMPLES = 200  # of labels, for what calibrated probabilities would give


def calibration(validation: dict[str, Scored], test: dict[str, Scored]) -> pd.DataFrame:
    """Return how well each arm's probabilities are calibrated on test, means over seeds.

    Args:
        validation: predictions by the arm's name; each seed's temperature is fitted on them.
        test: likewise; only scored.

    Returns:
        ``arm``; ``ece`` (15 bins of equal mass); ``ece_if_calibrated`` and ``ece_if_calibrated_p95``, what it would be by chance,
        mean and 95th percentile; ``nll`` (nats); ``temperature``; ``ece_scaled`` and ``nll_scaled``, after it.
    """
    rows = []
    for name, of in test.items():
        found = []
        for seed, logits in enumerate(of.logits):
            expected, worst = calibrated_null(of.probabilities[seed], RESAMPLES, equal_mass=True)
            row = {
                "ece": expected_calibration_error(of.probabilities[seed], of.labels, equal_mass=True),
                "ece_if_calibrated": expected,
                "ece_if_calibrated_p95": worst,
                "nll": nll(logits, of.labels),
            }
            if name in validation:
                temperature = fit_temperature(validation[name].logits[seed], validation[name].labels)
                scaled = expected_calibration_error(tempered(logits, temperature), of.labels, equal_mass=True)
                row |= {"temperature": temperature, "ece_scaled": scaled, "nll_scaled": nll(logits / temperature, of.labels)}
            found.append(row)
        rows.append({"arm": name, **pd.DataFrame(found).mean().to_dict()})
    return pd.DataFrame(rows)


def reliability_figure(test: dict[str, Scored], chosen: Sequence[str]) -> Figure:
    """Draw, a panel an arm, how often it is right by how sure it is, first seed, beside what calibrated probabilities would give.

    Args:
        test: predictions by the arm's name.
        chosen: the arms that are drawn.
    """
    across = min(len(chosen), 3)
    down = -(-len(chosen) // across)
    with inked():
        figure = Figure(figsize=(0.6 + 2.7 * across, 2.9 * down), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat
        for axes, name in itertools.zip_longest(panels, chosen):
            if name is None:
                axes.set_axis_off()
                continue
            bins = reliability(test[name].probabilities[0], test[name].labels, equal_mass=True)
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
            axes.fill_between(bins["confidence"], bins["null_low"], bins["null_high"], color=FAINT, alpha=0.3, linewidth=0)
            axes.vlines(bins["confidence"], bins["low"], bins["high"], color="#d24a43", linewidth=1)
            axes.plot(bins["confidence"], bins["accuracy"], "o-", color="#d24a43", markersize=4, linewidth=1)
            axes.set_title(name, fontsize=9, color=INK)
            axes.set_xlim(1 / len(test[name].classes) - 0.02, 1.01)
            axes.set_ylim(min(0.3, float(np.nanmin(bins["low"]))), 1.02)
            plain(axes)
        figure.supxlabel("confidence: probability of the predicted class", fontsize=9)
        figure.supylabel("share that is right", fontsize=9)
    return figure

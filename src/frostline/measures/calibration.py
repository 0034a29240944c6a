"""Whether a model is right as often as it says (methods notes, 9.3).

A calibrated model has an expected calibration error above 0 as well, since bins are finite: 0.012 for 1,000 sentences. So it
stands beside what it would be if the model were calibrated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from frostline.measures.scores import nll

TEMPERATURES = (0.01, 100.0)  # how far one is looked for
CHUNK_CELLS = 2_000_000  # resamples x sentences held at once: about 16 MB an array


class CalibratedNull(NamedTuple):
    """The expected calibration error that a calibrated model would have on as many sentences: its mean and 95th percentile."""

    mean: float
    p95: float


def tempered(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities ``softmax(logits / temperature)``, ``[sentences, classes]``."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def expected_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15, equal_mass: bool = False
) -> float:
    """Return ``sum_b n_b / n |accuracy_b - confidence_b|``, 0 … 1 (Guo et al. 2017, eq. 3).

    Confidence is the largest probability. Of two classes it is at least 1/2, so that half of the bins of equal width are
    empty; those of equal mass are not.

    Args:
        probabilities: ``[sentences, classes]``, float64.
        labels: ``[sentences]``, 0 … classes-1.
        bins: how many.
        equal_mass: bins with as many sentences each (up to ties) in place of bins of equal width over (0, 1]. Either kind holds
            its upper bound and not its lower one.
    """
    confidence, correct = _answers(probabilities, labels)
    return float(_errors(confidence, correct[None], _bin_of(confidence, bins, equal_mass))[0])


def calibrated_null(
    probabilities: NDArray[np.float64], resamples: int = 1000, seed: int = 0, bins: int = 15, equal_mass: bool = False
) -> CalibratedNull:
    """Return what the expected calibration error would be if the model were calibrated: labels are drawn from what it says.

    Args:
        probabilities: ``[sentences, classes]``, float64.
        resamples: how often labels are drawn.
        seed: of the draws.
        bins: as in :func:`expected_calibration_error`.
        equal_mass: likewise.
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    of, random = _bin_of(confidence, bins, equal_mass), np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(confidence))
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    # a label that is drawn from the model is the one it names with the probability that it gives to it
    found = np.concatenate([_errors(confidence, random.random((size, len(confidence))) < confidence, of) for size in sizes])
    return CalibratedNull(float(found.mean()), float(np.quantile(found, 0.95)))


def brier(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean of ``||p - y||^2`` over sentences, 0 … 2: summed over classes, not divided by their number (Brier 1950).

    Args:
        probabilities: ``[sentences, classes]``, float64.
        labels: ``[sentences]``, 0 … classes-1.
    """
    return float(brier_score_loss(labels, probabilities, labels=range(probabilities.shape[1]), scale_by_half=False))


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the T > 0 that minimises the cross-entropy of ``logits / T`` (Guo et al. 2017); fit it on validation.

    Above 1 the model was too confident, below 1 not confident enough. No prediction changes.

    It is looked for in 0.01 … 100. If every sentence is classified correctly, the loss falls all the way to T = 0 and the
    lower bound is returned: then these sentences cannot say how sure the model should be. Where the right class has no higher
    logits than others on average, it is the upper bound. Logits that are equal for all classes have T = 1.

    Args:
        logits: ``[sentences, classes]``, float64.
        labels: ``[sentences]``, 0 … classes-1.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if not np.ptp(scores, axis=1).any():
        return 1.0
    bounds = np.log(TEMPERATURES)  # the loss is convex in 1 / T, so it has one minimum in log T as well
    found = minimize_scalar(lambda log_t: nll(scores / math.exp(log_t), truth), bounds=bounds, method="bounded")
    best = min([*bounds, found.x], key=lambda log_t: nll(scores / math.exp(log_t), truth))
    return math.exp(best)


def reliability(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15, equal_mass: bool = False
) -> pd.DataFrame:
    """Return a row a bin that holds sentences, by rising confidence.

    Its columns are ``confidence`` and ``accuracy`` (means), ``low`` and ``high`` (Wilson's 95 % interval of the accuracy), ``n``,
    and ``null_low`` and ``null_high``: the 5th and 95th percentile of the accuracy if the model were calibrated, binomial at the
    bin's confidence.

    Args:
        probabilities: ``[sentences, classes]``, float64.
        labels: ``[sentences]``, 0 … classes-1.
        bins: as in :func:`expected_calibration_error`.
        equal_mass: likewise.
    """
    confidence, correct = _answers(probabilities, labels)
    answers = pd.DataFrame({"confidence": confidence, "correct": correct})
    table = answers.groupby(_bin_of(confidence, bins, equal_mass)).agg(
        confidence=("confidence", "mean"), accuracy=("correct", "mean"), right=("correct", "sum"), n=("correct", "size")
    )
    intervals = [wilson(int(right), int(n)) for right, n in zip(table["right"], table["n"], strict=True)]
    table["low"], table["high"] = np.transpose(intervals)
    for name, share in (("null_low", 0.05), ("null_high", 0.95)):
        table[name] = stats.binom.ppf(share, table["n"], table["confidence"].clip(upper=1)) / table["n"]
    return table[["confidence", "accuracy", "low", "high", "n", "null_low", "null_high"]].reset_index(drop=True)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    low, high = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def _answers(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The largest probability of each sentence, and whether it is the right class's."""
    said, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if said.ndim != 2 or truth.shape != said.shape[:1] or said.size == 0:
        raise ValueError(f"expected [sentences, classes] and [sentences], but the shapes are {said.shape} and {truth.shape}")
    return said.max(axis=1), said.argmax(axis=1) == truth


def _bin_of(confidence: NDArray[np.float64], bins: int, equal_mass: bool) -> NDArray[np.int64]:
    """The bin of each sentence, 0 … bins-1; each is (lower, upper]."""
    shares = np.arange(1, bins) / bins
    inner = np.quantile(confidence, shares, method="inverted_cdf") if equal_mass else shares
    return np.searchsorted(inner, confidence, side="left")


def _errors(confidence: NDArray[np.float64], correct: NDArray[np.bool_], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """The expected calibration error of each row of ``correct``, ``[rows, sentences]`` to ``[rows]``."""
    member = np.eye(of.max() + 1)[of]  # [sentences, bins]
    return np.asarray(np.abs((correct - confidence) @ member).sum(axis=1) / len(confidence))

"""How a classifier's errors and scores differ between groups of sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

FEWEST = 10  # examples that a rate rests on: for fewer no number is given

Row = tuple[str, float | None, int]


def group_gaps(label: NDArray[np.int64], score: NDArray[np.float64], groups: NDArray[np.str_]) -> Iterator[Row]:
    """Yield names, values and counts: gaps between groups, then what is said of each group.

    A value that would rest on fewer than 10 examples is None, and the count says on how few. Areas under the curve and equality
    gaps are those of Borkan et al. (2019): BPSN (background positive, subgroup negative) is low where a group's negative
    sentences score as high as others' positive ones, so that the group is wrongly taken for positive; BNSP (background negative,
    subgroup positive) where it is wrongly taken for negative.

    Args:
        label: 1 for the last class, ``[sentences]``, 0 for any other.
        score: probability of the last class, ``[sentences]``.
        groups: names, ``[sentences]``.
    """
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    positive, said, names = label == 1, score > 0.5, np.unique(groups)
    cells = [(groups == group) & (positive == of) for group in names for of in (True, False)]
    fewest, smallest = min(int(cell.sum()) for cell in cells), min(int((groups == group).sum()) for group in names)
    shared = {"y_true": positive.astype(int), "y_pred": said.astype(int), "sensitive_features": groups}
    yield _row("demographic_parity_difference", lambda: demographic_parity_difference(**shared), smallest)
    yield _row("equalized_odds_difference", lambda: equalized_odds_difference(**shared), fewest)
    yield _row("worst_group_accuracy", lambda: min((said == positive)[cell].mean() for cell in cells), fewest)
    for group in names:
        of, name = groups == group, str(group).replace(" ", "_")
        yield _row(f"{name}.accuracy", partial(np.mean, (said == positive)[of]), int(of.sum()))
        yield _row(f"{name}.calibration_gap", partial(np.mean, (score - positive)[of]), int(of.sum()))
        for statistic, rows in areas(positive, of).items():
            fewer = min(int(positive[rows].sum()), int((~positive[rows]).sum()))
            yield _row(f"{name}.{statistic}", partial(roc_auc_score, positive[rows], score[rows]), fewer)
        for statistic, side in (("positive_equality_gap", positive), ("negative_equality_gap", ~positive)):
            fewer = min(int((side & of).sum()), int((side & ~of).sum()))
            yield _row(f"{name}.{statistic}", partial(equality_gap, score[side & of], score[side & ~of]), fewer)


def _row(name: str, value: Callable[[], Any], n: int) -> Row:
    return name, float(value()) if n >= FEWEST else None, n


def areas(positive: NDArray[np.bool_], of: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Return the rows on which each of a group's areas under the curve is computed.

    Args:
        positive: ``[sentences]``.
        of: whether they are of the group, ``[sentences]``; the others are the background.
    """
    return {"subgroup_auc": of, "bpsn_auc": (~of & positive) | (of & ~positive), "bnsp_auc": (~of & ~positive) | (of & positive)}


def equality_gap(group: NDArray[np.float64], background: NDArray[np.float64]) -> float:
    """Return the average equality gap, ``1/2 - P(background < group) - 1/2 P(equal)``.

    It is 0 where both score alike, and negative where the group's scores are the higher ones.
    """
    order = np.concatenate([np.zeros(len(background)), np.ones(len(group))])
    return 0.5 - float(roc_auc_score(order, np.concatenate([background, group])))

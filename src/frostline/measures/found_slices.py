"""Kinds of sentences on which a model errs more, found in its errors: on one half of them, and confirmed on the other.

Whoever looks for slices among errors always finds some. So a small tree is grown on one half of the sentences, and each leaf with
more errors than average is tested on the half that the tree has not seen (methods notes, 9.5; compare Chung et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.tree import DecisionTreeClassifier

from frostline.measures.calibration import wilson
from frostline.measures.slices import FEWEST, has_many_numbers, own_columns, values_of, wording, words_of

Condition = tuple[str, str, float]  # a column of features, "<=" or ">", a bound
COLUMNS = ["slice", "n", "error_rate", "low", "high", "error_rate_of_rest", "p", "p_fdr", "confirmed"]


def slice_features(sentences: pd.DataFrame, confidence: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """Return what slices are looked for in: what the declared ones are made of, as numbers where it is, label and confidence.

    Args:
        sentences: as in :func:`frostline.measures.slices.declared_slices`, perhaps with ``label``, the classes' names or numbers.
        confidence: largest probability of each prediction, ``[sentences]``.
    """
    features: dict[str, Any] = {"words": words_of(sentences), **wording(sentences)}
    if "rating" in sentences:
        features["strength of rating"] = sentences["rating"].abs()
    if "unknown_words" in sentences:
        features["share of unknown words"] = sentences["unknown_words"]
    for name, values in own_columns(sentences).items():
        features |= {name: values} if has_many_numbers(values) else values_of(name, values)
    if "label" in sentences:
        features["label"] = sentences["label"].astype(str)
    if confidence is not None:
        features["confidence"] = confidence
    return pd.DataFrame(features, index=sentences.index)


def found_slices(features: pd.DataFrame, errors: NDArray[Any], seed: int = 0, depth: int = 2) -> pd.DataFrame:
    """Look for slices with more errors than elsewhere in one half of the sentences, and test them on the other.

    The halves are drawn by sentence; sentences of one document may lie on both sides. A leaf needs 30 sentences in either half.
    The test is Fisher's, one-sided: more errors in the slice than in the rest of the confirming half; the false discovery rate
    over the leaves of the tree is Benjamini & Hochberg's.

    Args:
        features: a row a sentence: truth values, numbers and words (a word's values are told apart one against the others). A
            column with missing values is not looked at.
        errors: whether each sentence was classified wrongly, ``[sentences]``.
        seed: of the halves and of ties in the tree.
        depth: of the tree: how many conditions describe a slice at most.

    Returns:
        A row a slice that was found, the clearest first: ``slice`` in words, and of the confirming half ``n``, ``error_rate``
        with Wilson's 95 % interval ``low`` and ``high``, ``error_rate_of_rest``, ``p``, ``p_fdr`` and ``confirmed``, whether that
        is at most 0.05. Empty where the first half suggests none.

    Raises:
        ValueError: the two are not of the same sentences.
    """
    wrong = np.asarray(errors, dtype=bool)
    if wrong.shape != (len(features),):
        raise ValueError(f"expected the same sentences, but there are {len(features)} and errors of shape {wrong.shape}")
    whole = features.dropna(axis=1)
    order = np.random.default_rng(seed).permutation(len(wrong))
    discover, confirm = order[: len(order) // 2], order[len(order) // 2 :]
    if len(discover) < 2 * FEWEST or whole.empty or wrong[discover].all() or not wrong[discover].any():
        return pd.DataFrame(columns=COLUMNS)
    columns = pd.get_dummies(whole, prefix_sep=" = ")
    table = columns.to_numpy(dtype=np.float64)
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=FEWEST, random_state=seed)
    tree.fit(table[discover], wrong[discover])
    rows = []
    for leaf, conditions in _leaves(tree, columns):
        suggested, inside = (tree.apply(table[half]) == leaf for half in (discover, confirm))
        if conditions and wrong[discover][suggested].mean() > wrong[discover].mean() and inside.sum() >= FEWEST:
            rows.append({"slice": in_words(conditions, columns), **_confirmed(wrong[confirm], inside)})
    found = pd.DataFrame(rows, columns=COLUMNS)
    if len(found):
        found["p_fdr"] = stats.false_discovery_control(found["p"])
        found["confirmed"] = found["p_fdr"] <= 0.05
    return found.sort_values("p", ignore_index=True)


def _confirmed(wrong: NDArray[np.bool_], inside: NDArray[np.bool_]) -> dict[str, float]:
    """What the confirming half says of a slice."""
    within, without = wrong[inside], wrong[~inside]
    low, high = wilson(int(within.sum()), len(within))
    counts = [[within.sum(), (~within).sum()], [without.sum(), (~without).sum()]]
    rest = float(without.mean()) if len(without) else np.nan
    p = float(stats.fisher_exact(counts, alternative="greater").pvalue)
    return {"n": len(within), "error_rate": float(within.mean()), "low": low, "high": high, "error_rate_of_rest": rest, "p": p}


def _leaves(tree: DecisionTreeClassifier, columns: pd.DataFrame) -> Iterator[tuple[int, list[Condition]]]:
    """Each leaf of a tree with the conditions that lead to it."""
    nodes = tree.tree_
    waiting: list[tuple[int, list[Condition]]] = [(0, [])]
    while waiting:
        node, conditions = waiting.pop()
        if nodes.children_left[node] < 0:
            yield node, conditions
            continue
        name, bound = str(columns.columns[nodes.feature[node]]), float(nodes.threshold[node])
        waiting.append((nodes.children_right[node], [*conditions, (name, ">", bound)]))
        waiting.append((nodes.children_left[node], [*conditions, (name, "<=", bound)]))


def in_words(conditions: list[Condition], columns: pd.DataFrame) -> str:
    """Return conditions as ``words > 18 and without negation``."""
    return " and ".join(dict.fromkeys(_in_words(condition, columns) for condition in conditions))


def _in_words(condition: Condition, columns: pd.DataFrame) -> str:
    name, sign, bound = condition
    values = columns[name]
    if pd.api.types.is_bool_dtype(values):
        if " = " in name:
            return name if sign == ">" else name.replace(" = ", " is not ", 1)
        return name if sign == ">" else f"without {name}"
    if pd.api.types.is_integer_dtype(values):
        return f"{name} {sign} {int(np.floor(bound))}"
    return f"{name} {sign} {bound:.3g}"

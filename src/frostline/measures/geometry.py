"""``measure=geometry``: what training did to the space, the pretrained against the adapted encoder on the same sentences.

Every statistic of one space also stands as a ``…_change`` against the pretrained encoder's. Intervals are jackknifed over
sentences; how much seeds vary is seen from several runs (the sweep's page).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from frostline.errors import FrostlineError
from frostline.measures.attention import compare_attention
from frostline.measures.separation import fisher_ratio, neural_collapse, silhouette
from frostline.measures.shape import (
    anisotropy,
    intrinsic_dimension,
    isoscore,
    outlier_dimensions,
    participation_ratio,
    without_dimensions,
)
from frostline.measures.similarity import (
    cka,
    cka_debiased,
    cka_debiased_interval,
    neighbour_overlap,
    procrustes,
    procrustes_held_out,
    rsa,
)
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.schema import GeometryMeasure

LEAST_SENTENCES = 20
Space = NDArray[np.float64]  # [sentences, width]


def measure_geometry(subject: Subject, config: GeometryMeasure) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the encoder that a run ended with to the one that it started from.

    Args:
        subject: the run.
        config: which sentences, and how many for what.

    Returns:
        the measure's table, and the sentences in two dimensions: ``text, label, before_x, before_y, after_x, after_y``, by one
        principal component analysis fitted on both spaces at the layer and pooling that the run's head reads.

    Raises:
        FrostlineError: there are too few sentences. A statistic that is not defined for these sentences is left out, with a
            warning.
    """
    split = subject.data.splits[config.split]
    if len(split) < LEAST_SENTENCES:
        raise FrostlineError(
            f"measure=geometry needs at least {LEAST_SENTENCES} sentences, but the {config.split} split has {len(split)}; choose "
            "another with measure.geometry.split=…."
        )
    rows = np.sort(np.random.default_rng(config.seed).permutation(len(split))[: config.sentences])
    sentences = split.select(rows)
    tokens = subject.tokenise(sentences, f"{subject.data.hashes[config.split]} {config.seed} {len(rows)}")
    own = subject.config.model.pooling
    poolings = [*config.poolings, *({own} - {*config.poolings})]
    before = {p: states["all"] for p, states in subject.pooled(subject.pretrained, {"all": tokens}, poolings).items()}
    after = before
    if subject.is_adapted:
        after = {p: states["all"] for p, states in subject.pooled(subject.adapted, {"all": tokens}, poolings).items()}

    table, labels = MeasureTable("geometry"), np.asarray(sentences["label"][:])
    for pooling in poolings:
        for layer, (was, now) in enumerate(zip(before[pooling], after[pooling], strict=True)):
            at, x = _At(table, layer, pooling), _space(was)
            y = x if was.equal(now) else _space(now)
            _similarity(at, x, y, config)
            _shape(at, x, y)
            _separation(at, x, y, labels)
    _collapse(table, subject, _space(after[own][subject.layer]), labels)
    _summary(table, subject)
    if config.attention_sentences:
        with table.leaving_out("attention"):
            _attention(table, subject, tokens, list(range(min(len(rows), config.attention_sentences))))
    names = [subject.data.class_names[number] for number in labels]
    return table.frame(), _projection(sentences["text"][:], names, before[own][subject.layer], after[own][subject.layer])


class _At:
    """One layer and pooling of the table."""

    def __init__(self, table: MeasureTable, layer: int, pooling: str):
        self.table, self.layer, self.pooling = table, layer, pooling

    def add(self, statistic: str, value: Any, null: float | None = None, n: int | None = None) -> None:
        self.table.add(statistic, value, self.layer, self.pooling, null, n)

    def change(self, statistic: str, of: Callable[[Space], float], x: Space, y: Space, null: float | None = None) -> None:
        """Add a statistic of the adapted space, and its change."""
        with self.table.leaving_out(f"{statistic} at layer {self.layer} under {self.pooling} pooling"):
            now = of(y)
            was = now if x is y else of(x)  # frozen below this layer: the same states
            self.add(statistic, now, null, len(y))
            self.add(f"{statistic}_change", now - was, 0.0, len(y))


def _similarity(at: _At, x: Space, y: Space, config: GeometryMeasure) -> None:
    n, k = len(x), config.neighbours
    width = x.shape[1]
    at.add("cka_debiased", cka_debiased_interval(x, y), 0.0, n)
    at.add("cka_biased", cka(x, y), width / (n + width), n)
    outliers = np.union1d(outlier_dimensions(x), outlier_dimensions(y))
    at.add("outlier_dimensions", len(outlier_dimensions(y)), n=n)
    typical = without_dimensions(x, outliers), without_dimensions(y, outliers)
    at.add("cka_debiased_without_outliers", cka_debiased(*typical), 0.0, n)

    parts = procrustes(x, y)
    spread = float(((x - x.mean(axis=0)) ** 2).sum())
    for name in ("translation", "rotation", "scale", "residual", "total"):
        value = getattr(parts, name)
        at.add(f"procrustes_{name}", value / spread if spread > 0 else None, 0.0, n)
    at.add("procrustes_scaling", parts.scaling, 1.0, n)
    at.add("procrustes_unexplained_held_out", procrustes_held_out(x, y, config.seed), 1.0, n)

    few = slice(0, config.distance_sentences)
    at.add("representational_similarity", rsa(x[few], y[few]), 0.0, len(x[few]))
    if n > k:
        shared = k * k / (n - 1)  # neighbours that two random sets have in common
        at.add("neighbour_overlap", neighbour_overlap(x, y, k), shared / (2 * k - shared), n)


def _shape(at: _At, x: Space, y: Space) -> None:
    n, width = y.shape
    at.change("anisotropy", anisotropy, x, y, null=0.0)
    at.change("anisotropy_centred", lambda space: anisotropy(space - space.mean(axis=0)), x, y, null=-1 / (n - 1))
    at.change("participation_ratio", participation_ratio, x, y, null=n * width / (n + width))
    at.change("isoscore", isoscore, x, y, null=n / (n + width))
    at.change("intrinsic_dimension", lambda space: intrinsic_dimension(space).dimension, x, y)
    at.change("spread", lambda space: float(space.var(axis=0).sum()), x, y)


def _separation(at: _At, x: Space, y: Space, labels: NDArray[np.int64]) -> None:
    n, classes = len(labels), len(np.unique(labels))
    at.change("fisher_ratio", partial(fisher_ratio, labels=labels), x, y, null=(classes - 1) / (n - classes))
    at.change("silhouette", partial(silhouette, labels=labels), x, y, null=0.0)


def _collapse(table: MeasureTable, subject: Subject, y: Space, labels: NDArray[np.int64]) -> None:
    """Neural collapse at the layer that the head reads, as the head sees it."""
    head = {name: tensor.double().numpy() for name, tensor in subject.head.items()}
    if "mean" in head:
        y = (y - head["mean"]) / head["scale"]
    with table.leaving_out("neural collapse"):
        found = neural_collapse(y, labels, head["weight"], head["bias"])
        for name in ("nc1", "nc2_equinorm", "nc2_equiangle", "nc3", "nc4"):
            value = getattr(found, name)
            if value is not None:
                table.add(name, value, subject.layer, subject.config.model.pooling, n=len(y))


def _summary(table: MeasureTable, subject: Subject) -> None:
    """The few numbers that stand in a sweep's table: those of the last layer under the run's own pooling."""
    for name in ("cka_debiased", "procrustes_rotation", "procrustes_total", "anisotropy_change", "fisher_ratio_change"):
        for row in list(table.rows):
            place = (row["statistic"], row["layer"], row["pooling"])
            if place == (name, subject.adapted.blocks, subject.config.model.pooling):
                table.rows.append(row | {"layer": None, "pooling": None, "statistic": f"last_layer_{name}"})


def _attention(table: MeasureTable, subject: Subject, tokens: Any, rows: list[int]) -> None:
    heads = compare_attention(subject.pretrained.model, subject.adapted.model, tokens, rows)
    for layer, (was, now, divergence) in enumerate(
        zip(heads.entropy_before, heads.entropy_after, heads.divergence, strict=True), start=1
    ):
        for name, values, null in (
            ("attention_entropy", now, None),
            ("attention_entropy_change", now - was, 0.0),
            ("attention_divergence", divergence, 0.0),
        ):
            table.add(name, float(values.mean()), layer, null=null, n=len(rows))
            for head, value in enumerate(values):
                table.add(f"{name}.head_{head}", float(value), layer, null=null, n=len(rows))


def _projection(texts: list[str], labels: list[str], before: Tensor, after: Tensor) -> pd.DataFrame:
    both = np.concatenate([before.double().numpy(), after.double().numpy()])
    places = PCA(n_components=2, svd_solver="full").fit_transform(both)
    was, now = places[: len(texts)], places[len(texts) :]
    columns = {"before_x": was[:, 0], "before_y": was[:, 1], "after_x": now[:, 0], "after_y": now[:, 1]}
    return pd.DataFrame({"text": texts, "label": labels} | columns)


def _space(states: Tensor) -> Space:
    return states.double().numpy()

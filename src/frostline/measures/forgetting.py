"""``measure=forgetting``: what the encoder that a run ended with no longer knows of what the pretrained one knew.

Everything stands for the adapted encoder, and as a ``…_change`` against the pretrained one; where nothing below the head was
trained, every change is exactly 0. Probes come in three kinds (methods notes, 6.1): *fixed*, fitted on the pretrained space and
applied to the adapted one; *aligned*, the same after an orthogonal Procrustes map back; *retrained* on the adapted space. A fixed
probe that collapses while the retrained one does not means that the space was turned, not that anything was forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.domains import general_texts, halves, packaged
from frostline.data.tokens import Tokens
from frostline.encoder.families import family_of, layer_of
from frostline.encoder.load import Pretrained
from frostline.encoder.masking import mask_words, one_mask_at_a_time
from frostline.encoder.reading import OwnHead, ReadingHead, own_head, reading_head, reading_losses
from frostline.errors import FrostlineError
from frostline.measures.layer_probes import fit_probes
from frostline.measures.pairs import cosines, make_pairs, rank_correlation, reciprocal_ranks
from frostline.measures.probing_tasks import SHARES, make_task
from frostline.measures.similarity import neighbour_overlap, procrustes
from frostline.measures.statistics import hierarchical_bootstrap, jackknife, paired_difference
from frostline.measures.subject import Subject, with_weights
from frostline.measures.table import MeasureTable
from frostline.schema import ForgettingMeasure, PackagedData
from frostline.strategies.probe import choose_strength, standardisation, standardised
from frostline.strategies.probes import exact_probes
from frostline.strategies.rehearsal import SENTENCES
from frostline.strategies.remedies import interpolate

Splits = dict[str, Tensor]  # of one layer, per split [sentences, width]


def measure_forgetting(subject: Subject, config: ForgettingMeasure) -> pd.DataFrame:
    """Compare what the pretrained and the adapted encoder know.

    Args:
        subject: the run.
        config: of what, and on how many sentences.

    Returns:
        the measure's table. What cannot be measured is left out, with a warning.
    """
    table = MeasureTable("forgetting")
    _weights(table, subject)
    for name in config.tasks:
        with table.leaving_out(name):
            _probes(table, subject, config, name)
    _mean_over_tasks(table, config.tasks)
    with table.leaving_out("similarity"):
        _similarity(table, subject, config)
    if config.reading_sentences:
        with table.leaving_out("reading"):
            _reading(table, subject, config)
    with table.leaving_out("other domains"):
        _domains(table, subject, config)
    if subject.is_adapted and config.path:
        with table.leaving_out("the path from the pretrained encoder"):
            _path(table, subject, config)
    return table.frame()


# --- weights --------------------------------------------------------------------------------------------------------------


def _weights(table: MeasureTable, subject: Subject) -> None:
    """How far each layer's weights moved, as a share of their norm; and all of them."""
    moved: dict[int | None, list[tuple[float, float]]] = {}
    after, family = dict(subject.adapted.model.named_parameters()), family_of(subject.pretrained.model.config.model_type)
    for name, weight in subject.pretrained.model.named_parameters():
        squares = float((after[name] - weight).double().square().sum()), float(weight.double().square().sum())
        moved.setdefault(layer_of(name, family), []).append(squares)
    for layer in sorted(layer for layer in moved if layer is not None):
        change, size = map(sum, zip(*moved[layer], strict=True))
        table.add("weight_distance", (change / size) ** 0.5, layer, null=0.0)
    change, size = map(sum, zip(*(squares for parts in moved.values() for squares in parts), strict=True))
    table.add("weight_distance", (change / size) ** 0.5, null=0.0)


# --- probes -----------------------------------------------------------------------------------------------------------------


def _probes(table: MeasureTable, subject: Subject, config: ForgettingMeasure, name: str) -> None:
    made = make_task(name, subject.all_texts(), config.task_sentences, config.seed)
    texts = {split: [made.texts[row] for row in made.rows(split)] for split in SHARES}
    labels = {split: torch.from_numpy(made.labels[made.rows(split)]) for split in SHARES}
    before, after = _both(subject, texts)
    was = _fixed_probe(before, labels, len(made.classes), config.C_grid)
    n, majority = len(labels["test"]), float(torch.bincount(labels["test"]).max() / len(labels["test"]))
    pretrained = was(before["test"])
    correct = {kind: pretrained for kind in ("fixed", "aligned", "retrained")}
    if after is not before:
        correct["fixed"] = was(after["test"])
        correct["aligned"] = was(_aligned(before["train"], after["train"], after["test"]))
        stacked = {split: states[None] for split, states in after.items()}
        correct["retrained"] = fit_probes(stacked, labels, len(made.classes), tuple(config.C_grid))[0].correct
    layer, pooling = subject.adapted.blocks, subject.config.model.pooling
    table.add(f"{name}.pretrained_probe_accuracy", hierarchical_bootstrap(pretrained[None]), layer, pooling, majority, n)
    for kind, right in correct.items():
        table.add(f"{name}.{kind}_probe_accuracy", hierarchical_bootstrap(right[None]), layer, pooling, majority, n)
        change = paired_difference(right[None], pretrained[None])
        table.add(f"{name}.{kind}_probe_accuracy_change", change, layer, pooling, 0.0, n)


def _fixed_probe(train: Splits, labels: Splits, classes: int, C_grid: Sequence[float]) -> _Probe:
    fit, check = standardised(train["train"], train["validation"])
    C = choose_strength(fit, check, labels["train"], labels["validation"], C_grid, True, classes).C
    (((weight,),), ((bias,),)) = exact_probes(fit[None], labels["train"], classes, [C])
    return _Probe(*standardisation(train["train"]), weight, bias, labels["test"])


class _Probe:
    """A probe with its standardisation; called, it says which of the test sentences it gets right in some space."""

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, labels: Tensor):
        self.mean, self.scale, self.weight, self.bias, self.labels = mean, scale, weight, bias, labels

    def __call__(self, states: Tensor) -> NDArray[np.bool_]:
        logits = F.linear((states.double() - self.mean) / self.scale, self.weight, self.bias)
        correct: NDArray[np.bool_] = (logits.argmax(dim=1) == self.labels).numpy()
        return correct


def _aligned(before: Tensor, after: Tensor, states: Tensor) -> Tensor:
    """Map states of the adapted space back by the translation, rotation and scale that fit best on other sentences."""
    x, y = after.double().numpy(), before.double().numpy()
    fit = procrustes(x, y)
    mapped = fit.scaling * (states.double().numpy() - x.mean(axis=0)) @ fit.rotation_matrix + y.mean(axis=0)
    return torch.from_numpy(mapped)


def _mean_over_tasks(table: MeasureTable, tasks: Sequence[str]) -> None:
    """The few numbers that stand in a sweep's table."""
    for kind in ("fixed", "aligned", "retrained"):
        names = [f"{task}.{kind}_probe_accuracy_change" for task in tasks]
        found = [row["value"] for row in table.rows if row["statistic"] in names]
        if found:
            table.add(f"{kind}_probe_accuracy_change", float(np.mean(found)), null=0.0, n=len(found))


# --- similarity and reading ---------------------------------------------------------------------------------------------------


def _similarity(table: MeasureTable, subject: Subject, config: ForgettingMeasure) -> None:
    """What a sentence encoder was pretrained for, without any training: zero-shot retention."""
    pairs = make_pairs(general_texts(subject.config.data, _cache_dir(subject), to_measure=True), config.sentences, config.seed)
    texts = {"own": pairs.sentences, "changed": pairs.changed, "first": pairs.halves[0], "second": pairs.halves[1]}
    before, after = _both(subject, texts)
    spaces = [{name: states.double().numpy() for name, states in encoded.items()} for encoded in (before, after)]
    likeness, n = pairs.likeness, len(pairs.likeness)
    was, now = (cosines(space["own"], space["changed"]) for space in spaces)
    table.add("similarity_correlation", jackknife(rank_correlation, (now, likeness)), null=0.0, n=n)
    lost = jackknife(lambda a, b, gold: rank_correlation(a, gold) - rank_correlation(b, gold), (now, was, likeness))
    table.add("similarity_correlation_change", lost, null=0.0, n=n)
    was, now = (reciprocal_ranks(space["first"], space["second"]) for space in spaces)
    by_chance = float((1 / np.arange(1, n + 1)).mean())
    table.add("halves_reciprocal_rank", hierarchical_bootstrap(now[None]), null=by_chance, n=n)
    table.add("halves_reciprocal_rank_change", paired_difference(now[None], was[None]), null=0.0, n=n)
    if n > (k := config.neighbours):
        shared = k * k / (n - 1)
        overlap = neighbour_overlap(spaces[0]["own"], spaces[1]["own"], k)
        table.add("neighbour_overlap", overlap, null=shared / (2 * k - shared), n=n)
        table.add("neighbour_overlap_change", overlap - 1, null=0.0, n=n)


def _reading(table: MeasureTable, subject: Subject, config: ForgettingMeasure) -> None:
    """The loss of guessing masked words of general text, by the model's own head or one fitted on the pretrained encoder."""
    data, base, cache_dir = subject.config.data, subject.pretrained, _cache_dir(subject)
    own = subject.once("own head", (subject.config.model, cache_dir), lambda: own_head(subject.config.model, cache_dir))
    head: OwnHead | ReadingHead
    if own is not None:
        head = own
    else:
        texts = general_texts(data, cache_dir, to_measure=False)[:SENTENCES]
        show = subject.config.trainer.progress_bar
        head = reading_head(base, texts, data.max_length, cache_dir, subject.device, show)
    random = np.random.default_rng(config.seed)
    texts = general_texts(data, cache_dir, to_measure=True)
    texts = [texts[i] for i in random.permutation(len(texts))[: config.reading_sentences]]
    masked = mask_words(texts, base, data.max_length, cache_dir, config.seed)
    whole = [("reading_loss", masked, False)]
    if config.pseudo_perplexity_sentences:
        whole.append(("pseudo_perplexity", one_mask_at_a_time(masked, base, config.pseudo_perplexity_sentences), True))
    for name, text, exponentiate in whole:
        was = reading_losses(base.model, head, text, subject.device)
        now = reading_losses(subject.adapted.model, head, text, subject.device) if subject.is_adapted else was
        sentence = np.searchsorted(text.tokens.offsets, text.places, side="right")
        _, sentence = np.unique(sentence, return_inverse=True)
        counts = np.bincount(sentence).astype(float)
        sums = [np.bincount(sentence, losses) for losses in (now, was)]

        def mean(total: NDArray[np.float64], count: NDArray[np.float64], exponentiate: bool = exponentiate) -> float:
            found = float(total.sum() / count.sum())
            return float(np.exp(found)) if exponentiate else found

        frequencies = np.bincount(text.words.numpy()) + 1.0
        unigram = -np.log(frequencies[text.words.numpy()] / frequencies.sum()).mean()
        null = float(np.exp(unigram)) if exponentiate else float(unigram)
        table.add(name, jackknife(mean, (sums[0], counts)), null=null, n=len(text.places))
        change = jackknife(lambda a, b, c: mean(a, c) - mean(b, c), (*sums, counts))
        table.add(f"{name}_change", change, null=0.0, n=len(text.places))


# --- other domains, and the path ------------------------------------------------------------------------------------------------


def _domains(table: MeasureTable, subject: Subject, config: ForgettingMeasure) -> None:
    """The run's classifier on domains that it was not trained on, against a converged probe on the pretrained encoder."""
    domains = _domain_sentences(subject, config)
    tokens = {name: subject.tokenise_texts(split["text"][:]) for name, split in domains.items()}
    tokens["test"] = subject.tokens("test")
    labels = {name: _numbers(split["label"][:], subject.data.class_names) for name, split in domains.items()}
    labels["test"] = subject.labels("test")
    now = _right(subject.logits(subject.adapted, tokens), labels)
    was = now if not subject.is_adapted else _right(_probe_logits(subject, tokens, config.C_grid), labels)
    for name in tokens:
        statistic = "in_domain_accuracy" if name == "test" else f"{name}.out_of_domain_accuracy"
        majority = float(torch.bincount(labels[name]).max() / len(labels[name]))
        table.add(statistic, hierarchical_bootstrap(now[name][None]), null=majority, n=len(now[name]))
        change = paired_difference(now[name][None], was[name][None])
        table.add(f"{statistic}_change", change, null=0.0, n=len(now[name]))
    accuracies = [(now[name].mean(), was[name].mean()) for name in domains]
    after, before = np.mean(accuracies, axis=0)
    table.add("out_of_domain_accuracy", float(after), n=sum(len(now[name]) for name in domains))
    table.add("out_of_domain_accuracy_change", float(after - before), null=0.0, n=sum(len(now[name]) for name in domains))


def _domain_sentences(subject: Subject, config: ForgettingMeasure) -> dict[str, datasets.Dataset]:
    data = subject.config.data
    if subject.data.class_names != ["negative", "positive"]:
        raise FrostlineError("they have the labels negative and positive, but the run's are others.")
    own = data.name if isinstance(data, PackagedData) else None
    weakest = data.min_abs_rating if isinstance(data, PackagedData) else 0.5
    names = [name for name in config.domains if name != own]
    if not names:
        raise FrostlineError("none but the run's own was chosen (measure.forgetting.domains).")
    found = {}
    for name in names:
        held_out = halves(packaged(name, data.split_seed, weakest), _cache_dir(subject))[1]
        rows = np.random.default_rng(config.seed).permutation(len(held_out))[: config.sentences]
        found[name] = held_out.select(np.sort(rows))
    return found


def _probe_logits(subject: Subject, tokens: dict[str, Tokens], C_grid: Sequence[float]) -> Splits:
    """What the converged probe on the pretrained encoder's last layer says, trained on the run's own training sentences."""
    pooling = subject.config.model.pooling
    wanted = {"train": subject.tokens("train"), "validation": subject.tokens("validation")} | tokens
    states = {name: layers[-1] for name, layers in subject.pooled(subject.pretrained, wanted, [pooling])[pooling].items()}
    train, check = standardised(states["train"], states["validation"])
    labels, classes = subject.labels("train"), subject.classes
    C = choose_strength(train, check, labels, subject.labels("validation"), C_grid, True, classes).C
    (((weight,),), ((bias,),)) = exact_probes(train[None], labels, classes, [C])
    mean, scale = standardisation(states["train"])
    return {name: F.linear((states[name].double() - mean) / scale, weight, bias) for name in tokens}


def _path(table: MeasureTable, subject: Subject, config: ForgettingMeasure) -> None:
    """WiSE-FT's path: encoders between the pretrained (alpha 0) and the adapted one (1), with the run's own head."""
    pairs = make_pairs(general_texts(subject.config.data, _cache_dir(subject), to_measure=True), config.sentences, config.seed)
    texts = {"own": pairs.sentences, "changed": pairs.changed}
    domains = _domain_sentences(subject, config) if config.domains else {}
    tokens = {name: subject.tokenise_texts(split["text"][:]) for name, split in domains.items()}
    tokens["test"] = subject.tokens("test")
    labels = {name: _numbers(split["label"][:], subject.data.class_names) for name, split in domains.items()}
    labels["test"] = subject.labels("test")
    start, end = (dict(encoder.model.state_dict()) for encoder in (subject.pretrained, subject.adapted))
    moved = {name: weight for name, weight in end.items() if weight.is_floating_point()}
    for alpha in config.path:
        encoder = with_weights(subject.pretrained, interpolate(start, moved, alpha))
        right = _right(subject.logits(encoder, tokens), labels)
        space = {name: states.double().numpy() for name, states in _encode(subject, encoder, texts).items()}
        kept = rank_correlation(cosines(space["own"], space["changed"]), pairs.likeness)
        at = f"alpha_{alpha:g}"
        table.add(f"{at}.in_domain_accuracy", hierarchical_bootstrap(right["test"][None]), n=len(right["test"]))
        if domains:
            table.add(f"{at}.out_of_domain_accuracy", float(np.mean([right[name].mean() for name in domains])))
        table.add(f"{at}.similarity_correlation", kept, n=len(pairs.likeness))


# --- internals --------------------------------------------------------------------------------------------------------------


def _both(subject: Subject, texts: dict[str, list[str]]) -> tuple[Splits, Splits]:
    """Return the last layer's pooled states of some texts before and after; the same object where nothing was trained."""
    before = _encode(subject, subject.pretrained, texts)
    return before, _encode(subject, subject.adapted, texts) if subject.is_adapted else before


def _encode(subject: Subject, encoder: Pretrained, texts: dict[str, list[str]]) -> Splits:
    pooling = subject.config.model.pooling
    tokens = {name: subject.tokenise_texts(lines) for name, lines in texts.items()}
    return {name: states[-1] for name, states in subject.pooled(encoder, tokens, [pooling])[pooling].items()}


def _right(logits: Splits, labels: Splits) -> dict[str, NDArray[np.bool_]]:
    return {name: (logits[name].argmax(dim=1) == labels[name]).numpy() for name in labels}


def _numbers(labels: Sequence[str], class_names: Sequence[str]) -> Tensor:
    return torch.tensor([class_names.index(label) for label in labels])


def _cache_dir(subject: Subject) -> Path:
    return Path(subject.config.paths.cache_dir)

"""``measure=layers``: what every layer knows, by linear probes on all layers and poolings from one pass over the texts.

A probe is the exact L2 logistic regression, its strength chosen on validation, read once on test. Beside it stand what it must
beat: the majority class, the same encoder with random weights (Alain & Bengio 2016), TF-IDF with logistic regression, and a
control task (Hewitt & Liang 2019). Statistics of other tasks than the run's own have the task in front: ``tense.probe_accuracy``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.conll import annotated_sentences
from frostline.data.splits import SPLITS
from frostline.encoder.load import Pretrained, weights_hash
from frostline.measures.codelength import online_codelength
from frostline.measures.controls import control_labels, control_token_labels, majority_accuracy, tfidf_correct, word_type_correct
from frostline.measures.layer_probes import LayerProbe, fit_probes
from frostline.measures.probing_tasks import make_task
from frostline.measures.scalar_mix import scalar_mix
from frostline.measures.statistics import hierarchical_bootstrap, paired_difference
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.measures.token_tasks import token_features, token_task
from frostline.schema import AssociationMeasure, LayersMeasure

Features = Mapping[str, Mapping[str, Tensor]]  # per pooling and split, [layers, sentences, width]


@dataclass(frozen=True)
class Task:
    """What is to be read off the representations.

    Attributes:
        prefix: of its statistics' names.
        labels: per split, class numbers, ``[n]``, int64.
        classes: how many.
        control: labels of its control task, likewise; None without baselines.
        bags: which test items a bag of words gets right, ``[test items]``; None without baselines.
    """

    prefix: str
    labels: dict[str, Tensor]
    classes: int
    control: dict[str, Tensor] | None = None
    bags: NDArray[np.bool_] | None = None


def measure_layers(subject: Subject, config: LayersMeasure) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Probe the encoder that a run ended with.

    Args:
        subject: the run.
        config: what to probe, and how.

    Returns:
        the measure's table, and for the run's own task a row a layer, pooling and test sentence: ``layer, pooling, index,
        correct``, from which runs can be compared sentence by sentence.

    Raises:
        FrostlineError: the run's own task cannot be probed. What else cannot be is left out, with a warning.
    """
    table, seed = MeasureTable("layers"), config.seed + subject.config.seed
    random = random_encoder(subject.pretrained, config.seed) if config.baselines else None
    predictions = _own_task(table, subject, config, seed, random)
    texts = subject.all_texts() if config.tasks else []
    for name in config.tasks:
        with table.leaving_out(name):
            _made_task(table, subject, config, name, texts, seed, random)
    with table.leaving_out("words with tags"):
        _token_tasks(table, subject, config, seed, random)
    return table.frame(), predictions


def own_pooling(subject: Subject, config: LayersMeasure | AssociationMeasure) -> str:
    """Return the pooling that what is measured under one only is measured under: the run's own if it is probed, or the first."""
    return subject.config.model.pooling if subject.config.model.pooling in config.poolings else config.poolings[0]


def random_encoder(pretrained: Pretrained, seed: int) -> Pretrained:
    """Return an encoder of the same architecture with random weights: what the architecture alone knows."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(pretrained.model.config).eval()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return dataclasses.replace(pretrained, model=model, name=f"{pretrained.name} (random)", weights_hash=weights_hash(model))


# --- the run's own task --------------------------------------------------------------------------------------------------


def _own_task(table: MeasureTable, subject: Subject, config: LayersMeasure, seed: int, random: Pretrained | None) -> pd.DataFrame:
    texts = {split: subject.data.splits[split]["text"][:] for split in SPLITS}
    tokens = {split: subject.tokens(split) for split in SPLITS}
    task = _with_baselines(Task("", {split: subject.labels(split) for split in SPLITS}, subject.classes), texts, config, seed)
    features = subject.pooled(subject.adapted, tokens, config.poolings)
    random_features = subject.pooled(random, tokens, config.poolings) if random else None
    pooling = own_pooling(subject, config)
    probes = _probe(table, task, features, config, pooling, random_features)
    _which_layer(table, probes)

    for layer, states in enumerate(features[pooling]["train"] if config.codelength_shuffles else ()):
        seeds = range(seed, seed + config.codelength_shuffles)
        code = online_codelength(states, task.labels["train"], task.classes, seeds, config.C_grid, config.standardize)
        table.add("codelength_bits", code.bits, layer, pooling, null=code.uniform_bits, n=len(states))
        table.add("compression", code.compression, layer, pooling, null=1.0, n=len(states))
    frames = [
        pd.DataFrame({"layer": layer, "pooling": pooling, "index": np.arange(len(probe.correct)), "correct": probe.correct})
        for (pooling, layer), probe in probes.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _which_layer(table: MeasureTable, probes: dict[tuple[str, int], LayerProbe]) -> None:
    """The answer that a user wants: the layer and pooling to use, chosen on validation, scored on test."""
    (pooling, layer), best = max(probes.items(), key=lambda item: item[1].rank)
    last = probes[pooling, max(layer for _, layer in probes)]
    n = len(best.correct)
    table.add("best_layer", layer, pooling=pooling, n=n)
    table.add("best_layer_accuracy", hierarchical_bootstrap(best.correct[None]), pooling=pooling, n=n)
    table.add("best_over_last_layer", paired_difference(best.correct[None], last.correct[None]), pooling=pooling, null=0.0, n=n)


# --- tasks made from the sentences, and tagged words ---------------------------------------------------------------------


def _made_task(
    table: MeasureTable,
    subject: Subject,
    config: LayersMeasure,
    name: str,
    all_texts: list[str],
    seed: int,
    random: Pretrained | None,
) -> None:
    made = make_task(name, all_texts, config.task_sentences, seed)
    texts = {split: [made.texts[row] for row in made.rows(split)] for split in SPLITS}
    labels = {split: torch.from_numpy(made.labels[made.rows(split)]) for split in SPLITS}
    task = _with_baselines(Task(f"{name}.", labels, len(made.classes)), texts, config, seed)
    tokens = {split: subject.tokenise_texts(lines) for split, lines in texts.items()}
    pooling = own_pooling(subject, config)
    random_features = subject.pooled(random, tokens, [pooling]) if random else None
    _probe(table, task, subject.pooled(subject.adapted, tokens, [pooling]), config, pooling, random_features)


def _token_tasks(table: MeasureTable, subject: Subject, config: LayersMeasure, seed: int, random: Pretrained | None) -> None:
    if not config.token_tasks:
        return
    sentences = annotated_sentences(config.annotated, Path(subject.config.paths.cache_dir))
    place = (subject.device, subject.config.trainer.precision)
    states = token_features(subject.adapted, sentences, *place)
    random_states = token_features(random, sentences, *place) if random else None
    for name in config.token_tasks:
        if name not in sentences[0].tags:
            continue  # a .conllu file has parts of speech only
        words = token_task(name, sentences, seed)
        labels = {split: torch.from_numpy(words.labels[words.rows(split)]) for split in SPLITS}
        task = Task(f"{name}.", labels, len(words.classes))
        if config.baselines:
            spelled = {split: [words.words[row] for row in words.rows(split)] for split in SPLITS}
            control = control_token_labels(spelled, labels, seed)
            task = dataclasses.replace(task, control=control, bags=word_type_correct(spelled, labels))

        def split_up(of_words: Tensor, words: Any = words) -> Features:
            return {"token": {split: of_words[:, words.positions[words.rows(split)]] for split in SPLITS}}

        _probe(table, task, split_up(states), config, "token", None if random_states is None else split_up(random_states))


# --- one task ------------------------------------------------------------------------------------------------------------


def _probe(
    table: MeasureTable, task: Task, features: Features, config: LayersMeasure, pooling: str, random_features: Features | None
) -> dict[tuple[str, int], LayerProbe]:
    """Add a task's rows, the mix of layers under ``pooling``; return its probes by pooling and layer."""
    majority, n = majority_accuracy(task.labels), len(task.labels["test"])
    table.add(f"{task.prefix}majority_accuracy", majority, n=n)
    if task.bags is not None:
        table.add(f"{task.prefix}tfidf_accuracy", hierarchical_bootstrap(task.bags[None]), null=majority, n=n)
    probes: dict[tuple[str, int], LayerProbe] = {}
    for name, states in features.items():
        found = _fit(states, task.labels, task.classes, config)
        randoms = _fit(random_features[name], task.labels, task.classes, config) if random_features else None
        controls = _fit(states, task.control, task.classes, config) if task.control else None
        for layer, probe in enumerate(found):
            probes[name, layer] = probe
            at: dict[str, Any] = {"layer": layer, "pooling": name, "n": n}
            table.add(f"{task.prefix}probe_accuracy", hierarchical_bootstrap(probe.correct[None]), null=majority, **at)
            table.add(f"{task.prefix}probe_validation_accuracy", probe.validation_accuracy, layer, name)
            table.add(f"{task.prefix}probe_C", probe.C, layer, name)
            if randoms:
                table.add(f"{task.prefix}random_encoder_accuracy", randoms[layer].accuracy, null=majority, **at)
            if controls:
                table.add(f"{task.prefix}control_accuracy", controls[layer].accuracy, **at)
                table.add(f"{task.prefix}selectivity", probe.accuracy - controls[layer].accuracy, null=0.0, **at)

    best = max((probe for (name, _), probe in probes.items() if name == pooling), key=lambda probe: probe.rank)
    mix = scalar_mix(features[pooling]["train"], task.labels["train"], task.classes, best.C)  # costs as much as ten probes
    table.add(f"{task.prefix}expected_layer", mix.expected_layer, pooling=pooling, null=(len(mix.weights) - 1) / 2)
    for layer, weight in enumerate(mix.weights):
        table.add(f"{task.prefix}scalar_mix_weight", weight, layer, pooling, null=1 / len(mix.weights))
    return probes


def _fit(states: Mapping[str, Tensor], labels: dict[str, Tensor], classes: int, config: LayersMeasure) -> list[LayerProbe]:
    return fit_probes(dict(states), labels, classes, tuple(config.C_grid), config.standardize)


def _with_baselines(task: Task, texts: dict[str, list[str]], config: LayersMeasure, seed: int) -> Task:
    if not config.baselines:
        return task
    bags = tfidf_correct(texts, task.labels)
    return dataclasses.replace(task, control=control_labels(texts, task.labels, seed), bags=bags)

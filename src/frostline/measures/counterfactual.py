"""``measure=counterfactual``: does the classifier say the same of sentences that differ in whom they name, or how they speak?

Pairs of sentences come from templates with exchanged terms, or from rules that rewrite the run's own test sentences. The unit is
a template with a pair of terms (or a sentence that was rewritten), since fillings of one template are not independent.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.group_gaps import group_gaps
from frostline.measures.statistics import hierarchical_bootstrap
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.schema import CounterfactualMeasure
from frostline.words import read_words, read_words_file

FEWEST = 5  # units: for fewer no p-value below 0.05 exists


@dataclass(frozen=True)
class Pairs:
    """Sentences in two versions.

    Attributes:
        first: as they are, or with the first group's term.
        second: rewritten, or with the second group's.
        unit: which of them belong together, ``[sentences]``.
        classes: the class that each should be given, by name; None where nobody says.
    """

    first: list[str]
    second: list[str]
    unit: NDArray[np.int64]
    classes: list[str] | None


def measure_counterfactual(subject: Subject, config: CounterfactualMeasure) -> pd.DataFrame:
    """Compare a run's predictions on pairs of sentences, and its errors between groups.

    Args:
        subject: the run.
        config: which sets, and which rules.

    Returns:
        the measure's table; probabilities are those of the last class, changes the second version minus the first. What cannot be
        measured is left out, with a warning.
    """
    table = MeasureTable("counterfactual")
    changes: dict[str, float] = {}
    sets = read_words("emotion") | read_words("identity") if config.words is None else read_words_file(Path(config.words))
    for name, given in sets.items():
        with table.leaving_out(name):
            pairs = from_templates(given)
            said = _probabilities(subject, pairs)
            changes[name] = _changes(table, name, pairs, *said)
            if pairs.classes is not None:
                label = _is_last(_numbers(pairs.classes, subject.data.class_names), subject)
                groups = np.repeat(list(given["groups"]), len(label))
                _gaps(table, name, np.tile(label, 2), np.concatenate(said), groups)
    if changes:
        table.add("mean_change_in_size", float(np.mean(np.abs(list(changes.values())))), null=0.0, n=len(changes))
    texts = list(dict.fromkeys(subject.data.splits["test"]["text"][:]))[: config.dialect_sentences]
    in_dialect: dict[str, float] = {}
    for name, given in (read_words("dialect") if config.dialect_sentences else {}).items():
        with table.leaving_out(name):
            pairs = from_rules(given, texts)
            in_dialect[name] = _changes(table, f"dialect.{name}", pairs, *_probabilities(subject, pairs))
    if in_dialect:
        table.add("dialect_mean_change", float(np.mean(list(in_dialect.values()))), null=0.0, n=len(in_dialect))
    if config.group_column is not None:
        with table.leaving_out("the groups of the test split"):
            _own_groups(table, subject, config.group_column)
    return table.frame()


def from_templates(given: Mapping[str, Any]) -> Pairs:
    """Return all sentences of a set of templates, in two versions.

    Args:
        given: ``templates`` with ``{person}`` and places for words, ``pairs`` of terms, ``fill``: for each place words by kind,
            and perhaps ``classes``: by kind, the class of the sentence.

    Raises:
        FrostlineError: something is missing, or a template has no place for a term.
    """
    templates, terms, fill = (_required(given, key) for key in ("templates", "pairs", "fill"))
    _required(given, "groups")
    classes = given.get("classes")
    rows: list[tuple[str, str, int, str | None]] = []
    for unit, (template, (first, second)) in enumerate(itertools.product(templates, terms)):
        if "{person}" not in template:
            raise FrostlineError(f"its template '{template}' has no place for a term, {{person}}.")
        for text, kind in _filled(template, fill):
            one, other = (_sentence(text.replace("{person}", term)) for term in (first, second))
            rows.append((one, other, unit, None if classes is None else classes.get(kind)))
    if len({unit for *_, unit, _ in rows}) < FEWEST:
        raise FrostlineError(f"it has {len(templates) * len(terms)} pairs of template and terms; at least {FEWEST} are needed.")
    firsts, seconds, units, labels = (list(column) for column in zip(*rows, strict=True))
    return Pairs(firsts, seconds, np.array(units), None if None in labels else labels)


def from_rules(given: Mapping[str, Any], texts: Sequence[str]) -> Pairs:
    """Return the sentences that some of a feature's rules change, as they are and rewritten.

    Args:
        given: ``rules``, each a regular expression and what stands in place of its match.
        texts: sentences.

    Raises:
        FrostlineError: fewer sentences change than a measure needs.
    """
    rules = [(re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in _required(given, "rules")]
    changed: dict[str, str] = {}
    for text in texts:
        rewritten = text
        for pattern, replacement in rules:
            rewritten = pattern.sub(replacement, rewritten)
        if rewritten != text:
            changed[text] = rewritten
    if len(changed) < FEWEST:
        raise FrostlineError(f"its rules change {len(changed)} test sentences; at least {FEWEST} are needed.")
    return Pairs(list(changed), list(changed.values()), np.arange(len(changed)), None)


def unit_means(values: NDArray[np.float64], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean value of every unit, ``[units]``."""
    _, rows = np.unique(unit, return_inverse=True)
    return np.asarray(np.bincount(rows, values) / np.bincount(rows))


def _changes(table: MeasureTable, name: str, pairs: Pairs, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Rows on how much the probability of the last class changes; return the mean."""
    change = unit_means(second - first, pairs.unit)
    n = len(change)
    interval = hierarchical_bootstrap(change[None])
    table.add(f"{name}.mean_change", interval, null=0.0, n=n)
    table.add(f"{name}.mean_absolute_change", hierarchical_bootstrap(unit_means(np.abs(second - first), pairs.unit)[None]), n=n)
    table.add(f"{name}.labels_changed", float(((first > 0.5) != (second > 0.5)).mean()), n=len(first))
    p = 1.0 if not np.any(np.abs(change) > 1e-12) else float(stats.wilcoxon(change).pvalue)
    table.add(f"{name}.wilcoxon_p", p, n=n)
    return interval.mean


def _gaps(table: MeasureTable, name: str, label: NDArray[np.int64], score: NDArray[np.float64], groups: NDArray[np.str_]) -> None:
    for statistic, value, n in group_gaps(label, score, groups):
        table.add(f"{name}.{statistic}", value, n=n)


def _own_groups(table: MeasureTable, subject: Subject, column: str) -> None:
    test = subject.data.splits["test"]
    if column not in test.column_names:
        known = ", ".join(name for name in test.column_names if name not in ("text", "text_pair", "label"))
        raise FrostlineError(
            f"the test sentences have no column '{column}' (measure.counterfactual.group_column); there are {known}."
        )
    score = _last_class(subject, {"test": test["text"][:]})["test"]
    label = _is_last(np.asarray(test["label"][:]), subject)
    _gaps(table, column, label, score, np.asarray([str(value) for value in test[column][:]]))


def _probabilities(subject: Subject, pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said = _last_class(subject, {"first": pairs.first, "second": pairs.second})
    return said["first"], said["second"]


def _last_class(subject: Subject, texts: dict[str, list[str]]) -> dict[str, NDArray[np.float64]]:
    tokens = {name: subject.tokenise_texts(lines) for name, lines in texts.items()}
    return {name: of.softmax(dim=1)[:, -1].numpy() for name, of in subject.logits(subject.adapted, tokens).items()}


def _numbers(classes: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64]:
    if unknown := sorted(set(classes) - set(class_names)):
        raise FrostlineError(
            f"its class '{unknown[0]}' is none of the run's ({', '.join(class_names)}), so groups have no errors."
        )
    return np.array([class_names.index(name) for name in classes])


def _is_last(label: NDArray[np.int64], subject: Subject) -> NDArray[np.int64]:
    return np.asarray(label == subject.classes - 1, dtype=np.int64)


def _required(given: Mapping[str, Any], key: str) -> Any:
    if not given.get(key):
        raise FrostlineError(f"it has no {key}.")
    return given[key]


def _filled(template: str, fill: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[tuple[str, str]]:
    """Every filling of the one place that a template has beside the term, with its kind."""
    for place, kinds in fill.items():
        if f"{{{place}}}" in template:
            for kind, words in kinds.items():
                for word in words:
                    yield template.replace(f"{{{place}}}", word), kind


def _sentence(text: str) -> str:
    """With a capital; and ``an`` before a vowel."""
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)
    return text[0].upper() + text[1:]

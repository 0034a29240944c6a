"""``measure=association``: which words the encoder puts near which others, by association tests at every layer and pooling.

Caliskan, Bryson & Narayanan (2017), the word embedding association test; in sentences (May et al. 2019), since an encoder
reads sentences. An effect size says how far apart two sets of targets lie in what they are nearer to. It is no measure of harm,
and those of layers that differ in the spread of associations cannot be compared. Controls without social meaning come first.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frostline.encoder.load import Pretrained
from frostline.errors import FrostlineError
from frostline.measures.comparisons import holm
from frostline.measures.layers import own_pooling, random_encoder
from frostline.measures.statistics import Interval
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.schema import AssociationMeasure
from frostline.words import read_words, read_words_file

FEWEST = 4  # words of a set: for fewer no p-value below 0.01 exists
SETS = ("X", "Y", "A", "B")


@dataclass(frozen=True)
class WordSets:
    """An association test.

    Attributes:
        name: of the test.
        control: whether it must come out for the instrument to be believed.
        words: by ``X``, ``Y`` (targets, as many of each), ``A`` and ``B`` (attributes).
    """

    name: str
    control: bool
    words: dict[str, list[str]]


def measure_association(subject: Subject, config: AssociationMeasure) -> pd.DataFrame:
    """Test the associations of the encoder that a run ended with, of the pretrained one, and of one with random weights.

    Args:
        subject: the run.
        config: which sets, in which sentences.

    Returns:
        the measure's table. A set that cannot be tested is left out, with a warning.

    Raises:
        FrostlineError: there is no other set.
    """
    table = MeasureTable("association")
    tests: list[WordSets] = []
    for name, given in read_sets(config.words).items():
        with table.leaving_out(name):
            tests.append(usable(name, given, subject.pretrained))
    if not tests:
        raise FrostlineError("no set of words can be tested.")
    encoders = {"": subject.adapted, "random_encoder_": random_encoder(subject.pretrained, config.seed)}
    if subject.is_adapted:
        encoders["pretrained_"] = subject.pretrained
    words = sorted({word for test in tests for part in test.words.values() for word in part})
    of = {word: row for row, word in enumerate(words)}
    pooling = own_pooling(subject, config)
    for prefix, encoder in encoders.items():
        states = _word_states(subject, encoder, words, config)
        for name, layers in states.items():
            for layer, vectors in enumerate(layers):
                _add(table, tests, of, vectors, prefix, layer, name, config, is_last=name == pooling and layer == len(layers) - 1)
    return table.frame()


def _add(
    table: MeasureTable,
    tests: Sequence[WordSets],
    of: Mapping[str, int],
    vectors: NDArray[np.float64],
    prefix: str,
    layer: int,
    pooling: str,
    config: AssociationMeasure,
    is_last: bool,
) -> None:
    """Rows of all tests at one layer; those of the last layer under the run's pooling also stand for the whole encoder."""
    effects, ps = [], []
    for test in tests:
        x, y, a, b = (vectors[[of[word] for word in test.words[part]]] for part in SETS)
        effect, p = association(x, y, a, b, config.permutations, config.seed)
        effects.append(effect)
        ps.append(p)
        n = sum(len(words) for words in test.words.values())
        table.add(f"{prefix}{test.name}_effect_size", effect, layer, pooling, 0.0, n)
        table.add(f"{prefix}{test.name}_p", p, layer, pooling, n=n)
        if is_last:
            table.add(f"{prefix}{test.name}_effect_size", effect, null=0.0, n=n)
    corrected = holm(ps)
    for test, p in zip(tests, corrected, strict=True):
        table.add(f"{prefix}{test.name}_p_holm", p, layer, pooling)
    controls = [p for test, p in zip(tests, corrected, strict=True) if test.control]
    if is_last and controls:
        table.add(f"{prefix}controls_passed", float(np.mean([p < 0.05 for p in controls])), n=len(controls))
    social = [abs(effect.mean) for test, effect in zip(tests, effects, strict=True) if not test.control]
    if is_last and social:
        table.add(f"{prefix}mean_absolute_effect_size", float(np.mean(social)), n=len(social))


def read_sets(words: str | None) -> dict[str, dict[str, object]]:
    """Return the packaged sets, or those of a user's file."""
    return read_words("associations") if words is None else read_words_file(Path(words))


def usable(name: str, given: Mapping[str, object], encoder: Pretrained) -> WordSets:
    """Check a test's sets.

    Args:
        name: of the test.
        given: ``X``, ``Y``, ``A``, ``B`` and perhaps ``control``.
        encoder: whose tokenizer must know the words.

    Raises:
        FrostlineError: a set is missing or too small, targets of unequal size, or a word that the tokenizer does not know.
    """
    words: dict[str, list[str]] = {}
    for part in SETS:
        found = given.get(part)
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise FrostlineError(f"its set {part} must be a list of words.")
        words[part] = found
        if len(found) < FEWEST:
            raise FrostlineError(f"its set {part} has {len(found)} words; at least {FEWEST} are needed.")
    if len(words["X"]) != len(words["Y"]):
        raise FrostlineError(f"its targets must be as many: X has {len(words['X'])} words, Y {len(words['Y'])}.")
    unknown = encoder.tokenizer.unk_token_id
    missing = [word for part in words.values() for word in part if unknown in encoder.tokenizer(word)["input_ids"]]
    if unknown is not None and missing:
        raise FrostlineError(f"the tokenizer does not know '{missing[0]}'.")
    return WordSets(name, bool(given.get("control", False)), words)


def _word_states(
    subject: Subject, encoder: Pretrained, words: Sequence[str], config: AssociationMeasure
) -> dict[str, NDArray[np.float64]]:
    """Per pooling the states of words, mean over the sentences that they stand in, ``[layers, words, width]``."""
    tokens = {
        str(i): subject.tokenise_texts([sentence.replace("{word}", word) for word in words])
        for i, sentence in enumerate(config.sentences)
    }
    pooled = subject.pooled(encoder, tokens, config.poolings)
    return {name: np.mean([layers.double().numpy() for layers in of.values()], axis=0) for name, of in pooled.items()}


# --- the test ---------------------------------------------------------------------------------------------------------------


def association(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    permutations: int = 100_000,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Return the effect size of an association test and its one-sided p-value (Caliskan et al. 2017).

    ``s(w) = mean cos(w, a) - mean cos(w, b)``; ``d = (mean s(x) - mean s(y)) / sd s`` over both targets, with ``n - 1``. The null
    is that the targets are interchangeable: every equal division of them counts, if they are at most ``permutations``, or else
    as many at random.

    Args:
        x: vectors of the first targets, ``[words, width]``.
        y: of the second targets, as many.
        a: of the first attributes, ``[words, width]``.
        b: of the second attributes.
        permutations: at most.
        seed: of the draws.

    Returns:
        d with a 95 % interval (bootstrap over the words of each target), and p.
    """
    scores = np.concatenate([differences(x, a, b), differences(y, a, b)])
    return effect_size(scores, seed), permutation_p(scores, permutations, seed)


def differences(words: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each word's mean cosine with the first attributes minus that with the second, ``[words]``."""
    words, a, b = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) for vectors in (words, a, b))
    return np.asarray((words @ a.T).mean(axis=1) - (words @ b.T).mean(axis=1))


def effect_size(scores: NDArray[np.float64], seed: int = 0, resamples: int = 2000) -> Interval:
    """Return d of the scores of both targets, first half and second half, ``[2 words]``, with its bootstrap interval."""
    m, random = len(scores) // 2, np.random.default_rng(seed)
    rows = np.concatenate([random.integers(0, m, (resamples, m)), random.integers(m, 2 * m, (resamples, m))], axis=1)

    def d(s: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.maximum(s.std(axis=-1, ddof=1), 1e-12)
        found: NDArray[np.float64] = (s[..., :m].mean(axis=-1) - s[..., m:].mean(axis=-1)) / spread
        return found

    low, high = np.quantile(d(scores[rows]), [0.025, 0.975])
    return Interval(float(d(scores)), float(low), float(high))


def permutation_p(scores: NDArray[np.float64], permutations: int = 100_000, seed: int = 0) -> float:
    """Return the share of equal divisions of the targets that are at least as far apart as theirs, ``scores`` as above."""
    m = len(scores) // 2
    observed, slack = scores[:m].sum(), 1e-9 * np.abs(scores).sum()
    sums = scores[_divisions(m, permutations, seed)].sum(axis=1)
    return float((sums >= observed - slack).mean())


@functools.lru_cache(maxsize=8)
def _divisions(m: int, permutations: int, seed: int) -> NDArray[np.int64]:
    """The rows of the first half in every equal division of ``2m``, or in the observed one and random ones."""
    if math.comb(2 * m, m) <= permutations:
        return np.array(list(itertools.combinations(range(2 * m), m)))
    random = np.random.default_rng(seed)
    drawn = random.random((permutations - 1, 2 * m)).argpartition(m, axis=1)[:, :m]
    return np.concatenate([np.arange(m)[None], drawn])

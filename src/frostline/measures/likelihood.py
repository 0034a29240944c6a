"""``measure=likelihood``: does a model with a head for masked words find stereotypes likelier than their opposite?

Three published measures, of which each has known faults (Blodgett et al. 2021 found pitfalls in most of the pairs of the first
two; that 50 % is fair presumes words as frequent in either sentence): read them as a reason to look, not as a grade.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from frostline.data.assets import fetch
from frostline.data.tokens import Tokens
from frostline.encoder.load import Pretrained
from frostline.encoder.masking import masked_copies
from frostline.encoder.reading import OwnHead, own_head, reading_losses
from frostline.errors import FrostlineError
from frostline.measures.statistics import hierarchical_bootstrap, t_interval
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.schema import LikelihoodMeasure
from frostline.words import read_words

Copies = list[tuple[int, list[int]]]  # a sentence's number, and which of its tokens are masked


class Reader(NamedTuple):
    """An encoder with the head that it was published with.

    Attributes:
        encoder: the pretrained or the adapted one.
        head: for masked words.
        tokenise: makes tokens of sentences.
        device: where the encoder runs.
        cache_dir: where data is kept.
    """

    encoder: Pretrained
    head: OwnHead
    tokenise: Callable[[Sequence[str]], Tokens]
    device: torch.device
    cache_dir: Path

    def log_likelihoods(self, texts: Sequence[str], masked: Sequence[Sequence[list[int]]]) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each masked token.

        Args:
            texts: sentences.
            masked: for each sentence its copies, for each copy the tokens that are masked in it, ascending.

        Returns:
            per sentence the values of all its copies in their order, nats.
        """
        tokens = self.tokenise(texts)
        copies: Copies = [(row, places) for row, of in enumerate(masked) for places in of]
        owner = np.repeat([row for row, _ in copies], [len(places) for _, places in copies])
        text = masked_copies(tokens, copies, int(self.encoder.tokenizer.mask_token_id))
        losses = -reading_losses(self.encoder.model, self.head, text, self.device)
        return [losses[owner == row] for row in range(len(texts))]


def measure_likelihood(subject: Subject, config: LikelihoodMeasure) -> pd.DataFrame:
    """Compare how likely a model finds sentences that differ in whom they speak of.

    Args:
        subject: the run.
        config: which parts, on how many sentences.

    Returns:
        the measure's table.

    Raises:
        FrostlineError: the model has no head for masked words.
    """
    cache_dir = Path(subject.config.paths.cache_dir)
    head = subject.once("own head", (subject.config.model, cache_dir), lambda: own_head(subject.config.model, cache_dir))
    if head is None or subject.pretrained.tokenizer.mask_token_id is None:
        raise FrostlineError(
            f"{subject.pretrained.name} has no head for masked words, and a random one would say nothing; use a model that was "
            "published with one, such as model=distilbert."
        )
    table = MeasureTable("likelihood")
    encoders = {"": subject.adapted} | ({"pretrained_": subject.pretrained} if subject.is_adapted else {})
    readers = {
        prefix: Reader(encoder, head, subject.tokenise_texts, subject.device, cache_dir) for prefix, encoder in encoders.items()
    }
    parts = {"crows_pairs": _crows_pairs, "stereoset": _stereoset, "templates": _templates}
    for name in config.parts:
        for prefix, reader in readers.items():
            with table.leaving_out(name):
                parts[name](table, reader, prefix, config)
    return table.frame()


# --- CrowS-Pairs ------------------------------------------------------------------------------------------------------------


def _crows_pairs(table: MeasureTable, reader: Reader, prefix: str, config: LikelihoodMeasure) -> None:
    """Nangia et al. (2020): how often the more stereotypical sentence is the likelier one, by its tokens that both share."""
    rows = pd.read_csv(fetch("stereotypes", reader.cache_dir) / "test.csv").dropna()
    rows = rows[rows["sentence"].str.count(r"\[MASK\]") == 1]
    rows = _sample(rows, config)
    more, less = (
        [s.replace("[MASK]", str(w)) for s, w in zip(rows["sentence"], rows[c], strict=True)] for c in ("mask1", "mask2")
    )
    of_more, of_less = shared_log_likelihoods(reader, more, less)
    prefers = np.where(of_more == of_less, 0.5, of_more > of_less)
    kinds = rows["bias_type"].to_numpy()
    for kind in ["", *sorted(set(kinds))]:
        of = prefers[kinds == kind] if kind else prefers
        table.add(
            f"{prefix}{_of('crows_pairs', kind)}stereotype_preferred", hierarchical_bootstrap(of[None]), null=0.5, n=len(of)
        )


def shared_log_likelihoods(
    reader: Reader, first: Sequence[str], second: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``sum log p(u | all other tokens)`` over the tokens u that two sentences share, one by one, ``[pairs]`` each.

    Those in which they differ stay visible.
    """
    both = [reader.tokenise(texts) for texts in (first, second)]
    special = set(reader.encoder.tokenizer.all_special_ids)
    places: tuple[list[list[list[int]]], list[list[list[int]]]] = ([], [])
    for row in range(len(first)):
        a, b = (_ids(tokens, row) for tokens in both)
        blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        shared = [(i + k, j + k) for i, j, size in blocks for k in range(size) if a[i + k] not in special]
        places[0].append([[i] for i, _ in shared])
        places[1].append([[j] for _, j in shared])
    sums = [
        [of.sum() for of in reader.log_likelihoods(texts, masked)] for texts, masked in zip((first, second), places, strict=True)
    ]
    return np.array(sums[0]), np.array(sums[1])


# --- StereoSet --------------------------------------------------------------------------------------------------------------


def _stereoset(table: MeasureTable, reader: Reader, prefix: str, config: LikelihoodMeasure) -> None:
    """Nadeem et al. (2021), within sentences: whether the model prefers what makes sense, and which of it; mean over targets."""
    file = fetch("stereotypes", reader.cache_dir) / "test.jsonl"
    rows = pd.DataFrame([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])
    is_usable = (rows["type"] == "intrasentence") & (rows["context"].str.count("BLANK") == 1)
    rows = _sample(rows[is_usable], config)
    of = {
        name: filled_log_likelihoods(reader, list(rows["context"]), list(rows[name]))
        for name in ("stereotype", "anti-stereotype", "unrelated")
    }
    scores = pd.DataFrame(
        {
            "target": rows["target"].to_numpy(),
            "kind": rows["bias_type"].to_numpy(),
            "makes_sense": ((of["stereotype"] > of["unrelated"]) * 1.0 + (of["anti-stereotype"] > of["unrelated"])) / 2,
            "stereotype": (of["stereotype"] > of["anti-stereotype"]) * 1.0,
        }
    )
    for kind in ["", *sorted(set(scores["kind"]))]:
        by_target = scores[(scores["kind"] == kind) | (kind == "")].groupby("target")[["makes_sense", "stereotype"]].mean()
        name, n = f"{prefix}{_of('stereoset', kind)}", len(by_target)
        sense, bias = by_target["makes_sense"].to_numpy(), by_target["stereotype"].to_numpy()
        table.add(f"{name}language_model_score", 100 * sense.mean(), null=50.0, n=n)
        table.add(f"{name}stereotype_score", 100 * bias.mean(), null=50.0, n=n)
        table.add(f"{name}icat", icat(100 * sense.mean(), 100 * bias.mean()), n=n)
        if not kind:
            table.add(f"{name}stereotype_preferred", hierarchical_bootstrap(bias[None]), null=0.5, n=n)


def icat(language_model_score: float, stereotype_score: float) -> float:
    """Return the idealised score of Nadeem et al. (2021): 100 for a model that makes sense and has no preference.

    Args:
        language_model_score: per cent.
        stereotype_score: per cent.
    """
    return float(language_model_score * min(stereotype_score, 100 - stereotype_score) / 50)


def filled_log_likelihoods(reader: Reader, contexts: Sequence[str], filled: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean log-likelihood of the tokens that fill each sentence's BLANK, masked one at a time, ``[sentences]``."""
    texts = list(filled)
    added = _added(reader, texts, [context.replace("BLANK", "").strip() for context in contexts])
    places = [[[i] for i in of] for of in added]
    return np.array([of.mean() if len(of) else -np.inf for of in reader.log_likelihoods(texts, places)])


# --- templates --------------------------------------------------------------------------------------------------------------


def _templates(table: MeasureTable, reader: Reader, prefix: str, config: LikelihoodMeasure) -> None:
    """Kurita et al. (2019): how much an attribute raises one target's probability over another's."""
    for name, given in read_words("templates").items():
        means = {}
        for kind, attributes in given["attributes"].items():
            of = [template_association(reader, given["templates"], given["targets"], attribute) for attribute in attributes]
            means[kind] = np.array(of)
            table.add(f"{prefix}{name}.{kind.replace(' ', '_')}.association", t_interval(means[kind]), null=0.0, n=len(of))
        first, second = means.values()
        table.add(f"{prefix}{name}_association_gap", float(first.mean() - second.mean()), null=0.0, n=len(first) + len(second))


def template_association(reader: Reader, templates: Sequence[str], targets: Sequence[str], attribute: str) -> float:
    """Return the association of an attribute with the first target minus that with the second, nats, mean over templates.

    An association is ``log p(target | attribute) - log p(target | attribute masked)``, which takes out how frequent targets are.

    Raises:
        FrostlineError: a target is no single token.
    """
    tokenizer = reader.encoder.tokenizer
    for target in targets:
        if len(tokenizer(target, add_special_tokens=False)["input_ids"]) != 1:
            raise FrostlineError(f"the target '{target}' is not one token of the tokenizer.")
    found = []
    for target in targets:
        texts = [template.replace("{target}", target).replace("{attribute}", attribute) for template in templates]
        added = _added(reader, texts, [text.replace(attribute, "") for text in texts])
        target_id, tokens = tokenizer(target, add_special_tokens=False)["input_ids"][0], reader.tokenise(texts)
        at = [_ids(tokens, row).index(target_id) for row in range(len(texts))]
        hidden = [sorted({place, *of}) for place, of in zip(at, added, strict=True)]
        read = reader.log_likelihoods(texts, [[[place], both] for place, both in zip(at, hidden, strict=True)])
        found.append(np.mean([of[0] - of[1 + h.index(place)] for of, h, place in zip(read, hidden, at, strict=True)]))
    return float(found[0] - found[1])


def _added(reader: Reader, texts: Sequence[str], without: Sequence[str]) -> list[list[int]]:
    """Which tokens of each sentence are not in the sentence without them."""
    tokens, rest = reader.tokenise(texts), reader.tokenise(without)
    added = []
    for row in range(len(texts)):
        whole = _ids(tokens, row)
        blocks = difflib.SequenceMatcher(None, whole, _ids(rest, row), autojunk=False).get_matching_blocks()
        shared = {i + k for i, _, size in blocks for k in range(size)}
        added.append([i for i in range(len(whole)) if i not in shared])
    return added


def _of(part: str, kind: str) -> str:
    """The start of a statistic's name: of one category, or of all."""
    return f"{part}.{kind}." if kind else f"{part}_"


def _ids(tokens: Tokens, row: int) -> list[int]:
    return list(tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist())


def _sample(rows: pd.DataFrame, config: LikelihoodMeasure) -> pd.DataFrame:
    if config.sentences is None or len(rows) <= config.sentences:
        return rows
    return rows.iloc[np.sort(np.random.default_rng(config.seed).permutation(len(rows))[: config.sentences])]

"""Other domains than the one that is trained on: to train on a mix of them, and to see what is forgotten of them.

Each of the packaged domains is halved once, by document: one half may be trained on, the other is for measures only. Which
sentences count as rated clearly enough has no say in it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from frostline.data.packaged import SOURCES, read_packaged
from frostline.data.splits import subsample
from frostline.errors import FrostlineError
from frostline.schema import DataConfig, PackagedData

COLUMNS = ("text", "label", "rating", "rating_sd", "judgements")


def halves(config: PackagedData, cache_dir: Path) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Return the two halves of a packaged domain: to train on, and to measure on. No document or text is in both.

    Args:
        config: which domain, how ratings become labels, and the seed of the halving.
        cache_dir: where the archive is kept.
    """
    raw = read_packaged(dataclasses.replace(config, min_abs_rating=0.0), cache_dir)
    whole = raw.splits["train"]
    groups = _inseparable(whole, raw.group_column)
    names = np.unique(groups)
    first = np.random.default_rng(config.split_seed).permutation(names)[: len(names) // 2]
    is_first, is_clear = np.isin(groups, first), np.abs(whole["rating"][:]) >= config.min_abs_rating
    return whole.select(np.flatnonzero(is_first & is_clear)), whole.select(np.flatnonzero(~is_first & is_clear))


def _inseparable(whole: datasets.Dataset, group_column: str | None) -> NDArray[np.int64]:
    """Return a number for every sentence: the same for those of one document, and of documents that share a text."""
    texts = pd.factorize(np.asarray(whole["text"][:], dtype=object))[0]
    if group_column is None:
        return texts
    groups = pd.factorize(np.asarray(whole[group_column][:], dtype=object))[0]
    size = groups.max() + 1 + texts.max() + 1
    links = coo_array((np.ones(len(texts)), (groups, groups.max() + 1 + texts)), shape=(size, size))
    parts: NDArray[np.int64] = connected_components(links, directed=False)[1][groups]
    return parts


def mixed_domains(
    config: PackagedData, own: datasets.Dataset, cache_dir: Path, seed: int, balance: dict[str, float] | None
) -> datasets.Dataset:
    """Return equally many training sentences of every packaged domain, ``data.train_size`` in all, with a column ``domain``.

    Args:
        config: the run's own domain and how many sentences it wants.
        own: that domain's training split.
        cache_dir: where the archive is kept.
        seed: the run's seed.
        balance: shares of the classes, as in :func:`frostline.data.splits.subsample`.

    Raises:
        FrostlineError: a domain has fewer sentences than its part.
    """
    pools = {config.name: own}
    for name in SOURCES:
        if name != config.name:
            pools[name] = halves(dataclasses.replace(config, name=name), cache_dir)[0]
    size = config.train_size
    if size is None:
        total = len(pools) * min(len(subsample(pool, None, seed, balance)) for pool in pools.values())
    else:
        total = round(size * len(own)) if isinstance(size, float) else size
    parts = []
    for i, (name, pool) in enumerate(pools.items()):
        wanted = total // len(pools) + (i < total % len(pools))
        if wanted > len(pool):
            raise FrostlineError(
                f"data.domain=mixed wants {wanted} training sentences of each domain, but {name} has only {len(pool)}; lower "
                "data.train_size."
            )
        part = subsample(pool, wanted, seed, balance).select_columns(COLUMNS)
        parts.append(part.add_column("domain", [name] * len(part)))
    return datasets.concatenate_datasets(parts)


def general_texts(config: DataConfig, cache_dir: Path, to_measure: bool) -> list[str]:
    """Return sentences of the packaged domains other than the run's own: general text, as far as it goes.

    They come shuffled, so that the first ones are a sample of all domains.

    Args:
        config: the run's data; its ``split_seed`` draws halves and order.
        cache_dir: where the archive is kept.
        to_measure: the halves that are kept for measures, not those that may be trained on.

    Raises:
        FrostlineError: the archive cannot be fetched.
    """
    texts: list[str] = []
    for name in SOURCES:
        if not (isinstance(config, PackagedData) and config.name == name):
            texts += halves(packaged(name, config.split_seed), cache_dir)[int(to_measure)]["text"][:]
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    return [different[i] for i in np.random.default_rng(config.split_seed).permutation(len(different))]


def packaged(name: str, split_seed: int, min_abs_rating: float = 0.0) -> PackagedData:
    """Return the configuration of a packaged domain as it is, for :func:`halves`."""
    return PackagedData(
        source="packaged",
        batch_size=None,
        batch_tokens=None,
        max_length=0,
        train_size=None,
        validation_share=0.1,
        test_share=0.2,
        split_seed=split_seed,
        drop_empty=False,
        name=name,
        min_abs_rating=min_abs_rating,
    )

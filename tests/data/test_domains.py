"""Other domains: halved once, so that nothing that is trained on is ever measured on."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from pathlib import Path

import datasets
import pytest

from frostline.data import domains
from frostline.data.domains import general_texts, halves, mixed_domains, packaged
from frostline.data.packaged import SOURCES, read_packaged
from frostline.data.sentences import load_data
from frostline.data.splits import RawData
from frostline.errors import FrostlineError
from frostline.schema import FilesData, PackagedData

FILES = FilesData("files", 32, None, 128, None, 0.1, 0.2, 0, False, "x.csv", None, None, "text", None, "label", None)


@functools.cache
def read_once(name: str, least: float, cache_dir: Path) -> RawData:
    return read_packaged(packaged(name, 0, least), cache_dir)


@pytest.fixture(autouse=True)
def _archive_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time of these tests."""
    monkeypatch.setattr(domains, "read_packaged", lambda config, folder: read_once(config.name, config.min_abs_rating, folder))


def texts_of(split: datasets.Dataset) -> list[str]:
    return list(split["text"][:])


def mixed(train_size: float | None, name: str = "tweets", min_abs_rating: float = 0.5) -> PackagedData:
    return dataclasses.replace(packaged(name, 0, min_abs_rating), train_size=train_size, domain="mixed")


@functools.cache
def half(name: str, to_measure: bool, cache_dir: Path, least: float = 0.0) -> list[str]:
    """The texts of one half, with split_seed=0."""
    return texts_of(halves(packaged(name, 0, least), cache_dir)[to_measure])


def sentences(name: str, cache_dir: Path, least: float = 0.5) -> datasets.Dataset:
    """A whole domain."""
    return read_once(name, least, cache_dir).splits["train"]


# --- halves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("min_abs_rating", [0.0, 0.5])
def test_the_halves_are_the_whole_and_share_no_document_and_no_text(name: str, min_abs_rating: float, cache_dir: Path) -> None:
    whole = sentences(name, cache_dir, min_abs_rating)
    first, second = halves(packaged(name, 0, min_abs_rating), cache_dir)
    assert sorted(texts_of(first) + texts_of(second)) == sorted(texts_of(whole))
    for column in {"text", "document"} & set(whole.column_names):
        assert not set(first[column][:]) & set(second[column][:])
    assert 0.4 < len(first) / len(whole) < 0.6


@pytest.mark.parametrize("name", SOURCES)
def test_the_split_seed_draws_the_halves(name: str, cache_dir: Path) -> None:
    first, again, other = (texts_of(halves(packaged(name, seed), cache_dir)[0]) for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize("name", SOURCES)
def test_a_sentence_is_in_the_same_half_whichever_ratings_are_clear_enough(name: str, cache_dir: Path) -> None:
    """Training wants clear ratings, measures on texts want all sentences."""
    for to_measure in (False, True):
        clear, every = (set(half(name, to_measure, cache_dir, least)) for least in (0.5, 0.0))
        assert clear
        assert clear < every


# --- mixed domains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 402, 0.25])
def test_a_mix_has_equally_many_sentences_of_every_domain(size: float, cache_dir: Path) -> None:
    config = mixed(size)
    own = sentences(config.name, cache_dir)
    total = round(size * len(own)) if isinstance(size, float) else size
    counts = Counter(mixed_domains(config, own, cache_dir, 0, None)["domain"][:])
    assert counts.keys() == set(SOURCES)
    assert counts.total() == total
    assert max(counts.values()) - min(counts.values()) == (total % 4 > 0)


def test_a_mix_without_a_size_is_as_large_as_the_smallest_domain_allows(cache_dir: Path) -> None:
    config = mixed(None)
    own = sentences(config.name, cache_dir)
    smallest = min(len(half(name, False, cache_dir, 0.5)) for name in SOURCES if name != "tweets")
    assert len(own) > smallest
    assert set(Counter(mixed_domains(config, own, cache_dir, 0, None)["domain"][:]).values()) == {smallest}
    few = own.select(range(100))
    assert set(Counter(mixed_domains(config, few, cache_dir, 0, None)["domain"][:]).values()) == {100}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mix_takes_nothing_that_is_kept_for_measures(seed: int, cache_dir: Path) -> None:
    config = mixed(4000)
    mix = mixed_domains(config, sentences(config.name, cache_dir), cache_dir, seed, None)
    by_domain = {name: {t for t, d in zip(texts_of(mix), mix["domain"][:], strict=True) if d == name} for name in SOURCES}
    assert min(map(len, by_domain.values())) > 900
    for name in SOURCES:
        if name != config.name:
            assert by_domain[name] <= set(half(name, False, cache_dir))
            assert not by_domain[name] & set(half(name, True, cache_dir))
    assert not set(texts_of(mix)) & set(general_texts(config, cache_dir, to_measure=True))


def test_the_own_part_of_a_mix_is_of_the_own_training_split(cache_dir: Path) -> None:
    config = mixed(400)
    own = sentences(config.name, cache_dir).select(range(500))
    mix = mixed_domains(config, own, cache_dir, 0, None)
    found = {t for t, d in zip(texts_of(mix), mix["domain"][:], strict=True) if d == config.name}
    assert len(found) == 100
    assert found <= set(texts_of(own))


def test_the_run_seed_draws_the_mix(cache_dir: Path) -> None:
    config = mixed(400)
    own = sentences(config.name, cache_dir)
    first, again, other = (texts_of(mixed_domains(config, own, cache_dir, seed, None)) for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize("size", [400, None])
def test_every_domain_of_a_mix_has_the_balance_of_classes_asked_for(size: int | None, cache_dir: Path) -> None:
    config = mixed(size)
    mix = mixed_domains(config, sentences(config.name, cache_dir), cache_dir, 0, {"negative": 0.25, "positive": 0.75})
    counts = Counter(zip(mix["domain"][:], mix["label"][:], strict=True))
    sizes = {counts[name, "negative"] + counts[name, "positive"] for name in SOURCES}
    assert len(sizes) == 1
    assert all(abs(counts[name, "negative"] - 0.25 * min(sizes)) < 1 for name in SOURCES)
    assert min(sizes) == 100 if size else min(sizes) > 100


def test_a_mix_of_more_sentences_than_a_domain_has_is_told(cache_dir: Path) -> None:
    config = mixed(7000)
    with pytest.raises(
        FrostlineError, match=r"data\.domain=mixed wants 1750 .* of each domain, but amazon_reviews has only 1\d\d\d;"
    ):
        mixed_domains(config, sentences(config.name, cache_dir), cache_dir, 0, None)


# --- general text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split_seed", [0, 1])
def test_texts_to_train_on_and_to_measure_on_do_not_overlap(split_seed: int, cache_dir: Path) -> None:
    config = dataclasses.replace(FILES, split_seed=split_seed)
    train, measure, again = (general_texts(config, cache_dir, to_measure) for to_measure in (False, True, True))
    assert not set(train) & set(measure)
    assert again == measure
    for texts in (train, measure):
        assert len(texts) == len(set(texts)) > 11_000
        assert all(text.strip() for text in texts)


@pytest.mark.parametrize(("name", "to_measure"), zip(SOURCES, [False, True, False, True], strict=True))
def test_the_own_domain_is_no_general_text(name: str, to_measure: bool, cache_dir: Path) -> None:
    texts = set(general_texts(packaged(name, 0), cache_dir, to_measure))
    for other in SOURCES:
        found = set(half(other, to_measure, cache_dir))
        assert not texts & found if other == name else found <= texts


@pytest.mark.parametrize("to_measure", [False, True])
def test_the_first_general_texts_are_a_sample_of_all_domains(to_measure: bool, cache_dir: Path) -> None:
    """Of 1,000 texts, each domain has its share but for ten standard deviations of as many draws."""
    texts = general_texts(FILES, cache_dir, to_measure)
    for name in SOURCES:
        domain = set(half(name, to_measure, cache_dir))
        share = len(domain) / len(texts)
        found = sum(text in domain for text in texts[:1000])
        assert abs(found - 1000 * share) < 10 * (1000 * share * (1 - share)) ** 0.5
        assert found > 0


# --- through the whole loading ---------------------------------------------------------------------------------------


def test_a_mix_is_for_training_only_and_counted(cache_dir: Path) -> None:
    narrow, mix = (
        load_data(dataclasses.replace(mixed(400), domain=domain, batch_size=32, max_length=128), cache_dir, 0)
        for domain in ("narrow", "mixed")
    )
    for name in ("validation", "test"):
        assert mix.hashes[name] == narrow.hashes[name]
        assert texts_of(mix.splits[name]) == texts_of(narrow.splits[name])
    assert mix.hashes["train"] != narrow.hashes["train"]
    assert {key: count for key, count in mix.notes.items() if key.startswith("train_domain_")} == {
        f"train_domain_{name}": 100 for name in SOURCES
    }
    assert not set(texts_of(mix.splits["train"])) & set(general_texts(mixed(400), cache_dir, to_measure=True))

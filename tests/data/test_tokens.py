"""Stored token ids are the tokenizer's own, and are computed once."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import datasets
import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from frostline.data.tokens import Tokens, tokenise
from frostline.encoder.load import Pretrained, load_encoder
from frostline.schema import PackagedModel, RandomModel

TEXTS = ["short", "", "a much longer sentence, with punctuation!", "x" * 60, "two words", "Ünïcödé 😀 text"]
PAIRS = ["and its pair", "b", "!", "another one", "y" * 70, "z"]


def random_encoder(family: str = "bert") -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", family, 1, 8, 2, 0), Path("no-cache"))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return random_encoder().tokenizer


def split(texts: list[str], pairs: list[str] | None = None) -> datasets.Dataset:
    columns = {"text": texts, "label": [0] * len(texts)} | ({"text_pair": pairs} if pairs else {})
    return datasets.Dataset.from_dict(columns)


def run(
    cache: Path, tokenizer: PreTrainedTokenizerBase, max_length: int = 64, pairs: bool = False, key: str = "data", by: str = "tok"
) -> Tokens:
    return tokenise(split(TEXTS, PAIRS if pairs else None), key, tokenizer, by, max_length, cache)


def files(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (cache / "tokens").iterdir() if path.suffix != ".sha256"}


def test_ids_are_those_of_the_tokenizer(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = run(tmp_path, tokenizer)
    for i, text in enumerate(TEXTS):
        assert tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() == tokenizer(text)["input_ids"]
    assert tokens.lengths.tolist() == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert tokens.pad_id == tokenizer.pad_token_id
    assert tokens.truncated == 0


def test_minilm_batches_equal_what_its_tokenizer_pads(tmp_path: Path, cache_dir: Path) -> None:
    minilm = load_encoder(PackagedModel("packaged", "mean", "minilm"), cache_dir)
    tokens = tokenise(split(TEXTS, PAIRS), "data", minilm.tokenizer, minilm.tokenizer_hash, 12, tmp_path)
    rows = [3, 0, 5, 4]
    batch = tokens.pad(rows)
    expected = minilm.tokenizer(
        [TEXTS[i] for i in rows], [PAIRS[i] for i in rows], truncation=True, max_length=12, padding=True, return_tensors="pt"
    )
    assert batch.keys() == expected.keys()
    for name, tensor in batch.items():
        assert tensor.dtype == expected[name].dtype
        assert (tensor == expected[name]).all(), name


def test_batches_are_padded_on_the_right_to_their_own_longest(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = run(tmp_path, tokenizer)
    for rows in ([0], [0, 4], [2, 1, 3, 1]):
        batch = tokens.pad(rows)
        assert batch["input_ids"].shape == (len(rows), tokens.lengths[rows].max())
        assert batch["attention_mask"].sum(dim=1).tolist() == tokens.lengths[rows].tolist()
        assert (batch["attention_mask"].diff(dim=1) <= 0).all(), "padding must lie on the right"
        assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
        assert (batch["token_type_ids"] == 0).all()


@pytest.mark.parametrize("max_length", [4, 8, 20, 61, 62, 63])
def test_truncated_sentences_are_counted(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    tokens = run(tmp_path, tokenizer, max_length)
    whole = np.array([len(tokenizer(text)["input_ids"]) for text in TEXTS])
    assert tokens.truncated == (whole > max_length).sum()
    assert tokens.lengths.tolist() == np.minimum(whole, max_length).tolist()


@pytest.mark.parametrize("max_length", [10, 65, 80])
def test_pairs_have_segments_and_are_truncated_together(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    tokens = run(tmp_path, tokenizer, max_length, pairs=True)
    whole = 0
    for i, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True)):
        expected = tokenizer(text, pair, truncation=True, max_length=max_length)
        span = slice(tokens.offsets[i], tokens.offsets[i + 1])
        assert tokens.ids[span].tolist() == expected["input_ids"]
        assert tokens.types is not None
        assert tokens.types[span].tolist() == expected["token_type_ids"]
        assert 1 in expected["token_type_ids"]
        whole += len(tokenizer(text, pair)["input_ids"]) <= max_length
    assert tokens.truncated == len(TEXTS) - whole


def test_a_model_without_segments_gets_none(tmp_path: Path) -> None:
    tokenizer = random_encoder().tokenizer
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokens = run(tmp_path, tokenizer)
    assert tokens.types is None
    assert tokens.pad([0, 1]).keys() == {"input_ids", "attention_mask"}


# --- the cache ---------------------------------------------------------------------------------------------------------


class Refusing:
    """Stands for a tokenizer that must not be called again."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.model_input_names, self.pad_token_id = tokenizer.model_input_names, tokenizer.pad_token_id

    def __call__(self, *_: object, **__: object) -> None:
        raise AssertionError("tokenised again")


def same(a: Tokens, b: Tokens) -> bool:
    return (
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.offsets, b.offsets)
        and (a.types is None) == (b.types is None)
        and (a.types is None or np.array_equal(a.types, b.types))
        and (a.truncated, a.pad_id) == (b.truncated, b.pad_id)
    )


@pytest.mark.parametrize("pairs", [False, True])
def test_a_second_call_reads_the_file(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, pairs: bool) -> None:
    first = run(tmp_path, tokenizer, 20, pairs)
    before = files(tmp_path)
    assert len(before) == 1
    again = run(tmp_path, Refusing(tokenizer), 20, pairs)  # type: ignore[arg-type]
    assert same(first, again)
    assert first.truncated > 0
    assert files(tmp_path) == before


def test_a_file_with_a_changed_byte_is_replaced(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    whole, draw = run(tmp_path, tokenizer, 20), random.Random()
    (path,) = (tmp_path / "tokens").glob("*.arrow")
    content = path.read_bytes()
    for damaged in [path] * 10 + [path.with_suffix(".sha256")]:
        changed = bytearray(damaged.read_bytes())
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        damaged.write_bytes(changed)
        assert same(run(tmp_path, tokenizer, 20), whole)
        assert path.read_bytes() == content


def test_another_length_tokenizer_or_split_is_another_file(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    run(tmp_path, tokenizer)
    before = files(tmp_path)
    for i, other in enumerate([{"max_length": 10}, {"by": "other"}, {"key": "other"}], 2):
        run(tmp_path, tokenizer, **other)  # type: ignore[arg-type]
        assert len(files(tmp_path)) == i
    assert files(tmp_path).items() >= before.items()
    assert run(tmp_path, tokenizer, max_length=10).lengths.max() == 10


def test_progress_bars_are_left_as_they_were(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    was_disabled = datasets.are_progress_bars_disabled()
    try:
        for disabled in (True, False):
            (datasets.disable_progress_bars if disabled else datasets.enable_progress_bars)()
            run(tmp_path, tokenizer, key=str(disabled))
            assert datasets.are_progress_bars_disabled() == disabled
    finally:
        (datasets.disable_progress_bars if was_disabled else datasets.enable_progress_bars)()


def tokenise_at_once(cache: Path, start: object, results: object) -> None:
    tokenizer = random_encoder().tokenizer
    start.wait(60)  # type: ignore[attr-defined]
    tokens = tokenise(split(TEXTS * 300), "data", tokenizer, "tok", 20, cache)
    results.put((tokens.ids.tolist(), tokens.offsets.tolist(), tokens.truncated))  # type: ignore[attr-defined]


def test_processes_that_tokenise_at_once_agree(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    processes = multiprocessing.get_context("fork")  # the modules are imported already
    start, results = processes.Barrier(3), processes.Queue()
    workers = [processes.Process(target=tokenise_at_once, args=(tmp_path, start, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert found[0] == found[1] == found[2]
    expected = [i for text in TEXTS * 300 for i in tokenizer(text, truncation=True, max_length=20)["input_ids"]]
    assert found[0][0] == expected
    assert len(files(tmp_path)) == 1, "a temporary file was left"


def test_a_tokenizer_with_segments_and_one_without_do_not_share(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """BERT's and DistilBERT's tokenizers have one definition, and so one hash."""
    without = random_encoder("distilbert").tokenizer
    without.model_input_names = ["input_ids", "attention_mask"]
    assert run(tmp_path, without).types is None
    assert run(tmp_path, tokenizer).types is not None
    assert run(tmp_path, without).types is None

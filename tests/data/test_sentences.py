"""From any source to three labelled splits: checked, numbered, hashed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from frostline.data.sentences import LabelledData, load_data, sort_labels
from frostline.errors import FrostlineError
from frostline.once import Once
from frostline.schema import FilesData, HubData, PackagedData

Rows = Sequence[tuple[str | None, Any]]
MANY = [(f"sentence {i}", "pos" if i % 3 else "neg") for i in range(300)]
FEW = [("one", "pos"), ("two", "neg")]


def load(
    folder: Path,
    seed: int = 0,
    train: Rows = MANY,
    keys: dict[str, Any] | None = None,
    once: Once | None = None,
    **given: Rows,
) -> LabelledData:
    """Load JSON Lines files with these rows."""
    files: dict[str, str | None] = {"validation": None, "test": None}
    for name, rows in {"train": train, **given}.items():
        files[name] = str(folder / f"{name}.jsonl")
        Path(str(files[name])).write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows))
    columns = {"text_column": "text", "text_pair_column": None, "label_column": "label", "group_column": None}
    shared = {
        "batch_size": 32,
        "batch_tokens": None,
        "max_length": 128,
        "train_size": None,
        "validation_share": 0.1,
        "test_share": 0.2,
        "split_seed": 0,
        "drop_empty": False,
    }
    return load_data(FilesData("files", **(shared | files | columns | (keys or {}))), folder / "cache", seed, once)


def error_of(folder: Path, **arguments: Any) -> str:
    with pytest.raises(FrostlineError) as error:
        load(folder, **arguments)
    return str(error.value)


def test_labels_are_numbered_in_the_order_of_class_names(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert data.class_names == ["neg", "pos"]
    assert list(data.splits) == ["train", "validation", "test"]
    label_of = dict(MANY)
    for split in data.splits.values():
        assert split.features["label"].dtype == "int64"
        assert [data.class_names[y] for y in split["label"]] == [label_of[text] for text in split["text"]]


def test_whole_number_labels_sort_by_value() -> None:
    assert sort_labels(["10", "9", "-1", "10"]) == ["-1", "9", "10"]
    assert sort_labels(["10", "9", "x"]) == ["10", "9", "x"]


def test_all_run_seeds_share_validation_and_test(tmp_path: Path) -> None:
    first, again, other = (load(tmp_path, seed, keys={"train_size": 50}) for seed in (0, 0, 1))
    assert first.hashes == again.hashes
    assert first.hashes["train"] != other.hashes["train"]
    assert {name: first.hashes[name] for name in ("validation", "test")} == {
        name: other.hashes[name] for name in ("validation", "test")
    }
    assert len(other.splits["train"]) == 50


def test_another_split_seed_draws_other_splits(tmp_path: Path) -> None:
    assert load(tmp_path).hashes["test"] != load(tmp_path, keys={"split_seed": 1}).hashes["test"]


def test_the_hash_tells_texts_labels_and_order_apart(tmp_path: Path) -> None:
    rows = [FEW, [("one", "neg"), ("two", "pos")], FEW[::-1], [("one ", "pos"), ("two", "neg")]]
    assert len({load(tmp_path, test=test).hashes["test"] for test in rows}) == 4


def test_kept_columns_come_along_and_change_no_hash(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label, "own": i} for i, (text, label) in enumerate(MANY)]
    datasets.Dataset.from_list(rows).to_csv(tmp_path / "own.csv", index=False)
    keys = {"train": str(tmp_path / "own.csv"), "label_noise": 0.2}
    plain, kept = (load(tmp_path, keys=keys | more) for more in ({}, {"keep_columns": ["own"]}))
    assert plain.hashes == kept.hashes
    for split in kept.splits.values():
        assert [MANY[i][0] for i in split["own"]] == split["text"][:]


def test_extra_columns_come_along(cache_dir: Path) -> None:
    config = PackagedData("packaged", 32, None, 128, 100, 0.1, 0.2, 0, False, name="amazon_reviews", min_abs_rating=0.5)
    data = load_data(config, cache_dir, seed=0)
    documents = [set(split["document"]) for split in data.splits.values()]
    assert len(data.splits["train"]) == 100
    assert sum(map(len, documents)) == len(set.union(*documents))
    for split in data.splits.values():
        assert all((label == 1) == (rating > 0) for label, rating in zip(split["label"], split["rating"], strict=True))
        assert all(split["judgements"])
    assert data.notes["dropped_weak_ratings"] > 0


def test_sentences_without_text_are_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, test=[*FEW, (None, "pos"), (" \n", "neg"), ("", "neg")])
    expected = "Sentences without text in the test split: 3, the first in row 3; data.drop_empty=true drops them."
    assert message == expected


def test_sentences_without_text_are_dropped_and_counted_on_request(tmp_path: Path) -> None:
    data = load(tmp_path, train=[*MANY, ("", "neg")], test=[(None, "pos"), *FEW], keys={"drop_empty": True})
    assert list(data.splits["test"]["text"]) == ["one", "two"]
    assert data.notes["dropped_empty_train"] == data.notes["dropped_empty_test"] == 1


def test_a_pair_needs_both_texts(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,pair,label\na,,pos\n,b,neg\nc,d,pos\n")
    keys = {"train": str(tmp_path / "train.csv"), "text_pair_column": "pair"}
    assert "without text in the train split: 2, the first in row 1" in error_of(tmp_path, keys=keys)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, test=[("one", "pos"), ("two", None)])
    assert message == "Sentences without a label in the test split: 1, the first in row 2; label or remove them."


def test_hidden_labels_of_a_hub_test_split_are_told(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for split, labels in (("train", [0, 1, 0]), ("test", [-1, -1, -1])):
        columns = {"text": ["a", "b", "c"], "label": labels}
        (tmp_path / "mine").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "mine" / f"{split}.parquet")
    splits = {"train_split": "train", "validation_split": None, "test_split": "test"}
    columns_of = {"text_column": "text", "text_pair_column": None, "label_column": "label"}
    source = {"path": str(tmp_path / "mine"), "name": None, "revision": None}
    config = HubData("hub", 32, None, 128, None, 0.1, 0.2, 0, False, **source, **splits, **columns_of)
    with pytest.raises(
        FrostlineError, match=r"without a label in the test split: 3.*choose a labelled split with data\.test_split"
    ):
        load_data(config, tmp_path / "cache", 0)


def test_a_split_that_is_empty_after_dropping_is_told(tmp_path: Path) -> None:
    message = error_of(tmp_path, test=[("", "pos")], keys={"drop_empty": True})
    assert message == "The test split has no sentences."


def test_a_single_class_cannot_be_learned(tmp_path: Path) -> None:
    message = error_of(tmp_path, train=[(str(i), "pos") for i in range(50)])
    assert "All training sentences have the label 'pos'; a classifier needs at least two classes." in message


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_never_shows_is_told(split: str, tmp_path: Path) -> None:
    message = error_of(tmp_path, **{split: [*FEW, ("three", "neutral")]})
    assert f"Label 'neutral' appears in the {split} split, but in no training sentence" in message


def test_sentences_in_training_and_test_are_counted_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = load(tmp_path, validation=[MANY[0], *FEW], test=[MANY[0], MANY[1], *FEW])
    assert data.notes["train_test_duplicates"] == 2
    assert data.notes["train_validation_duplicates"] == 1
    assert [record.getMessage() for record in caplog.records if record.name.startswith("frostline")] == [
        "Test sentences that are also training sentences: 2 (50.00 % of the test split); scores on them reward memory."
    ]


def test_without_duplicates_there_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path).notes == {"train_validation_duplicates": 0, "train_test_duplicates": 0}
    assert not [record for record in caplog.records if record.name.startswith("frostline")]


# --- what changes training sentences only ----------------------------------------------------------------------------

CHANGES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "noise": ({"label_noise": 0.25}, {"flipped_labels": 52}),  # of 210 training sentences; 70 of them are negative
    "noise somewhere": ({"label_noise": 0.5, "label_noise_where": "label=neg"}, {"flipped_labels": 35}),
    "permuted": ({"permute_labels": True}, {}),
    "permuted and noise": ({"permute_labels": True, "label_noise": 0.1}, {"flipped_labels": 21}),
    "balance": ({"class_balance": [0.5, 0.5]}, {"train_class_neg": 70, "train_class_pos": 70}),
    "balance and size": ({"class_balance": [0.1, 0.9], "train_size": 50}, {"train_class_neg": 5, "train_class_pos": 45}),
    "balance and noise": (
        {"class_balance": [0.2, 0.8], "train_size": 50, "label_noise": 0.2, "label_noise_where": "label=pos"},
        {"train_class_neg": 18, "train_class_pos": 32, "flipped_labels": 8},
    ),
}


@pytest.mark.parametrize(("keys", "notes"), CHANGES.values(), ids=CHANGES)
def test_what_changes_training_sentences_leaves_all_others_alone_and_is_recorded(
    tmp_path: Path, keys: dict[str, Any], notes: dict[str, int]
) -> None:
    plain, changed = load(tmp_path), load(tmp_path, keys=keys)
    for name in ("validation", "test"):
        assert changed.hashes[name] == plain.hashes[name]
        assert changed.splits[name][:] == plain.splits[name][:]
    assert changed.hashes["train"] != plain.hashes["train"]
    assert changed.notes == plain.notes | notes
    assert changed.class_names == plain.class_names
    again, other = load(tmp_path, keys=keys), load(tmp_path, seed=1, keys=keys)
    assert again.hashes == changed.hashes
    assert other.hashes["train"] != changed.hashes["train"]
    assert other.hashes["test"] == changed.hashes["test"]


@pytest.mark.parametrize("keys", [{"label_noise": 0.25}, {"permute_labels": True, "label_noise": 0.1}], ids=["noise", "permuted"])
def test_what_a_label_was_is_kept_as_a_class_number(tmp_path: Path, keys: dict[str, Any]) -> None:
    train, label_of = load(tmp_path, keys=keys).splits["train"], dict(MANY)
    assert train.features["clean_label"].dtype == "int64"
    assert [["neg", "pos"][y] for y in train["clean_label"]] == [label_of[text] for text in train["text"]]
    assert train["clean_label"][:] != train["label"][:]


def test_without_damage_nothing_is_kept_beside_the_labels(tmp_path: Path) -> None:
    assert load(tmp_path, keys={"class_balance": [0.5, 0.5]}).splits["train"].column_names == ["text", "label"]


def test_shares_are_of_the_classes_in_their_order(tmp_path: Path) -> None:
    rows = [(f"{y} {i}", y) for i in range(100) for y in ("1", "10", "9")]
    data = load(tmp_path, train=rows, keys={"class_balance": [0.2, 0.5, 0.3], "train_size": 40})
    assert data.class_names == ["1", "9", "10"]
    assert [list(data.splits["train"]["label"]).count(number) for number in range(3)] == [8, 20, 12]


@pytest.mark.parametrize("balance", [[0.2, 0.3, 0.5], [0.25] * 4])
def test_a_wrong_number_of_shares_is_told_with_the_classes(tmp_path: Path, balance: list[float]) -> None:
    message = error_of(tmp_path, keys={"class_balance": balance})
    assert message == f"data.class_balance has {len(balance)} shares, but there are 2 classes: neg, pos."


def test_runs_of_one_process_that_differ_in_training_sentences_share_what_was_read(tmp_path: Path) -> None:
    """The splits are checked once, and what one run makes of them is not what the next one gets."""
    once, shared, read = Once(), [], []
    configs = [{}, *(keys for keys, _ in CHANGES.values()), {}]
    for keys in configs:
        shared.append(load(tmp_path, keys=keys, once=once).hashes)
        read.append(once._made["data"][1])
    assert all(splits is read[0] for splits in read)
    assert shared == [load(tmp_path, keys=keys).hashes for keys in configs]

"""Hub data sets, as far as they can be tested without the hub: local folders, a filled cache, and an unreachable hub."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from frostline.data.hub import read_hub
from frostline.errors import FrostlineError
from frostline.schema import HubData

CLASSES = datasets.ClassLabel(names=["neg", "pos"])


def config(path: Path | str, **keys: Any) -> HubData:
    splits = {"train_split": "train", "validation_split": None, "test_split": "test"}
    columns = {"text_column": "text", "text_pair_column": None, "label_column": "label"}
    source = {"path": str(path), "name": None, "revision": None}
    return HubData("hub", 32, None, 128, None, 0.1, 0.2, 0, False, **(source | splits | columns | keys))


def write(folder: Path, label: Any = CLASSES, labels: tuple[Any, ...] = (0, 1, 1)) -> Path:
    """A folder in the hub's layout."""
    features = datasets.Features({"text": datasets.Value("string"), "pair": datasets.Value("string"), "label": label})
    columns = {"text": ["a", None, "NA"], "pair": ["x", "y", "z"], "label": list(labels)}
    folder.mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")
    return folder


def error_of(config: HubData, cache: Path) -> str:
    with pytest.raises(FrostlineError) as error:
        read_hub(config, cache)
    return str(error.value)


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")


def test_a_local_folder_is_read_with_its_class_names(tmp_path: Path) -> None:
    raw = read_hub(config(write(tmp_path / "mine")), tmp_path / "cache")
    assert list(raw.splits) == ["train", "test"]
    assert raw.splits["train"][:] == {"text": ["a", None, "NA"], "label": ["neg", "pos", "pos"]}
    assert raw.class_names == ["neg", "pos"]
    assert (tmp_path / "cache" / "datasets").is_dir()


def test_pairs_are_read(tmp_path: Path) -> None:
    raw = read_hub(config(write(tmp_path / "mine"), text_pair_column="pair"), tmp_path / "cache")
    assert list(raw.splits["test"]["text_pair"]) == ["x", "y", "z"]


@pytest.mark.parametrize(("kind", "labels"), [("int64", (3, 10, 3)), ("string", ("b", "a", "b"))])
def test_labels_without_class_names_are_their_own_names(kind: str, labels: tuple[Any, ...], tmp_path: Path) -> None:
    raw = read_hub(config(write(tmp_path / "mine", datasets.Value(kind), labels)), tmp_path / "cache")
    assert list(raw.splits["train"]["label"]) == [str(label) for label in labels]
    assert raw.class_names is None


def test_a_hidden_label_is_a_missing_label(tmp_path: Path) -> None:
    raw = read_hub(config(write(tmp_path / "mine", labels=(0, -1, -1))), tmp_path / "cache")
    assert list(raw.splits["test"]["label"]) == ["neg", None, None]


def test_csv_files_in_a_folder_become_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\na,pos\nb,neg\n")
    assert list(read_hub(config(tmp_path), tmp_path / "cache").splits["train"]["label"]) == ["pos", "neg"]


def test_a_missing_split_is_told_with_the_splits(tmp_path: Path) -> None:
    message = error_of(config(write(tmp_path / "mine"), test_split="tests"), tmp_path / "cache")
    assert "has no split 'tests' (data.test_split); its splits are train, test; did you mean 'test'?" in message


@pytest.mark.parametrize("key", ["text_column", "text_pair_column", "label_column"])
def test_a_missing_column_is_told_with_the_columns(key: str, tmp_path: Path) -> None:
    message = error_of(config(write(tmp_path / "mine"), **{key: "sentence"}), tmp_path / "cache")
    assert f"has no column 'sentence' (data.{key}); its columns are text, pair, label" in message


def test_columns_of_the_wrong_kind_are_told(tmp_path: Path) -> None:
    write(tmp_path / "mine", datasets.Value("float64"), (0.5, 1.0, 2.0))
    message = error_of(config(tmp_path / "mine"), tmp_path / "cache")
    assert "(data.label_column) holds 0.5, which is neither a word nor a whole number" in message
    message = error_of(config(tmp_path / "mine", text_column="label"), tmp_path / "cache")
    assert "(data.text_column) does not hold texts" in message


def test_a_folder_without_data_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert "could not be read as a data set: " in error_of(config(tmp_path / "mine"), tmp_path / "cache")


@pytest.mark.parametrize("path", ["nyu-mll/glue", "imdb", "/no/such/folder"])
@pytest.mark.usefixtures("unreachable_hub")
def test_an_unreachable_hub_is_told_within_seconds(path: str, tmp_path: Path) -> None:
    start = time.monotonic()
    message = error_of(config(path), tmp_path / "cache")
    assert time.monotonic() - start < 10
    assert f"Could not load the data set '{path}' from the hub: it is not a local folder, and the hub could not be" in message
    assert "data=movie_reviews" in message
    assert "data=files" in message
    assert not datasets.config.HF_HUB_OFFLINE  # the next job of a sweep asks again


@pytest.mark.usefixtures("unreachable_hub")
def test_a_prepared_data_set_needs_no_hub_but_never_stands_in_for_another_revision(tmp_path: Path) -> None:
    local = write(tmp_path / "glue")
    datasets.load_dataset(str(local), cache_dir=str(tmp_path / "prepared"))
    (prepared,) = (path.parent for path in (tmp_path / "prepared").rglob("dataset_info.json"))
    info = json.loads((prepared / "dataset_info.json").read_text()) | {"config_name": "sst2"}
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    # The place that `datasets` gives to a data set of the hub, named after its commit.
    place = tmp_path / "cache" / "datasets" / "nyu-mll___glue" / "sst2" / "0.0.0" / ("c" * 40)
    place.parent.mkdir(parents=True)
    prepared.rename(place)
    assert len(read_hub(config("nyu-mll/glue", name="sst2"), tmp_path / "cache").splits["train"]) == 3
    message = error_of(config("nyu-mll/glue", name="sst2", revision="d" * 40), tmp_path / "cache")
    assert "the hub could not be reached" in message

"""The user's files are read literally, and what is wrong with them is told with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from frostline.data.files import read_files
from frostline.errors import FrostlineError
from frostline.schema import FilesData

ROWS = [("good, really", "pos"), ("NA", "neg"), ("null", "neg"), ("naïve\u2028line\nbreak “😀”", "pos"), ("", "neg")]


def config(train: Path, **keys: Any) -> FilesData:
    columns = {"text_column": "text", "text_pair_column": None, "label_column": "label", "group_column": None}
    files = {"train": str(train), "validation": None, "test": None}
    return FilesData("files", 32, None, 128, None, 0.1, 0.2, 0, False, **(files | columns | keys))


def write(path: Path, rows: list[tuple[Any, Any]]) -> Path:
    data = datasets.Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    if path.suffix in (".csv", ".tsv"):
        data.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".parquet":
        data.to_parquet(path)
    else:
        path.write_text("".join(json.dumps({"text": t, "label": y}, ensure_ascii=False) + "\n" for t, y in rows), "utf-8")
    return path


def error_of(file: Path, **keys: Any) -> str:
    with pytest.raises(FrostlineError) as error:
        read_files(config(file, **keys))
    return str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_format_gives_the_same_sentences(suffix: str, tmp_path: Path) -> None:
    rows = read_files(config(write(tmp_path / f"train{suffix}", ROWS))).splits["train"]
    assert list(zip(rows["text"], rows["label"], strict=True)) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_whole_number_labels_are_class_names(suffix: str, tmp_path: Path) -> None:
    raw = read_files(config(write(tmp_path / f"train{suffix}", [("a", 10), ("b", 9)])))
    assert list(raw.splits["train"]["label"]) == ["10", "9"]
    assert raw.class_names is None


def test_validation_and_test_files_become_splits(tmp_path: Path) -> None:
    files = {name: str(write(tmp_path / f"{name}.csv", ROWS)) for name in ("validation", "test")}
    raw = read_files(config(write(tmp_path / "train.jsonl", ROWS), **files))
    assert list(raw.splits) == ["train", "validation", "test"]


def test_pairs_and_groups_keep_apart_from_columns_of_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("label,text,a,b\npos,anna,x,y\n")
    raw = read_files(config(file, text_column="a", text_pair_column="b", group_column="text"))
    assert raw.splits["train"][0] == {"text": "x", "text_pair": "y", "label": "pos", "group": "anna"}
    assert raw.group_column == "group"


CELLS: dict[str, tuple[list[Any], list[Any]]] = {  # in a JSON Lines file -> what is kept of them
    "whole numbers": ([1, "2", "-3"], [1, 2, -3]),
    "numbers": ([1, "2.5", "1e-3"], [1.0, 2.5, 0.001]),
    "numbers and gaps": ([1, "", None], [1, None, None]),
    "no number that is": ([1, 2.5, float("nan")], [1.0, 2.5, None]),
    "a word among numbers": ([1, "two", 3], ["1", "two", "3"]),
    "numbers that are names": (["007", "1", "2"], ["007", "1", "2"]),
    "more digits than a number has": (["9" * 30, "1", "2"], [1e30, 1.0, 2.0]),
    "truth": ([True, False, None], [True, False, None]),
    "truth and words": ([True, "no", 1], ["True", "no", "1"]),
    "nothing": ([None, "", None], [None, None, None]),
}


@pytest.mark.parametrize(("cells", "expected"), CELLS.values(), ids=CELLS)
def test_a_kept_column_holds_numbers_if_all_its_cells_are(cells: list[Any], expected: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps({"text": "a", "label": "x", "own": cell}) + "\n" for cell in cells))
    found = list(read_files(config(file, keep_columns=["own"])).splits["train"]["own"])
    assert found == expected
    assert [type(cell) for cell in found] == [type(cell) for cell in expected]


def test_a_kept_column_has_one_type_in_all_files(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.jsonl"
    train.write_text("text,label,year,place\na,x,1999,1\n")
    test.write_text('{"text": "b", "label": "x", "year": 2000.5, "place": "here"}\n')
    splits = read_files(config(train, test=str(test), keep_columns=["year", "place"])).splits
    assert splits["train"][0] == {"text": "a", "label": "x", "year": 1999.0, "place": "1"}
    assert splits["test"][0] == {"text": "b", "label": "x", "year": 2000.5, "place": "here"}
    assert splits["train"].features == splits["test"].features


def test_a_kept_column_that_cannot_be_is_told(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "label": "x", "author": {"name": "anna"}}\n')
    message = error_of(file, keep_columns=["autor"])
    assert "no column 'autor' (data.keep_columns)" in message and "did you mean 'author'?" in message
    assert "row 1, column 'author': {'name': 'anna'} is neither a text nor a number" in error_of(file, keep_columns=["author"])


def test_a_byte_order_mark_and_blank_lines_are_no_content(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"\xef\xbb\xbftext,label\r\n\r\na,pos\r\n")
    assert read_files(config(file)).splits["train"][:] == {"text": ["a"], "label": ["pos"]}


def test_a_missing_file_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ROWS)
    assert "There is no file" in error_of(tmp_path / "nowhere" / "x.csv")
    assert error_of(tmp_path / "tain.csv").endswith("did you mean 'train.csv'?")


def test_an_unknown_suffix_is_told_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "train.xlsx").write_text("")
    assert "has the suffix '.xlsx', but must be .csv, .tsv, .jsonl, .json or .parquet" in error_of(tmp_path / "train.xlsx")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_told_with_the_file_s_columns(suffix: str, tmp_path: Path) -> None:
    message = error_of(write(tmp_path / f"train{suffix}", ROWS), label_column="lable")
    assert "no column 'lable' (data.label_column); its columns are text, label; did you mean 'label'?" in message


def test_bytes_that_are_not_utf8_are_told_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes("text,label\nna\xefve,pos\n".encode("latin-1"))
    message = error_of(file)
    assert f"'{file}' is not UTF-8: byte 13 (line 2) is 0xef; save it as UTF-8." == message


def test_malformed_json_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", \n')
    assert "line 2: not valid JSON" in error_of(file)
    file.write_text('{"text": "a", "label": 1}\n[1]\n')
    assert "line 2: not a JSON object; write one object a line" in error_of(file)
    file.write_text('{"text": "\\ud83d", "label": 1}\n')
    assert "not valid Unicode" in error_of(file)


@pytest.mark.parametrize("row", ["a", "a,pos,surplus"])
def test_a_ragged_row_is_told_with_its_line(row: str, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text(f"text,label\nb,neg\n{row}\n")
    assert f"line 3: {len(row.split(','))} columns instead of the header's 2" in error_of(file)


def test_an_open_quotation_mark_does_not_swallow_the_file(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text('text\tlabel\n"open\tpos\nb\tneg\n')
    assert "line 3: unexpected end of data; put texts with quotation marks" in error_of(file)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,label,label\na,b,c\n")
    assert "two columns of the same name; its columns are text, label, label" in error_of(file)


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("no parquet at all")
    assert "is not a readable Parquet file" in error_of(tmp_path / "train.parquet")


@pytest.mark.parametrize(("suffix", "content"), [(".csv", ""), (".csv", "text,label\n"), (".jsonl", ""), (".tsv", "\n")])
def test_a_file_without_rows_is_told(suffix: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / f"train{suffix}"
    file.write_text(content)
    assert error_of(file) == f"'{file}' holds no rows."


def test_values_of_the_wrong_type_are_told_with_their_row(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": 7, "label": 1}\n')
    assert "row 2, column 'text': 7 is not a text" in error_of(file)
    file.write_text('{"text": "a", "label": 1.5}\n')
    assert "row 1, column 'label': the label 1.5 is neither a word nor a whole number" in error_of(file)
    file.write_text('{"text": "a", "label": 1, "g": null}\n')
    assert "row 1, column 'g': the group is missing" in error_of(file, group_column="g")


def test_a_missing_label_is_none_not_a_class(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,label\na,\nb,pos\n")
    assert list(read_files(config(file)).splits["train"]["label"]) == [None, "pos"]

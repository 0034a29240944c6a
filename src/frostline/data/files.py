"""The user's own files: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from frostline.data.splits import SPLITS, RawData
from frostline.errors import FrostlineError, choices, nearest
from frostline.schema import FilesData

Columns = dict[str, list[Any]]
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")  # as JSON writes them: 007 is a text
GROUP = "group"  # the group column's name in RawData: the user's own could be 'text'


def read_files(config: FilesData) -> RawData:
    """Read the user's files, each in the format that its suffix says.

    Args:
        config: the files and their columns; validation and test may be None.

    Returns:
        A split per file with ``text``, ``text_pair``, ``label`` and ``group``, as far as configured, and the columns that
        are to be kept. Cells of CSV and TSV files are taken literally: ``NA`` is a text. An empty label cell is a missing label.
        A kept column holds numbers if all its cells are or spell one, else truth values or texts; an empty cell is a missing one.

    Raises:
        FrostlineError: a file that is missing, empty, malformed or not UTF-8; a missing column; a value of the wrong
            type.
    """
    names = {
        "text": config.text_column,
        "text_pair": config.text_pair_column,
        "label": config.label_column,
        GROUP: config.group_column,
    }
    wanted = {role: name for role, name in names.items() if name is not None}
    wanted |= {name: name for name in config.keep_columns}
    files = {split: Path(getattr(config, split)) for split in SPLITS if getattr(config, split) is not None}
    found = {split: _columns(file, wanted, config.keep_columns) for split, file in files.items()}
    for name in config.keep_columns:
        _make_alike(name, found.values())
    return RawData(
        splits={split: _dataset(files[split], columns) for split, columns in found.items()},
        class_names=None,
        group_column=GROUP if config.group_column else None,
        notes={},
    )


def require_file(file: Path) -> None:
    """Refuse a data file that does not exist.

    Raises:
        FrostlineError: naming the nearest file in its folder.
    """
    if not file.is_file():
        neighbours = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
        raise FrostlineError(f"There is no file '{file}'{nearest(file.name, neighbours) or '.'}")


def _columns(file: Path, wanted: dict[str, str], kept: Collection[str]) -> Columns:
    table = read_table(file)
    if not table or not next(iter(table.values())):
        raise FrostlineError(f"'{file}' holds no rows.")
    for role, name in wanted.items():
        if name not in table:
            key = "keep_columns" if role in kept else f"{role}_column"
            raise FrostlineError(
                f"'{file}' has no column '{name}' (data.{key}); its columns are {', '.join(table)}{nearest(name, table) or '.'}"
            )
    columns: Columns = {}
    for role, name in wanted.items():
        check = _kept if role in kept else {"label": _label, GROUP: _group}.get(role, _text)
        columns[role] = [check(value, f"'{file}', row {row}, column '{name}'") for row, value in enumerate(table[name], 1)]
    return columns


def _dataset(file: Path, columns: Columns) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_dict(columns)
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, "\ud83d", which is no character
        raise FrostlineError(f"'{file}' holds a text that is not valid Unicode (half a surrogate pair); repair it.") from None


def _text(value: Any, place: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise FrostlineError(f"{place}: {value!r:.80} is not a text.")


def _label(value: Any, place: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str | int):
        return str(value)
    raise FrostlineError(f"{place}: the label {value!r:.80} is neither a word nor a whole number.")


def _group(value: Any, place: str) -> str:
    if value is None or value == "":
        raise FrostlineError(f"{place}: the group is missing.")
    return str(value)


def _kept(value: Any, place: str) -> str | int | float | None:
    if value is None or value == "" or value != value:  # the last one is NaN
        return None
    if isinstance(value, str | int | float):
        return value
    raise FrostlineError(f"{place}: {value!r:.80} is neither a text nor a number, as a column of data.keep_columns must be.")


def _make_alike(name: str, splits: Collection[Columns]) -> None:
    """Give a kept column the same type in all splits: of numbers, else of truth values, else of texts."""
    cells = [cell for columns in splits for cell in columns[name] if cell is not None]
    kind: Callable[[Any], Any] = str
    if all(isinstance(cell, bool) for cell in cells):
        kind = bool
    elif not any(isinstance(cell, bool) for cell in cells) and all(map(_is_number, cells)):
        whole = all(float(cell).is_integer() and abs(float(cell)) < 2**53 for cell in cells)
        kind = (lambda cell: int(float(cell))) if whole else float
    for columns in splits:
        columns[name] = [None if cell is None else kind(cell) for cell in columns[name]]


def _is_number(cell: str | int | float) -> bool:
    return isinstance(cell, int | float) or NUMBER.fullmatch(cell) is not None


def read_table(file: Path, plain_text: bool = False) -> Columns:
    """Read all columns of a file in the format that its suffix says.

    Args:
        file: ``.csv``, ``.tsv``, ``.jsonl``, ``.json`` or ``.parquet``.
        plain_text: also ``.txt``, every line of which is a ``text``.

    Raises:
        FrostlineError: a file that is missing, malformed or not UTF-8; another suffix.
    """
    readers: dict[str, Callable[[Path], Columns]] = {
        ".csv": lambda path: _delimited(path, ","),
        ".tsv": lambda path: _delimited(path, "\t"),
        ".jsonl": _json_lines,
        ".json": _json_lines,
        ".parquet": _parquet,
    }
    if plain_text:
        readers[".txt"] = _lines
    require_file(file)
    suffix = file.suffix.lower()
    if suffix not in readers:
        raise FrostlineError(
            f"'{file}' has the suffix '{suffix}', but must be {choices(readers)}{nearest(suffix, readers) or '.'}"
        )
    try:
        return readers[suffix](file)
    except OSError as error:
        raise FrostlineError(f"'{file}' cannot be read: {error.strerror or error}.") from None


def _characters(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FrostlineError(
            f"'{file}' is not UTF-8: byte {error.start} (line {line}) is 0x{content[error.start]:02x}; save it as UTF-8."
        ) from None


def _delimited(file: Path, delimiter: str) -> Columns:
    # Not pandas, which fills short rows up silently and takes a surplus first column for an index.
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(io.StringIO(_characters(file), newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        cells = []
        for row in rows:
            if row and len(row) != len(header):
                raise FrostlineError(
                    f"'{file}', line {rows.line_num}: {len(row)} columns instead of the header's {len(header)}; put "
                    f"texts that contain {'a comma' if delimiter == ',' else 'a tab'} in quotation marks."
                )
            if row:  # an empty line is no row
                cells.append(row)
    except csv.Error as error:
        raise FrostlineError(
            f"'{file}', line {rows.line_num}: {error}; put texts with quotation marks in quotation marks and double those inside."
        ) from None
    if len(set(header)) < len(header):
        raise FrostlineError(f"'{file}' has two columns of the same name; its columns are {', '.join(header)}.")
    return {name: [row[i] for row in cells] for i, name in enumerate(header)}


def _json_lines(file: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    # Not splitlines(), which would also cut at separators that JSON allows inside texts, such as U+2028.
    for number, line in enumerate(_characters(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FrostlineError(
                f"'{file}', line {number}: not valid JSON ({error.msg} at character {error.pos + 1}); write one object a line."
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within thousands of brackets
            raise FrostlineError(f"'{file}', line {number}: cannot be read ({error}); write one flat object a line.") from None
        if not isinstance(row, dict):
            raise FrostlineError(f"'{file}', line {number}: not a JSON object; write one object a line.")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _lines(file: Path) -> Columns:
    lines = _characters(file).replace("\r\n", "\n").split("\n")
    return {"text": lines[:-1] if lines[-1] == "" else lines}


def _parquet(file: Path) -> Columns:
    try:
        columns: Columns = pq.ParquetFile(file).read().to_pydict()
    except Exception as error:  # of Arrow, or of Python where a value has no like there
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise FrostlineError(f"'{file}' is not a readable Parquet file: {reason:.200}.") from None
    return columns

"""``frostline predict``: the classes of new sentences, with calibrated probabilities."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from frostline.commands.finished import FinishedRun, load_finished
from frostline.data.files import Columns, read_table
from frostline.errors import FrostlineError, choices, nearest
from frostline.measures.calibration import fit_temperature
from frostline.runs.files import replace_atomically
from frostline.schema import PathsConfig, PredictOptions
from frostline.strategies.checkpoint import read_pointer
from frostline.terminal import visible

FORMATS = (".csv", ".jsonl")


def predict(options: PredictOptions, paths: PathsConfig) -> None:
    """Classify a text or the rows of a file and print or write the classes with their probabilities.

    Args:
        options: which run, of what, where to.
        paths: where the caches are on this machine.

    Raises:
        FrostlineError: no such run; nothing, or too much, to classify; a file that cannot be read, or lacks a column; an empty
            sentence.
    """
    if (options.text is None) == (options.file is None):
        raise FrostlineError('Give either a sentence, text="…", or a file of sentences, file=….')
    out = None if options.out is None else Path(options.out)
    run_dir = Path(options.run)
    if options.file is None:
        if out is not None or options.text_column or options.text_pair_column:
            raise FrostlineError("out, text_column and text_pair_column belong to file=…; a text's classes are printed.")
        pairs = None if options.text_pair is None else [options.text_pair]
        check_sentences([options.text], "text")
        check_sentences(pairs or [], "text_pair")
        show_text(load_finished(run_dir, paths), [str(options.text)], pairs)
        return
    if options.text_pair is not None:
        raise FrostlineError("text_pair belongs to text=…; the second sentences of a file are in its text_pair_column.")
    if out is not None and out.suffix.lower() not in FORMATS:
        raise FrostlineError(f"out: '{out}' has the suffix '{out.suffix}', but must be {choices(FORMATS)}.")
    if out is not None and out.exists() and out.samefile(options.file):
        raise FrostlineError(f"out: '{out}' is the file that is read; choose another name.")
    read_pointer(run_dir)  # a wrong directory is told before a long file is read
    table = read_table(Path(options.file), plain_text=True)
    classify_table(table, load_finished(run_dir, paths), options, out)


def show_text(run: FinishedRun, texts: Sequence[str], pairs: Sequence[str] | None) -> None:
    """Print the classes of one sentence, the most probable first."""
    require_pairs(run, pairs is not None, 'text_pair="…"')
    (probabilities,) = calibrated(run, run.logits(texts, pairs))
    names = [visible(name) for name in run.class_names]
    width = max(map(len, names))
    for i in np.argsort(-probabilities, kind="stable"):
        print(f"{names[i]:<{width}}  {probabilities[i]:.3f}")


def classify_table(table: Columns, run: FinishedRun, options: PredictOptions, out: Path | None) -> None:
    """Write a file's rows, in their order, with ``prediction`` and ``probability_<class>`` to ``out``, or print them as CSV."""
    own = options.text_column or usual(getattr(run.config.data, "text_column", "text"), "text", table)
    pair = options.text_pair_column or (None if run.pair_column is None else usual(run.pair_column, "text_pair", table))
    require_pairs(run, pair is not None, "text_pair_column=…")
    texts = column(table, own, "text_column", str(options.file))
    pairs = None if pair is None else column(table, pair, "text_pair_column", str(options.file))
    probabilities = calibrated(run, run.logits(texts, pairs, show_progress=True))
    rows = table | {"prediction": [run.class_names[i] for i in probabilities.argmax(axis=1)]}
    rows |= {f"probability_{name}": probabilities[:, i].tolist() for i, name in enumerate(run.class_names)}
    if out is None:
        try:
            is_seen = sys.stdout.isatty()  # by a person; a pipe gets every character
            write_rows(sys.stdout, seen(rows) if is_seen else rows, ".csv")
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has seen enough, and nothing more must be flushed at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with replace_atomically(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, rows, out.suffix.lower())
    print(f"{len(texts):,} sentences: {out}")


def usual(own: str, plain: str, table: Columns) -> str:
    """Return the column's name in the run's own data, or the plain one where the table has only that."""
    return plain if own not in table and plain in table else own


def calibrated(run: FinishedRun, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of logits ``[sentences, classes]``, under the temperature that fits the run's validation split."""
    probabilities: NDArray[np.float64] = softmax(logits / fit_temperature(*run.validation()), axis=1)
    return probabilities


def require_pairs(run: FinishedRun, given: bool, option: str) -> None:
    """Refuse single sentences where the run was trained on pairs, and pairs where it was not.

    Raises:
        FrostlineError: naming the option.
    """
    wanted = run.pair_column is not None
    if wanted and not given:
        raise FrostlineError(f"'{run.path}' was trained on pairs of sentences; give the second one with {option}.")
    if given and not wanted:
        raise FrostlineError(f"'{run.path}' was trained on single sentences; leave {option.partition('=')[0]} out.")


def column(table: Columns, name: str, option: str, file: str) -> list[str]:
    """Return a column of sentences.

    Raises:
        FrostlineError: it does not exist, or a row has no sentence in it.
    """
    if not table or not next(iter(table.values())):
        raise FrostlineError(f"'{file}' holds no rows.")
    if name not in table:
        raise FrostlineError(
            f"'{file}' has no column '{name}' ({option}); its columns are {', '.join(table)}{nearest(name, table) or '.'}"
        )
    check_sentences(table[name], f"'{file}', row {{row}}, column '{name}'")
    return table[name]


def check_sentences(sentences: Sequence[Any], place: str) -> None:
    """Refuse what is no sentence.

    Raises:
        FrostlineError: naming ``place``, in which ``{row}`` becomes the row, from 1.
    """
    for row, sentence in enumerate(sentences, 1):
        where = place.replace("{row}", str(row))
        if sentence is None or (isinstance(sentence, str) and not sentence.strip()):
            raise FrostlineError(f"{where}: the sentence is empty; write one, or leave it out.")
        if not isinstance(sentence, str):
            raise FrostlineError(f"{where}: {sentence!r:.80} is not a text.")
        if not sentence.isprintable() and any("\ud800" <= character <= "\udfff" for character in sentence):
            raise FrostlineError(f"{where}: the sentence is not valid Unicode; repair it.")


def seen(rows: Columns) -> Columns:
    """Return columns as a terminal may show them."""
    shown = {name: [visible(cell) if isinstance(cell, str) else cell for cell in cells] for name, cells in rows.items()}
    return {visible(name): cells for name, cells in shown.items()}


def write_rows(file: TextIO, rows: Columns, suffix: str) -> None:
    """Write columns row by row as ``.csv`` or ``.jsonl``."""
    values = zip(*rows.values(), strict=True)
    if suffix == ".csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows)
        writer.writerows(values)
        return
    for row in values:
        file.write(json.dumps(dict(zip(rows, row, strict=True)), ensure_ascii=False, default=str) + "\n")

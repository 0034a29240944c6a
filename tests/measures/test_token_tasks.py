"""Words, their tags and their states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.data.conll import TaggedSentence, annotated_sentences
from frostline.encoder.load import load_encoder
from frostline.errors import FrostlineError
from frostline.measures.token_tasks import SHARES, token_features, token_task
from frostline.schema import RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["part_of_speech", "chunk", "named_entity"])
def test_documents_are_not_shared_between_splits(cache_dir: Path, kind: str) -> None:
    sentences = annotated_sentences(None, cache_dir)
    document_of = np.array([s.document for s in sentences for _ in s.words])
    for seed in range(3):
        task = token_task(kind, sentences, seed)
        documents = {split: set(document_of[task.positions[task.rows(split)]].tolist()) for split in SHARES}
        assert sum(map(len, documents.values())) == len(set.union(*documents.values()))
        assert set(task.labels[task.rows("train")].tolist()) == set(range(len(task.classes)))
        assert len(task.words) + task.dropped == len(document_of)
        words = [word for s in sentences for word in s.words]
        tags = [tag for s in sentences for tag in s.tags[kind]]
        assert task.words == [words[i] for i in task.positions]
        assert [task.classes[label] for label in task.labels] == [tags[i] for i in task.positions]


def test_too_few_words_are_told() -> None:
    sentences = [TaggedSentence(["a", "b"], {"part_of_speech": ["X", "Y"]}, 0)] * 10
    with pytest.raises(FrostlineError, match="part_of_speech needs at least 50 words in each"):
        token_task("part_of_speech", sentences, 0)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_word_has_the_state_of_its_first_token_at_every_layer(family: str, tmp_path: Path) -> None:
    pretrained = load_encoder(RandomModel("random", "mean", family, family, 2, 32, 4, 0), tmp_path)
    lines = [["a", "small", "film"], ["it", "works"], ["one", "two", "three"], ["so"]]
    sentences = [TaggedSentence(words, {}, 0) for words in lines]
    found = token_features(pretrained, sentences, CPU, "32-true")
    assert found.shape == (3, 9, 32)
    row = 0
    for words in lines:
        pieces = [pretrained.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        ids = [pretrained.tokenizer.cls_token_id, *(i for piece in pieces for i in piece), pretrained.tokenizer.sep_token_id]
        with torch.no_grad():
            states = pretrained.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        place = 1
        for piece in pieces:
            for layer in range(3):
                torch.testing.assert_close(found[layer, row], states[layer][0, place], atol=1e-5, rtol=0)
            place += len(piece)
            row += 1

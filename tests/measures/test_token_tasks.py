"""Words, their tags and their states."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.data.conll import TaggedSentence, annotated_sentences
from frostline.encoder.load import Pretrained, load_encoder
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


def test_words_whose_tag_the_training_split_lacks_are_left_out_and_counted() -> None:
    documents = [TaggedSentence([f"{n}"] * 60, {"part_of_speech": ["X", "Y"] * 29 + ["X", f"only {n}"]}, n) for n in range(10)]
    task = token_task("part_of_speech", documents, 0)
    assert task.dropped == 4  # of ten documents, six are for training
    assert len(task.words) == 600 - 4
    assert len(task.classes) == 2 + 6


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


def random_encoder(tmp_path: Path) -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "bert", "bert", 2, 32, 4, 0), tmp_path)


def test_a_sentence_longer_than_the_encoder_takes_is_read_in_pieces(tmp_path: Path) -> None:
    pretrained = random_encoder(tmp_path)
    words = [f"{i:03d}" for i in range(200)]  # three tokens each
    long, whole = (token_features(pretrained, [TaggedSentence(words[:n], {}, 0)], CPU, "32-true") for n in (200, 170))
    torch.testing.assert_close(long[:, :170], whole, atol=1e-5, rtol=0)  # 510 tokens and two special ones: the first piece
    rest = token_features(pretrained, [TaggedSentence(words[170:], {}, 0)], CPU, "32-true")
    torch.testing.assert_close(long[:, 170:], rest, atol=1e-5, rtol=0)


def test_a_tokenizer_that_marks_words_by_the_space_before_them_is_given_that_space(tmp_path: Path) -> None:
    from transformers import GPT2TokenizerFast

    pieces = ["<|endoftext|>", "a", "b", "Ġ", "Ġa", "Ġb"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = GPT2TokenizerFast(vocab=vocabulary, merges=[("Ġ", "a"), ("Ġ", "b")], pad_token="<|endoftext|>")
    pretrained = dataclasses.replace(random_encoder(tmp_path), tokenizer=tokenizer)
    found = token_features(pretrained, [TaggedSentence(["ab", "b", "aa"], {}, 0)], CPU, "32-true")
    assert tokenizer("ab b aa")["input_ids"] == [1, 2, 5, 4, 1]
    with torch.no_grad():
        states = pretrained.model(torch.tensor([[1, 2, 5, 4, 1]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(found, torch.stack([state[0, [0, 2, 3]] for state in states]), atol=1e-5, rtol=0)


def test_a_word_without_a_token_is_told(tmp_path: Path) -> None:
    sentences = [TaggedSentence(["fine"], {}, 0), TaggedSentence(["a", "\u200b"], {}, 0)]
    with pytest.raises(FrostlineError, match=r"no token of '\\u200b' in sentence 2"):
        token_features(random_encoder(tmp_path), sentences, CPU, "32-true")
    found = token_features(random_encoder(tmp_path), [TaggedSentence(["a", "\u200bb"], {}, 0)], CPU, "32-true")
    torch.testing.assert_close(
        found, token_features(random_encoder(tmp_path), [TaggedSentence(["a", "b"], {}, 0)], CPU, "32-true"), atol=1e-5, rtol=0
    )

"""Sentences with scores: the label follows the chosen score and threshold."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.data.scored import read_scored
from frostline.errors import FrostlineError
from frostline.schema import ScoredData


def config_of(**keys: object) -> ScoredData:
    shared = {"batch_size": None, "batch_tokens": None, "max_length": 128, "train_size": None, "validation_share": 0.1}
    shared |= {"test_share": 0.2, "split_seed": 0, "drop_empty": False, "source": "scored", "name": "toxicity"}
    return ScoredData(**({"attribute": "identity_attack", "threshold": 0.4} | shared | keys))  # type: ignore[arg-type]


@pytest.mark.parametrize(("attribute", "threshold"), [("identity_attack", 0.4), ("insult", 0.7)])
def test_a_sentence_has_the_attribute_from_the_threshold_on(cache_dir: Path, attribute: str, threshold: float) -> None:
    raw = read_scored(config_of(attribute=attribute, threshold=threshold), cache_dir)
    split = raw.splits["train"]
    assert len(split) == 993
    assert raw.class_names == ["other", attribute]
    for label, score in zip(split["label"][:], split[attribute][:], strict=True):
        assert (label == attribute) == (score >= threshold)
    share = split["label"][:].count(attribute) / len(split)
    assert 0.25 < share < 0.75


def test_an_unknown_name_or_attribute_is_told_with_the_nearest(cache_dir: Path) -> None:
    with pytest.raises(FrostlineError, match=r"data.attribute is 'insults', but must be .*did you mean 'insult'"):
        read_scored(config_of(attribute="insults"), cache_dir)
    with pytest.raises(FrostlineError, match="There is no packaged data set with scores 'toxic'"):
        read_scored(config_of(name="toxic"), cache_dir)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from frostline.encoder import stock
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.stock import HEADS, check_stock, stock_classifier
from frostline.errors import FrostlineError
from frostline.schema import RandomModel

BLOCKS, WIDTH, CLASSES = 3, 32, 3
TEXTS = ["a", "this is good", "a longer sentence, with commas and what not, that goes on and on", "no!"]
MEAN = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "albert"]
CASES = [(family, "mean", layer) for family in MEAN for layer in (0, 2, BLOCKS)]
CASES += [(family, "cls", layer) for family in (*MEAN, "mpnet") for layer in (2, BLOCKS)]
CASES += [("modernbert", "mean", BLOCKS), ("modernbert", "cls", BLOCKS), ("gpt2", "last", BLOCKS)]

pytestmark = pytest.mark.usefixtures("one_thread")


def encoder(family: str, pooling: str) -> Pretrained:
    """A random encoder whose norms and biases are not the 1 and 0 that they start with."""
    config = RandomModel(
        source="random", pooling=pooling, name="tiny", family=family, blocks=BLOCKS, width=WIDTH, heads=4, weights_seed=0
    )
    pretrained = load_encoder(config, Path())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in pretrained.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return pretrained


def head(size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(CLASSES, WIDTH, generator=draw) * size, torch.randn(CLASSES, generator=draw) * 3


def pooled(pretrained: Pretrained, text: str, pooling: str, layer: int) -> torch.Tensor:
    """The pooled states of one sentence, without padding: straight from transformers."""
    output = pretrained.model(**pretrained.tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    (states,) = output.last_hidden_state if layer == BLOCKS else output.hidden_states[layer]
    return {"mean": states.double().mean(dim=0), "cls": states[0].double(), "last": states[-1].double()}[pooling]


@pytest.mark.parametrize(("family", "pooling", "layer"), CASES, ids=str)
def test_the_stock_model_has_the_logits_of_a_linear_head_on_the_pooled_states(family, pooling, layer, tmp_path):
    pretrained, (weight, bias) = encoder(family, pooling), head()
    stock_classifier(pretrained.model, layer, pooling, weight, bias, ["a", "b", "c"]).save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.inference_mode():
        states = torch.stack([pooled(pretrained, text, pooling, layer) for text in TEXTS])
        expected = F.linear(states, weight.double(), bias.double())
        padded = model(**pretrained.tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
        single = torch.cat([model(**pretrained.tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    assert expected.std(dim=0).min() > 0.1  # the sentences differ
    torch.testing.assert_close(padded.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["SMALL", "LARGE", "TANH"])
def test_each_constant_is_needed(name, monkeypatch):
    pretrained, (weight, bias) = encoder("bert", "mean"), head()
    monkeypatch.setattr(stock, name, 1.0)
    model = stock_classifier(pretrained.model, 2, "mean", weight, bias, ["a", "b", "c"])
    with torch.inference_mode():
        expected = F.linear(pooled(pretrained, TEXTS[2], "mean", 2), weight.double(), bias.double())
        logits = model(**pretrained.tokenizer(TEXTS[2], return_tensors="pt")).logits[0].double()
    assert (logits - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "gpt2"])
def test_large_and_small_logits_keep_their_digits(family):
    pooling = "last" if family == "gpt2" else "mean"
    pretrained = encoder(family, pooling)
    for size in (1e-3, 30.0):
        weight, bias = head(size)
        model = stock_classifier(pretrained.model, BLOCKS, pooling, weight, bias * size, ["a", "b", "c"])
        with torch.inference_mode():
            expected = F.linear(pooled(pretrained, TEXTS[2], pooling, BLOCKS), weight.double(), bias.double() * size)
            logits = model(**pretrained.tokenizer(TEXTS[2], return_tensors="pt")).logits[0].double()
        assert (logits - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize(
    ("family", "pooling", "layer", "classes", "words"),
    [
        ("bert", "max", 3, 2, "model.pooling=cls or mean"),
        ("bert", "last", 3, 2, "model.pooling=cls or mean"),
        ("mpnet", "mean", 3, 2, "model.pooling=cls"),
        ("gpt2", "mean", 3, 2, "model.pooling=last"),
        ("modernbert", "mean", 2, 2, "strategy.layer=last"),
        ("gpt2", "last", 0, 2, "strategy.layer=last"),
        ("bert", "cls", 0, 2, "nothing to export"),
        ("bert", "mean", 3, 30, "room for 29 classes"),
        ("distilbert", "cls", 3, 17, "room for 16 classes"),
    ],
)
def test_what_no_class_of_transformers_can_say_is_refused(family, pooling, layer, classes, words):
    with pytest.raises(FrostlineError, match=words):
        check_stock(family, pooling, layer, 3, classes, 32)


def test_every_family_has_a_head():
    from frostline.encoder.families import FAMILIES

    assert HEADS.keys() == FAMILIES.keys()

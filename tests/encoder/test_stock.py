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


def pooled(pretrained: Pretrained, texts: list[str], pooling: str, layer: int) -> torch.Tensor:
    """The pooled states of a padded batch, ``[sentences, width]``, float64: straight from transformers."""
    batch = pretrained.tokenizer(texts, padding=True, return_tensors="pt")
    output = pretrained.model(**batch, output_hidden_states=True)
    states = output.last_hidden_state if layer == BLOCKS else output.hidden_states[layer]
    real = [of_text[: int(n)].double() for of_text, n in zip(states, batch["attention_mask"].sum(dim=1), strict=True)]
    return torch.stack([{"mean": s.mean(dim=0), "cls": s[0], "last": s[-1]}[pooling] for s in real])


@pytest.mark.parametrize(("family", "pooling", "layer"), CASES, ids=str)
def test_the_stock_model_has_the_logits_of_a_linear_head_on_the_pooled_states(family, pooling, layer, tmp_path):
    pretrained, (weight, bias) = encoder(family, pooling), head()
    stock_classifier(pretrained.model, layer, pooling, weight, bias, ["a", "b", "c"]).save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())

    def difference(texts: list[str]) -> float:
        with torch.inference_mode():
            expected = F.linear(pooled(pretrained, texts, pooling, layer), weight.double(), bias.double())
            logits = model(**pretrained.tokenizer(texts, padding=True, return_tensors="pt")).logits
        assert len(texts) == 1 or expected.std(dim=0).min() > 0.1  # the sentences differ
        return float((logits.double() - expected).abs().max())

    assert difference(TEXTS) < 1e-5
    assert max(difference([text]) for text in TEXTS) < 1e-5
    pretrained.model.double()  # what is left in float64 is no rounding
    model.double()
    assert difference(TEXTS) < 1e-6


@pytest.mark.parametrize("name", ["SMALL", "LARGE", "TANH"])
def test_each_constant_is_needed(name, monkeypatch):
    pretrained, (weight, bias) = encoder("bert", "mean"), head()
    monkeypatch.setattr(stock, name, 1.0)
    model = stock_classifier(pretrained.model, 2, "mean", weight, bias, ["a", "b", "c"])
    with torch.inference_mode():
        expected = F.linear(pooled(pretrained, TEXTS[2:3], "mean", 2)[0], weight.double(), bias.double())
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
            expected = F.linear(pooled(pretrained, TEXTS[2:3], pooling, BLOCKS)[0], weight.double(), bias.double() * size)
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

"""Low-rank updates and biases: what trains, that nothing changes at first, and that merged weights compute the same."""

from __future__ import annotations

import pytest
import torch

from frostline.encoder.adapters import add_updates, merge_updates, train_only_biases
from frostline.encoder.split import SplitEncoder
from frostline.errors import FrostlineError
from frostline.measures.subject import with_weights
from tests.strategies.tiny import BLOCKS, batch_of, encoder

pytestmark = pytest.mark.usefixtures("one_thread")
TARGETS = {"bert": None, "roberta": None, "gpt2": None, "distilbert": ["q_lin", "v_lin"]}
ARMS = [(family, depth) for family in TARGETS for depth in (0, 2)]


def states_of(split: SplitEncoder, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return split.eval()(batch)


@pytest.mark.parametrize(("family", "depth"), ARMS)
def test_updates_change_nothing_at_first_and_train_alone(family: str, depth: int) -> None:
    pretrained = encoder(family)
    batch = batch_of(pretrained)
    split = SplitEncoder(pretrained.model, depth)
    before = states_of(split, batch)
    add_updates(split, 2, 4.0, 0.0, TARGETS[family])
    assert torch.equal(states_of(split, batch), before)
    trained = split.trained_parameters()
    assert trained and all(".lora_" in name for name, _ in trained)
    heights = {split.height(name) for name, _ in trained}
    assert heights == set(range(BLOCKS - depth)), "every thawed block has updates, and no other"


@pytest.mark.parametrize(("family", "depth"), ARMS)
def test_merged_weights_compute_what_the_updates_do(family: str, depth: int) -> None:
    pretrained = encoder(family)
    batch = batch_of(pretrained)
    split = SplitEncoder(pretrained.model, depth)
    before = states_of(split, batch)
    add_updates(split, 2, 4.0, 0.0, TARGETS[family])
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in split.trained_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    adapted = states_of(split, batch)
    assert not torch.allclose(adapted, before, atol=1e-2)
    state = {split.pretrained_name(name): p.detach() for name, p in split.trained_parameters()}
    merged = with_weights(pretrained, merge_updates(pretrained.model, state, 4.0 / 2))
    torch.testing.assert_close(states_of(SplitEncoder(merged.model, 0), batch), adapted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", [["nowhere"], ["LayerNorm"], ["word_embeddings"]])
def test_only_linear_modules_can_be_adapted(targets: list[str]) -> None:
    with pytest.raises(FrostlineError, match=f"no linear module of the encoder is called '{targets[0]}'"):
        add_updates(SplitEncoder(encoder().model, 0), 2, 4.0, 0.0, targets)


@pytest.mark.parametrize("depth", [0, 2])
def test_bitfit_trains_the_biases_above_the_depth_and_nothing_else(depth: int) -> None:
    split = SplitEncoder(encoder().model, depth)
    everything = {name for name, _ in split.trained_parameters()}
    train_only_biases(split)
    assert {name for name, _ in split.trained_parameters()} == {name for name in everything if name.endswith("bias")}


def test_an_encoder_without_biases_is_refused() -> None:
    split = SplitEncoder(encoder("modernbert").model, 0)
    if any(name.endswith("bias") for name, _ in split.trained_parameters()):
        pytest.fail("the family has biases by now: choose another one")
    with pytest.raises(FrostlineError, match="has none; use strategy=lora"):
        train_only_biases(split)

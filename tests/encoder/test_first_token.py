"""The last block for the first token alone gives that token's state, and the same gradients."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from frostline.encoder.first_token import TYPES, FirstTokenBlock, only_first_token
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.quick import quicken
from frostline.encoder.split import SplitEncoder
from frostline.schema import RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS, WIDTH = 3, 32


def encoder(family: str) -> Pretrained:
    pretrained = load_encoder(RandomModel("random", "cls", "tiny", family, BLOCKS, WIDTH, 4, 0), Path("no-cache"))
    quicken(pretrained.model, torch.device("cpu"))
    return pretrained


def suffixes(family: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The trained blocks above depth 1, whole and with the shortened last block."""
    whole = SplitEncoder(encoder(family).model, 1).suffix
    assert whole is not None
    quick = copy.deepcopy(whole)
    assert only_first_token(quick)
    assert isinstance(quick.get_submodule("encoder.layer")[-1], FirstTokenBlock)
    return whole, quick


@pytest.mark.parametrize("family", TYPES)
def test_first_token_and_all_gradients_are_those_of_the_whole_block(family: str) -> None:
    whole, quick = suffixes(family)
    states, mask = torch.randn(4, 7, WIDTH), torch.ones(4, 7, dtype=torch.int64)
    mask[1, 4:], mask[2, 2:] = 0, 0
    firsts = []
    for suffix in (whole, quick):
        first = suffix(inputs_embeds=states, attention_mask=mask).last_hidden_state[:, 0]
        (first * torch.linspace(-1, 1, WIDTH)).sin().sum().backward()
        firsts.append(first.detach())
    torch.testing.assert_close(firsts[1], firsts[0], rtol=0, atol=1e-6)
    found, expected = (dict(suffix.named_parameters()) for suffix in (quick, whole))
    assert found.keys() == expected.keys(), "names, and so checkpoints, stay as they are"
    for name, parameter in expected.items():
        assert parameter.grad is not None and found[name].grad is not None
        torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_dropout_is_on_in_train_mode_only() -> None:
    _, quick = suffixes("bert")
    states, mask = torch.randn(4, 7, WIDTH), torch.ones(4, 7, dtype=torch.int64)

    def first() -> torch.Tensor:
        found: torch.Tensor = quick(inputs_embeds=states, attention_mask=mask).last_hidden_state.detach()
        return found

    quick.eval()
    assert torch.equal(first(), first())
    quick.train()
    assert not torch.equal(first(), first())


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2", "distilbert"])
def test_other_families_keep_their_own_block(family: str) -> None:
    suffix = SplitEncoder(encoder(family).model, 1).suffix
    assert suffix is not None
    assert not only_first_token(suffix)


def test_a_block_that_computes_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at load: a family that changes its block must not be computed as it was."""
    suffix = SplitEncoder(encoder("bert").model, 1).suffix
    assert suffix is not None
    own = FirstTokenBlock.forward
    monkeypatch.setattr(FirstTokenBlock, "forward", lambda *args, **options: own(*args, **options) * 1.001)
    assert not only_first_token(suffix)
    assert not isinstance(suffix.get_submodule("encoder.layer")[-1], FirstTokenBlock)

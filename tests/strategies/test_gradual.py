"""Gradual unfreezing: what is frozen in an epoch is as good as not there, what has thawed trains as if it always had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from frostline.encoder.families import FAMILIES, family_of
from frostline.encoder.load import Pretrained
from frostline.encoder.split import SplitEncoder
from frostline.schema import DropoutRates, GradualStrategy, L2Sp, Mixout, PartialStrategy
from frostline.strategies import PartialClassifier
from frostline.strategies.gradual import GradualClassifier
from frostline.strategies.remedies import set_dropout
from tests.strategies.tiny import BLOCKS, batch_of, build, encoder, fit, pretend_training, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")


def gradual(pretrained: Pretrained, depth: int = 0, epochs_per_block: int = 1, **keys: Any) -> GradualClassifier:
    module = build(pretrained, GradualStrategy("gradual", 1e-4, 8, depth, epochs_per_block), **keys)
    assert isinstance(module, GradualClassifier)
    return module


def partial(pretrained: Pretrained, depth: int) -> PartialClassifier:
    module = build(pretrained, PartialStrategy("partial", 1e-4, 8, depth, False))
    assert isinstance(module, PartialClassifier)
    return module


def frozen_at(depth: int, name: str, family: str) -> bool:
    """Whether a pretrained parameter is among the embeddings and the first ``depth`` blocks; by name, from the definition."""
    path = family_of(family).blocks + "."
    if name.startswith(path):
        return int(name.removeprefix(path).split(".")[0]) < depth
    if name.startswith(f"{family_of(family).final_norm}."):
        return depth == BLOCKS
    return depth > 0


# --- the schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "epochs_per_block", "expected"),
    [
        (0, 1, [3, 2, 1, 0, 0, 0, 0, 0]),
        (0, 2, [3, 3, 2, 2, 1, 1, 0, 0]),
        (1, 1, [3, 2, 1, 1, 1, 1, 1, 1]),
        (2, 3, [3, 3, 3, 2, 2, 2, 2, 2]),
    ],
)
def test_a_block_thaws_every_few_epochs_down_to_the_depth(depth: int, epochs_per_block: int, expected: list[int]) -> None:
    module = gradual(encoder(), depth, epochs_per_block)
    assert [module.depth_at(epoch) for epoch in range(8)] == expected
    for epoch, now in enumerate(expected):
        pretend_training(module, epoch)
        assert module.depth_now == now
        frozen = {name for name, _, height in module.trained_below() if module.is_frozen(height)}
        assert frozen == {name for name, _, _ in module.trained_below() if frozen_at(now, name, "bert")}


# --- in training -------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Modes in every step, and everything that trains after every epoch."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []
        self.with_state: list[set[str]] = []
        self.modes: list[tuple[int, dict[int, set[bool]], set[bool]]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, GradualClassifier)
        suffix = pl_module.encoder.suffix
        assert suffix is not None
        path = family_of(suffix.config.model_type).blocks
        blocks = {pl_module.encoder.depth + i: block for i, block in enumerate(suffix.get_submodule(path).children())}
        inside = {id(m) for block in blocks.values() for m in block.modules()}
        outside = {m.training for m in suffix.modules() if isinstance(m, nn.Dropout) and id(m) not in inside}
        modes = {number: {m.training for m in block.modules()} for number, block in blocks.items()}
        self.modes.append((trainer.current_epoch, modes, outside))
        assert pl_module.encoder.prefix is None or not any(m.training for m in pl_module.encoder.prefix.modules())

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert not any(m.training for m in pl_module.modules())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GradualClassifier)
        names = {id(p): name for name, p, _ in pl_module.trained_below()}
        self.after.append({name: p.detach().clone() for name, p, _ in pl_module.trained_below()})
        self.with_state.append({names[id(p)] for p in trainer.optimizers[0].state if id(p) in names})
        assert pl_module.head.weight in trainer.optimizers[0].state


@pytest.mark.parametrize(("family", "depth"), [("bert", 0), ("gpt2", 0), ("mpnet", 0), ("distilbert", 1)])
def test_what_is_frozen_keeps_every_bit_and_what_has_thawed_trains(family: str, depth: int, tmp_path: Path) -> None:
    pretrained = encoder(family)
    module, watch = gradual(pretrained, depth), Watch()
    before = {name: p.detach().clone() for name, p, _ in module.trained_below()}
    head = snapshot(module.head)
    epochs = BLOCKS - depth + 1
    fit(module, pretrained, tmp_path, watch, epochs=epochs)

    assert len(watch.after) == epochs
    for epoch, after in enumerate(watch.after):
        now = max(depth, BLOCKS - epoch)
        for name, weight in after.items():
            is_same = torch.equal(weight, before[name])
            assert is_same == frozen_at(now, name, family), f"{name} in epoch {epoch}"
        assert watch.with_state[epoch] == {name for name in after if not frozen_at(now, name, family)}
        before = after
    assert all(not torch.equal(p, head[name]) for name, p in module.head.named_parameters())

    assert {epoch for epoch, _, _ in watch.modes} == set(range(epochs))
    for epoch, modes, outside in watch.modes:
        now = max(depth, BLOCKS - epoch)
        assert modes == {number: {number >= now} for number in range(depth, BLOCKS)}, f"epoch {epoch}"
        assert outside in ({now == 0}, set()), "the embeddings' dropout comes with their training"


@pytest.mark.parametrize("remedy", [{"mixout": Mixout(0.5)}, {"l2_sp": L2Sp(1.0)}], ids=["mixout", "l2_sp"])
def test_remedies_do_not_reach_what_is_frozen(remedy: dict[str, Any], tmp_path: Path) -> None:
    pretrained = encoder()
    module, watch = gradual(pretrained, remedy=remedy), Watch()
    before = {name: p.detach().clone() for name, p, _ in module.trained_below()}
    fit(module, pretrained, tmp_path, watch, epochs=2)
    for now, after in zip((BLOCKS, BLOCKS - 1), watch.after, strict=True):
        changed = {name for name, p in after.items() if not torch.equal(p, before[name])}
        assert changed == {name for name in after if not frozen_at(now, name, "bert")}


# --- the backward pass -------------------------------------------------------------------------------------------------


def gradients(module: PartialClassifier, batch: dict[str, Any]) -> dict[str, Tensor]:
    module.zero_grad()
    module.loss(batch).backward()
    below = {name: p.grad for name, p, _ in module.trained_below()}
    head = {f"head.{name}": p.grad for name, p in module.head.named_parameters()}
    return {name: grad.clone() for name, grad in (below | head).items() if grad is not None}


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "albert"])
def test_gradients_are_those_of_a_partial_run_of_the_same_depth(family: str) -> None:
    pretrained = encoder(family)
    batch = batch_of(pretrained)
    for depth in (0, 1):
        module = gradual(pretrained, depth)
        for epoch in range(BLOCKS - depth + 1):
            pretend_training(module, epoch)
            twin = partial(pretrained, module.depth_now)
            pretend_training(twin)
            expected, found = gradients(twin, batch), gradients(module, batch)
            module.on_after_backward()
            kept = {name for name, p, _ in module.trained_below() if p.grad is not None} | {"head.weight", "head.bias"}
            assert kept == expected.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=f"{name} in epoch {epoch}")
            if family == "bert":
                assert found.keys() == expected.keys(), "nothing is computed below the lowest thawed block"


def test_a_block_that_all_layers_share_is_not_cut() -> None:
    pretrained = encoder("albert")
    batch = batch_of(pretrained)
    module, twin = gradual(pretrained), partial(pretrained, 0)
    pretend_training(module, BLOCKS)
    pretend_training(twin)
    found, expected = gradients(module, batch), gradients(twin, batch)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("epoch", range(BLOCKS + 1))
def test_over_devices_every_gradient_comes_and_those_of_frozen_blocks_are_dropped(epoch: int) -> None:
    """Devices wait for one another's gradients, so none may be missing before they are averaged."""
    pretrained = encoder()
    batch = batch_of(pretrained)
    module = gradual(pretrained)
    pretend_training(module, epoch)
    alone = gradients(module, batch)
    pretend_training(module, epoch, devices=2)
    found = gradients(module, batch)
    assert found.keys() >= {name for name, _, _ in module.trained_below()}
    module.on_after_backward()
    kept = {name for name, p, _ in module.trained_below() if p.grad is not None} | {"head.weight", "head.bias"}
    assert kept == alone.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(found[name], 2 * gradient)  # the devices' mean has half of the batch each


def test_dropout_acts_in_thawed_blocks_only() -> None:
    """Compared with the plain states: what a frozen block makes of its input does not depend on the draw."""
    pretrained = encoder()
    module = gradual(pretrained)
    set_dropout(module.encoder, DropoutRates(0.5, 0.5))
    suffix = module.encoder.suffix
    assert suffix is not None
    seen: list[tuple[int, Tensor]] = []
    blocks = suffix.get_submodule("encoder.layer")
    for number, block in enumerate(blocks.children()):
        block.register_forward_hook(lambda _, __, out, number=number: seen.append((number, out)))
    batch = batch_of(pretrained)
    module.eval()
    module(batch)
    plain = dict(seen)
    for epoch in range(BLOCKS + 1):
        pretend_training(module, epoch)
        module.train()
        seen.clear()
        module(batch)
        same = {number for number, out in seen if torch.equal(out, plain[number])}
        assert same == set(range(module.depth_now)), f"epoch {epoch}"


def test_after_training_the_module_predicts_without_a_trainer(tmp_path: Path) -> None:
    pretrained = encoder()
    module = gradual(pretrained)
    fit(module, pretrained, tmp_path, epochs=2)
    twin = gradual(encoder())
    twin.load_trained_state(module.trained_state())
    batch = batch_of(pretrained)
    with torch.no_grad():
        assert torch.equal(module.eval()(batch), twin.eval()(batch))
    assert isinstance(module.encoder, SplitEncoder)

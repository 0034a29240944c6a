"""What a fit changes and what it must not: weights, modes, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import datasets
import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn

from frostline.data.module import SentenceModule
from frostline.data.sentences import LabelledData
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.split import SplitEncoder
from frostline.errors import DivergedError, FrostlineError
from frostline.schema import AdamW, Config, Constant, RandomModel, Warmup
from frostline.strategies import Classifier, FrozenClassifier, FullClassifier, PartialClassifier
from frostline.strategies.checkpoint import load_checkpoint, read_checkpoint, read_pointer, save_checkpoint
from frostline.strategies.predict import predict
from frostline.strategies.trainer import KeepBest

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS, CLASSES = 2, 3
# A decay that no frozen weight would survive.
ADAMW = AdamW("adamw", 8, lr=1e-2, weight_decay=0.5, betas=[0.9, 0.999], eps=1e-8, layer_decay=0.9, gradient_clip=1.0)
ARMS = ["frozen", *(f"partial-{d}" for d in range(BLOCKS + 1)), "full"]
FAMILIES = ["bert", "mpnet", "gpt2"]  # plain; with a module that all blocks share; with a final norm


def encoder(family: str = "bert", seed: int = 0) -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", family, BLOCKS, 8, 2, seed), Path("no-cache"))


def build(arm: str, pretrained: Pretrained, seed: int = 0, pooling: str = "mean") -> Classifier:
    common: Any = (pooling, CLASSES, ADAMW, Warmup("linear_warmup", 0.1), seed)
    if arm == "frozen":
        return FrozenClassifier(pretrained.model, BLOCKS, *common)
    if arm == "full":
        return FullClassifier(SplitEncoder(pretrained.model, 0), *common)
    return PartialClassifier(SplitEncoder(pretrained.model, int(arm.removeprefix("partial-"))), *common)


def depth_of(arm: str) -> int:
    return {"frozen": BLOCKS, "full": 0}.get(arm, int(arm[-1]) if arm[-1].isdigit() else 0)


def data_module(pretrained: Pretrained, cache: Path) -> SentenceModule:
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{'abc'[i % 3] * 4} {i}" for i in range(size)], "label": [i % 3 for i in range(size)]}
        )
        for name, size in {"train": 40, "validation": 9, "test": 6}.items()
    }
    data = LabelledData(splits, ["a", "b", "c"], {}, {name: name for name in splits})
    return SentenceModule(data, pretrained.tokenizer, pretrained.tokenizer_hash, 16, 8, 0, cache)


def fit(module: Classifier, pretrained: Pretrained, cache: Path, *callbacks: Callback, epochs: int = 2) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, data_module(pretrained, cache))
    return trainer


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trains(name: str, depth: int, family: str) -> bool:
    """Written again from the definition, not from the product's table."""
    if depth == 0:
        return True
    blocks = {"gpt2": "h."}.get(family, "encoder.layer.")
    if name.startswith(blocks):
        return int(name.removeprefix(blocks).split(".")[0]) >= depth
    return name.startswith("ln_f.") and depth < BLOCKS


class Watch(Callback):
    """Looks at modes and dropout in every training step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, bool]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, Classifier)
        batch = args[1]
        with torch.no_grad():
            differs = not torch.equal(pl_module(batch), pl_module(batch))
        inner = pl_module.encoder
        if isinstance(inner, SplitEncoder):
            assert inner.prefix is None or not any(m.training for m in inner.prefix.modules())
            assert inner.suffix is None or all(m.training for m in inner.suffix.modules())
        else:
            assert not any(m.training for m in inner.modules())
        assert pl_module.head.training
        self.steps.append((trainer.current_epoch, differs))

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        assert not any(m.training for m in pl_module.modules())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arm", ARMS)
def test_a_fit_changes_what_trains_and_not_one_bit_of_the_rest(arm: str, family: str, tmp_path: Path) -> None:
    pretrained = encoder(family)
    before = snapshot(pretrained.model)
    module, watch = build(arm, pretrained), Watch()
    head = snapshot(module.head)
    trainer = fit(module, pretrained, tmp_path, watch)

    trained = {name: p for name, p, _ in module.trained_below()}
    assert trained.keys() == {name for name in before if trains(name, depth_of(arm), family)}
    for name, p in pretrained.model.named_parameters():
        assert torch.equal(p, before[name]), f"{name} is what other runs start from, but changed"
        if name in trained and "position" not in name and "wpe" not in name:
            assert not torch.equal(trained[name], p), f"{name} trains, but did not change"
    assert all(not torch.equal(p, head[name]) for name, p in module.head.named_parameters())

    assert {epoch for epoch, _ in watch.steps} == {0, 1}, "modes were seen before and after a validation"
    assert {differs for _, differs in watch.steps} == {depth_of(arm) < BLOCKS}, "dropout acts where something trains"

    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    wanted = {id(p) for p in trained.values()} | {id(p) for p in module.head.parameters()}
    assert held == wanted
    assert {id(p) for p in trainer.optimizers[0].state} == wanted


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arm", ARMS)
def test_lightnings_checkpoint_holds_what_trains_and_no_frozen_weight(arm: str, family: str, tmp_path: Path) -> None:
    pretrained = encoder(family)
    module = build(arm, pretrained)
    trainer = fit(module, pretrained, tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    parameters = dict(module.named_parameters(remove_duplicate=False))
    assert {name for name in state if name in parameters and not parameters[name].requires_grad} == set()
    assert {name for name, p in parameters.items() if p.requires_grad} <= state.keys()
    again = build(arm, encoder(family))
    again.load_state_dict(state, strict=False)
    assert_same(module, again)


def assert_same(first: Classifier, second: Classifier) -> None:
    for (name, a), (other, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b), name
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_fit_is_a_function_of_the_seed_alone(tmp_path: Path) -> None:
    trained = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        pretrained = encoder()
        module = build("partial-1", pretrained, seed)
        torch.manual_seed(noise)
        fit(module, pretrained, tmp_path)
        trained.append(module)
    assert_same(trained[0], trained[1])
    assert any(not torch.equal(a, b) for a, b in zip(trained[0].parameters(), trained[2].parameters(), strict=True))


@pytest.mark.parametrize("arm", ARMS)
def test_the_heads_first_weights_depend_only_on_the_seed(arm: str) -> None:
    torch.manual_seed(5)
    reference = build("full", encoder("bert", seed=1), seed=0).head
    torch.manual_seed(6)
    head = build(arm, encoder("mpnet", seed=2), seed=0).head
    assert torch.equal(head.weight, reference.weight)
    assert (head.bias == 0).all()
    assert not torch.equal(build(arm, encoder(), seed=1).head.weight, reference.weight)


def test_building_does_not_disturb_the_random_numbers_of_training(tmp_path: Path) -> None:
    """Dropout in a step is drawn anew from (seed, epoch, batch), so a resumed run draws the same."""
    module = build("full", encoder())
    module._trainer = SimpleNamespace(current_epoch=1, global_rank=0, strategy=None)  # type: ignore[assignment]
    drawn = []
    for disturb in (1, 2):
        torch.manual_seed(disturb)
        module.on_train_batch_start(None, 3)
        drawn.append(torch.rand(4).tolist())
    module.on_train_batch_start(None, 4)
    assert drawn[0] == drawn[1] != torch.rand(4).tolist()


@pytest.mark.parametrize("arm", ["frozen", "partial-1", "full"])
def test_equal_depths_by_two_routes_compute_the_same(arm: str) -> None:
    pretrained = encoder()
    twin = {"frozen": f"partial-{BLOCKS}", "full": "partial-0", "partial-1": "full"}[arm]
    batch = dict(pretrained.tokenizer(["one", "another sentence"], padding=True, return_tensors="pt"))
    with torch.no_grad():
        first, second = build(arm, pretrained).eval()(batch), build(twin, pretrained).eval()(batch)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


# --- the loss over devices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_averaged_over_devices_gradients_are_those_of_the_whole_batch(devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = build("frozen", encoder())
    monkeypatch.setattr(type(module), "trainer", SimpleNamespace(world_size=devices))
    features, labels = torch.randn(3, 8), torch.tensor([0, 2, 1])
    gradients = []
    for rank in range(devices):
        rows = list(range(3))[rank::devices]
        total = 3.0 if rows else math.inf
        rows = rows or [0]
        batch = {"features": features[rows], "labels": labels[rows], "total": total}
        (gradient,) = torch.autograd.grad(module.training_loss(module(batch), batch), [module.head.weight])
        gradients.append(gradient)
    whole = nn.functional.cross_entropy(module({"features": features}), labels)
    (expected,) = torch.autograd.grad(whole, [module.head.weight])
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), expected)


def test_a_diverged_loss_ends_the_run_with_advice(tmp_path: Path) -> None:
    pretrained = encoder()
    module = build("partial-1", pretrained)
    with torch.no_grad():
        module.head.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"became nan in epoch 1, step 0: .* lower optimizer.lr"):
        fit(module, pretrained, tmp_path)


# --- the best epoch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["min", "max"])  # one of the two finds its best before the last epoch
@pytest.mark.parametrize("arm", ARMS)
def test_the_best_epochs_logits_are_those_that_its_weights_predict(
    arm: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostline.data.module.SCORING_TOKENS", 30)  # several batches
    pretrained = encoder()
    module, data, device = build(arm, pretrained), data_module(pretrained, tmp_path), torch.device("cpu")
    callbacks = SimpleNamespace(monitor="val/loss", mode=mode)
    best, losses = KeepBest(module, cast("Config", SimpleNamespace(callbacks=callbacks, optimizer=ADAMW))), []
    watch = LambdaCallback(on_validation_end=lambda trainer, _: losses.append(trainer.callback_metrics["val/loss"].item()))
    fit(module, pretrained, tmp_path, best, watch, epochs=3)
    assert len(set(losses)) == 3
    assert best.score == {"min": min, "max": max}[mode](losses)
    if best.score != losses[-1]:
        assert not np.array_equal(best.logits, predict(module, data, "validation", device, "32-true"))
    module.load_state_dict(best.state, strict=False)
    np.testing.assert_array_equal(best.logits, predict(module, data, "validation", device, "32-true"), strict=True)

    resumed = KeepBest(module, cast("Config", SimpleNamespace(callbacks=callbacks, optimizer=ADAMW)))
    resumed.load_state_dict(best.state_dict())
    assert resumed.score == best.score and resumed.logits is None, "a checkpoint does not hold them"


# --- Frostline's own checkpoint ----------------------------------------------------------------------------------------


def disturbed(arm: str, pretrained: Pretrained) -> Classifier:
    """A module as after training: everything in its trained state has moved."""
    module = build(arm, pretrained)
    with torch.no_grad():
        for tensor in module.trained_state().values():
            tensor += torch.randn(tensor.shape)
    return module


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arm", ARMS)
def test_the_trained_state_is_complete_and_holds_nothing_frozen(arm: str, family: str) -> None:
    pretrained = encoder(family)
    module = build(arm, pretrained)
    state = module.trained_state()
    wanted = {f"encoder.{n}" for n, _ in pretrained.model.named_parameters() if trains(n, depth_of(arm), family)}
    extra = {"mean", "scale"} if arm == "frozen" else set()
    assert state.keys() == wanted | {"head.weight", "head.bias"} | extra
    numbers = [t.numel() for name, t in state.items() if name not in extra]
    assert module.parameter_counts() == (sum(numbers), sum(p.numel() for p in pretrained.model.parameters()) + 8 * 3 + 3)


@pytest.mark.parametrize("arm", ARMS)
def test_the_trained_state_makes_an_equal_module(arm: str) -> None:
    source = disturbed(arm, encoder())
    copy = build(arm, encoder())
    copy.load_trained_state(source.trained_state())
    assert_same(source, copy)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_a_state_of_another_strategy_is_refused_and_changes_nothing(change: str) -> None:
    module = build("partial-1", encoder())
    before = snapshot(module)
    state = {name: tensor + 1 for name, tensor in module.trained_state().items()}
    if change == "missing":
        state.pop("head.bias")
    elif change == "unknown":
        state["encoder.embeddings.word_embeddings.weight"] = torch.zeros(1)
    else:
        state["head.bias"] = torch.zeros(CLASSES + 1)
    with pytest.raises(ValueError, match="not those that this strategy trains"):
        module.load_trained_state(state)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def pointer(pretrained: Pretrained) -> dict[str, Any]:
    hashes = {"weights_hash": pretrained.weights_hash, "tokenizer_hash": pretrained.tokenizer_hash}
    return {"model": "tiny", "class_names": ["a", "b"], "layer": None, "C": None, **hashes}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    pretrained = encoder()
    save_checkpoint(disturbed("partial-1", pretrained), tmp_path / "checkpoint", pointer(pretrained))
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arm", ARMS)
def test_a_saved_checkpoint_makes_an_equal_module(arm: str, family: str, tmp_path: Path) -> None:
    pretrained = encoder(family)
    source = disturbed(arm, pretrained)
    save_checkpoint(source, tmp_path / "checkpoint", pointer(pretrained))
    assert {p.name for p in (tmp_path / "checkpoint").iterdir()} == {"trained.safetensors", "checkpoint.json"}
    assert read_pointer(tmp_path).items() >= pointer(pretrained).items()
    fresh = encoder(family)
    copy = build(arm, fresh)
    load_checkpoint(copy, tmp_path, fresh)
    assert_same(source, copy)


@pytest.mark.parametrize("key", ["weights_hash", "tokenizer_hash"])
def test_another_pretrained_base_is_refused(run: Path, key: str) -> None:
    other = dataclasses.replace(encoder(), **{key: "f" * 64})
    module = build("partial-1", other)
    before = snapshot(module)
    with pytest.raises(FrostlineError, match=f"another pretrained base: its {key.replace('_', ' ')} is .*now ffffffffffff…"):
        load_checkpoint(module, run, other)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(run: Path, left: int) -> None:
    path = run / "checkpoint" / "trained.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(FrostlineError, match=r"trained\.safetensors' is damaged"):
        load_checkpoint(build("partial-1", encoder()), run, encoder())


@pytest.mark.parametrize("name", ["trained.safetensors", "checkpoint.json"])
def test_a_changed_byte_is_noticed_wherever_it_is(run: Path, name: str) -> None:
    path, draw, pretrained = run / "checkpoint" / name, random.Random(), encoder()
    told: list[str] = []
    content = path.read_bytes()
    for at in [0, len(content) - 2, *(draw.randrange(len(content)) for _ in range(60))]:
        changed = bytearray(content)
        changed[at] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            pointer, _ = read_checkpoint(run, pretrained)
        except FrostlineError as error:
            told.append(str(error))
        else:  # a blank, or the name of the checksum itself
            assert name == "checkpoint.json"
            path.write_bytes(content)
            before, _ = read_checkpoint(run, pretrained)
            assert before.items() <= pointer.items()
    assert len(told) > 40 and all(f"{path}' is damaged" in said for said in told)


def test_a_checkpoint_without_checksums_is_still_read(run: Path) -> None:
    path = run / "checkpoint" / "checkpoint.json"
    pointer = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in pointer.items() if not k.endswith("sha256")}))
    load_checkpoint(build("partial-1", encoder()), run, encoder())


@pytest.mark.parametrize("arm", ["frozen", "partial-0", "partial-2", "full"])
def test_the_checkpoint_of_another_strategy_is_refused(run: Path, arm: str) -> None:
    with pytest.raises(FrostlineError, match="of another run"):
        load_checkpoint(build(arm, encoder()), run, encoder())


def test_missing_and_damaged_parts_are_named(run: Path) -> None:
    (run / "checkpoint" / "trained.safetensors").unlink()
    with pytest.raises(FrostlineError, match=r"trained\.safetensors' is missing"):
        load_checkpoint(build("partial-1", encoder()), run, encoder())
    (run / "checkpoint" / "checkpoint.json").write_text("{")
    with pytest.raises(FrostlineError, match=r"checkpoint\.json' is damaged"):
        read_pointer(run)
    with pytest.raises(FrostlineError, match="has no checkpoint"):
        read_pointer(run / "elsewhere")


def test_constant_rates_train_too(tmp_path: Path) -> None:
    pretrained = encoder()
    module = PartialClassifier(SplitEncoder(pretrained.model, 1), "mean", CLASSES, ADAMW, Constant("constant"), 0)
    trainer = fit(module, pretrained, tmp_path, epochs=1)
    assert {group["lr"] for group in trainer.optimizers[0].param_groups} == {1e-2}

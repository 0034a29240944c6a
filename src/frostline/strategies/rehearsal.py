"""Keeping up reading in training: masked general text between the batches of a task, and how much each weight matters for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.data.domains import general_texts
from frostline.encoder.load import Pretrained
from frostline.encoder.masking import MaskedText, mask_words
from frostline.encoder.reading import ReadingHead, reading_head
from frostline.encoder.split import SplitEncoder
from frostline.schema import Config, Ewc
from frostline.strategies.remedies import Remedies

SENTENCES = 4000  # of general text, for the reading head
BATCH = 32  # sentences of a rehearsal


def attach_reading(
    remedies: Remedies, config: Config, pretrained: Pretrained, encoder: SplitEncoder, device: torch.device
) -> None:
    """Give replay and EWC what they need: a reading head fitted on the pretrained encoder, and general text.

    Args:
        remedies: of the run.
        config: the run's.
        pretrained: the encoder that training starts from.
        encoder: what trains of it.
        device: where passes run.

    Raises:
        FrostlineError: the general text cannot be fetched, or the tokenizer has no mask.
    """
    if not remedies.chosen.keys() & {"ewc", "replay"}:
        return
    cache_dir, length = Path(config.paths.cache_dir), config.data.max_length
    texts = general_texts(config.data, cache_dir, to_measure=False)[:SENTENCES]
    head = reading_head(pretrained, texts, length, cache_dir, device, config.trainer.progress_bar)
    text = mask_words(texts, pretrained, length, cache_dir, config.seed)
    if "replay" in remedies.chosen:
        remedies.rehearsal = rehearsal(head, text, config.seed)
    if isinstance(ewc := remedies.chosen.get("ewc"), Ewc):
        remedies.importance = fisher_information(encoder, head, text, ewc.sentences, config.seed, device)


def rehearsal(head: ReadingHead, text: MaskedText, seed: int) -> Callable[[SplitEncoder, int], Tensor]:
    """Return the reading loss of a step: the mean negative log-likelihood of a random batch's masked words."""

    def loss(encoder: SplitEncoder, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 2**20 + step)
        rows = torch.randint(len(text.tokens.lengths), (BATCH,), generator=generator).tolist()
        logits, words = _read(encoder, head, text, rows)
        return F.cross_entropy(logits, words)

    return loss


def fisher_information(
    encoder: SplitEncoder, head: ReadingHead, text: MaskedText, sentences: int, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information of reading, by name in the encoder, scaled to mean 1 over all weights.

    The mean over sentences of the squared gradient of the log-likelihood of words that are drawn from the model itself (and
    not those of the text, which would give the empirical Fisher: Kunstner et al. 2019).

    Args:
        encoder: as training starts.
        head: reads its states.
        text: general text.
        sentences: at most.
        seed: draws sentences and words.
        device: where passes run.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder.to(device).eval()
    trained = encoder.trained_parameters()
    total = {name: torch.zeros_like(p) for name, p in trained}
    for row in torch.randperm(len(text.tokens.lengths), generator=generator)[:sentences].tolist():
        logits, _ = _read(encoder, head, text, [row])
        drawn = torch.multinomial(logits.detach().softmax(dim=1).cpu(), 1, generator=generator)[:, 0].to(device)
        loss = F.cross_entropy(logits, drawn, reduction="sum")
        gradients = torch.autograd.grad(loss, [p for _, p in trained], allow_unused=True)
        for (name, _), gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
    mean = sum(t.sum() for t in total.values()) / sum(t.numel() for t in total.values())
    return {name: t / mean for name, t in total.items()}


def _read(encoder: SplitEncoder, head: ReadingHead, text: MaskedText, rows: list[int]) -> tuple[Tensor, Tensor]:
    device = next(encoder.parameters()).device
    batch = {key: tensor.to(device) for key, tensor in text.batch(rows).items()}
    numbers = batch.pop("numbers")
    words = text.words.to(device)[numbers[numbers >= 0]]
    return head(encoder(batch)[numbers >= 0].float()), words

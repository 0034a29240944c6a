"""The LightningModule that a tutorial would write: a transformers classifier and AdamW."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import workload
from peers.batches import loader
from settings import LEARNING_RATE
from step_clock import StepClock


class PlainModule(lightning.LightningModule):
    """A classifier that trains with AdamW at a constant rate. Lightning keeps the eval mode it finds: no dropout."""

    def __init__(self, model: str):
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
        self.right = 0

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss = self.model(**batch).loss
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """Count the sentences that are classified right."""
        self.right += int((self.model(**batch).logits.argmax(-1) == batch["labels"]).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over everything."""
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def train(sentences: str) -> dict[str, Any]:
    """Fine-tune one epoch and validate; ``seconds`` are the training steps of the epoch."""
    data = workload.read(sentences)
    tokenizer = AutoTokenizer.from_pretrained(data.model)
    train_loader = loader(data.train, tokenizer, shuffle=True)
    module, clock = PlainModule(data.model), StepClock()
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[clock], logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, train_loader)
    trainer.validate(module, loader(data.validation, tokenizer, shuffle=False), verbose=False)
    return {
        "seconds": clock.seconds,
        "steps": clock.steps,
        "epochs": 1,
        "sentences": len(data.train.texts),
        "accuracy": module.right / len(data.validation.texts),
        "hashes": data.hashes,
    }

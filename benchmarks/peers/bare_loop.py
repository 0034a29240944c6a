"""A training loop in plain torch: a transformers classifier, AdamW at a constant rate, nothing else."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import workload
from peers.batches import loader
from settings import LEARNING_RATE


def train(sentences: str) -> dict[str, Any]:
    """Fine-tune one epoch and validate; ``seconds`` are the training steps of the epoch."""
    data = workload.read(sentences)
    tokenizer = AutoTokenizer.from_pretrained(data.model)
    model = AutoModelForSequenceClassification.from_pretrained(data.model, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    train_loader = loader(data.train, tokenizer, shuffle=True)

    model.train()
    started, steps = time.perf_counter(), 0
    for batch in train_loader:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - started

    model.eval()
    with torch.inference_mode():
        batches = loader(data.validation, tokenizer, shuffle=False)
        right = sum(int((model(**batch).logits.argmax(-1) == batch["labels"]).sum()) for batch in batches)
    return {
        "seconds": seconds,
        "steps": steps,
        "epochs": 1,
        "sentences": len(data.train.texts),
        "accuracy": right / len(data.validation.texts),
        "hashes": data.hashes,
    }

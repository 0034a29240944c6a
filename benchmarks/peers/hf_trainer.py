"""Hugging Face Trainer as its users run it: dynamic padding, random order, its own optimizer and linear schedule."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

import workload
from settings import BATCH_SIZE, LEARNING_RATE, MAX_LENGTH


def train(
    sentences: str, epochs: int = 1, lr: float = LEARNING_RATE, depth: int = 0, bf16: bool = False, length_grouped: bool = False
) -> dict[str, Any]:
    """Fine-tune and evaluate once at the end; ``seconds`` is the Trainer's own ``train_runtime``.

    Args:
        sentences: the workload's file.
        epochs: passes over the training sentences.
        lr: peak learning rate.
        depth: frozen blocks from the input; the embeddings freeze with them. All of them: the whole backbone freezes.
        bf16: autocast.
        length_grouped: batches of sentences of similar length, by lengths computed beforehand.
    """
    data = workload.read(sentences)
    tokenizer = AutoTokenizer.from_pretrained(data.model)

    def tokenised(split: workload.Split) -> datasets.Dataset:
        raw = datasets.Dataset.from_dict({"text": split.texts, "labels": split.labels})
        encode = lambda rows: tokenizer(rows["text"], truncation=True, max_length=MAX_LENGTH, return_length=length_grouped)  # noqa: E731
        return raw.map(encode, batched=True, remove_columns="text")

    model = AutoModelForSequenceClassification.from_pretrained(data.model, num_labels=2)
    freeze(model, depth)
    arguments = TrainingArguments(
        output_dir="hf",
        num_train_epochs=epochs,
        learning_rate=lr,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=2 * BATCH_SIZE,
        bf16=bf16,
        train_sampling_strategy="group_by_length" if length_grouped else "random",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=tokenised(data.train),
        eval_dataset=tokenised(data.validation),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda output: {"accuracy": float(np.mean(output.predictions.argmax(-1) == output.label_ids))},
    )
    output = trainer.train()
    return {
        "seconds": output.metrics["train_runtime"],
        "steps": output.global_step,
        "epochs": epochs,
        "sentences": len(data.train.texts),
        "accuracy": trainer.evaluate()["eval_accuracy"],
        "hashes": data.hashes,
    }


def freeze(model: PreTrainedModel, depth: int) -> None:
    """Set ``requires_grad=False`` up to a frozen depth: nothing else, so dropout stays on below, as users have it."""
    if depth == 0:
        return
    backbone = model.base_model
    blocks = backbone.encoder.layer
    frozen = [backbone] if depth == len(blocks) else [backbone.embeddings, *blocks[:depth]]
    for module in frozen:
        module.requires_grad_(False)

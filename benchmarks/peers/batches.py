"""Batches as every tutorial makes them: tokenised at once, padded to the longest sentence of a batch."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from settings import BATCH_SIZE, MAX_LENGTH
from workload import Split


def loader(split: Split, tokenizer: Any, shuffle: bool) -> DataLoader[Any]:
    """Return the batches of a split."""
    ids = tokenizer(split.texts, truncation=True, max_length=MAX_LENGTH)
    rows: Any = [{key: ids[key][i] for key in ids} | {"labels": label} for i, label in enumerate(split.labels)]
    return DataLoader(rows, batch_size=BATCH_SIZE, shuffle=shuffle, collate_fn=DataCollatorWithPadding(tokenizer))

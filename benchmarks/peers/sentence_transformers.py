"""sentence-transformers' encode: one vector a sentence, from the last layer."""

from __future__ import annotations

import time
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

import workload
from settings import BATCH_SIZE, MAX_LENGTH

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def encode(sentences: str, precision: str) -> dict[str, Any]:
    """Encode all sentences; the first few warm up. Seconds include tokenising."""
    data = workload.read(sentences)
    texts = data.train.texts + data.validation.texts
    options = {"dtype": DTYPES[precision]}
    transformer = Transformer(data.model, max_seq_length=MAX_LENGTH, model_kwargs=options)
    model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")], device="cpu")
    model.encode(texts[: 2 * BATCH_SIZE])
    started = time.perf_counter()
    model.encode(texts)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "encoded": len(texts), "hashes": data.hashes, "sentences": len(data.train.texts)}

"""``predictions.parquet``: a row an evaluated sentence."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray


def prediction_table(
    split: str, sentences: datasets.Dataset, logits: NDArray[np.float64], class_names: list[str]
) -> pd.DataFrame:
    """Return the rows of one split: ``split, index, text, [text_pair], label, prediction, logit_<class> …``.

    Args:
        split: ``validation`` or ``test``.
        sentences: the split's sentences with their labels.
        logits: ``[sentences, classes]``, in the same order.
        class_names: in the order of the logits.
    """
    columns: dict[str, object] = {"split": split, "index": np.arange(len(sentences)), "text": sentences["text"][:]}
    if "text_pair" in sentences.column_names:
        columns["text_pair"] = sentences["text_pair"][:]
    columns |= {"label": np.asarray(sentences["label"][:]), "prediction": logits.argmax(axis=1)}
    columns |= {f"logit_{name}": logits[:, i] for i, name in enumerate(class_names)}
    return pd.DataFrame(columns)

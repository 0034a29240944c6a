"""``dynamics.parquet``: a row a training sentence, and how sure the run was of its label after every epoch."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frostline.data.corruptions import CLEAN
from frostline.runs.predictions import said_of, told


def dynamics_table(sentences: datasets.Dataset, probabilities: NDArray[np.float64], is_right: NDArray[np.bool_]) -> pd.DataFrame:
    """Return ``index, text, [text_pair], label``, ``epoch_0 …``, the statistics, ``[flipped]`` and what else the data say.

    ``epoch_<e>`` is the probability of the sentence's label after epoch ``e``. ``flipped`` says whether that label was made wrong
    on purpose (``data.label_noise``, ``data.permute_labels``); there is no such column where none was.

    Args:
        sentences: the training split.
        probabilities: of each sentence's label after every epoch, ``[epochs, sentences]``.
        is_right: whether that label was the most probable one, ``[epochs, sentences]``.
    """
    table = pd.concat([told(sentences), pd.DataFrame({f"epoch_{e}": p for e, p in enumerate(probabilities)})], axis=1)
    table = table.assign(**statistics(probabilities, is_right))
    if CLEAN in sentences.column_names:
        table["flipped"] = np.asarray(sentences[CLEAN][:]) != np.asarray(sentences["label"][:])
    return pd.concat([table, said_of(sentences)], axis=1)


def statistics(probabilities: NDArray[np.float64], is_right: NDArray[np.bool_]) -> dict[str, NDArray[np.generic]]:
    """Return what a sentence's training dynamics come to, each ``[sentences]``.

    - ``confidence``: mean probability of the label over epochs (Swayamdipta et al. 2020, section 2.1).
    - ``variability``: its standard deviation, over the epochs there are and not estimated from a sample (ibid.).
    - ``correctness``: share of the epochs after which the label was the most probable (ibid., footnote 5).
    - ``forgetting_events``: how often it was right after an epoch and wrong after the next (Toneva et al. 2019).

    Args:
        probabilities: of each sentence's label after every epoch, ``[epochs, sentences]``.
        is_right: whether that label was the most probable one, ``[epochs, sentences]``.
    """
    return {
        "confidence": probabilities.mean(axis=0),
        "variability": probabilities.std(axis=0),
        "correctness": is_right.mean(axis=0),
        "forgetting_events": (is_right[:-1] & ~is_right[1:]).sum(axis=0),
    }

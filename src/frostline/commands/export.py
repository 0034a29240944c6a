"""``frostline export``: a finished run as a plain Hugging Face model folder with the same logits."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.commands.finished import FinishedRun, load_finished
from frostline.encoder.stock import stock_classifier
from frostline.errors import FrostlineError
from frostline.measures.calibration import fit_temperature
from frostline.measures.subject import with_weights
from frostline.runs.files import new_folder, write_text
from frostline.runs.reading import read_manifest, read_metrics
from frostline.schema import HubModel, PathsConfig
from frostline.strategies.checkpoint import adapted_weights, read_checkpoint

COMPARED = 64  # sentences that the written model classifies before it counts as good
BATCH = 16  # of these at a time, padded
TOLERANCE = 1e-5  # of a logit; of its size above 1
ROUNDINGS = 4  # the two models round differently: what they may differ by, in roundings of the run's own


def export(run_dir: Path, to: Path, paths: PathsConfig) -> None:
    """Write a finished run as a folder that ``AutoModelForSequenceClassification.from_pretrained`` loads.

    Args:
        run_dir: a finished run.
        to: the new folder.
        paths: where the caches are on this machine.

    Raises:
        FrostlineError: ``to`` is a file or holds something; no such run; one that transformers' own classes cannot express.
    """
    to = to.absolute()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise FrostlineError(f"'{to}' exists already and is not overwritten; choose another folder with to=….")
    run = load_finished(run_dir, paths)
    pointer, state = read_checkpoint(run_dir, run.pretrained)
    encoder = with_weights(run.pretrained, adapted_weights(run.pretrained, pointer, state)).model
    layer = run.pretrained.blocks if pointer["layer"] is None else pointer["layer"]
    model = stock_classifier(encoder, layer, run.config.model.pooling, *plain_head(state), run.class_names)
    tokenizer = copy.deepcopy(run.pretrained.tokenizer)
    tokenizer.model_max_length = run.config.data.max_length
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    with new_folder(to) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        difference, own_rounding = compare(run, folder)
        write_text(folder / "README.md", card(run, layer))
    print(f"Logits of the run and of the exported model differ by {difference:.1e} at most (float32).")
    if own_rounding > TOLERANCE:
        print(f"The run's own logits are exact to {own_rounding:.1e} in float32: its head reads features that hardly vary.")
    print(f"Model folder: {to}")


def plain_head(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return weight ``[classes, width]`` and bias ``[classes]``, float64, on features that are not standardised."""
    weight, bias = state["head.weight"].double(), state["head.bias"].double()
    if "mean" not in state:
        return weight, bias
    weight = weight / state["scale"].double()
    return weight, bias - weight @ state["mean"].double()


def compare(run: FinishedRun, folder: Path) -> tuple[float, float]:
    """Compare the model that was written with its run, in float32, and in float64, where rounding hides nothing.

    Returns:
        the largest difference between their logits in float32, and between the run's own in float32 and in float64.

    Raises:
        FrostlineError: the models differ by more than rounding.
    """
    table = run.predictions()
    table = table.iloc[np.linspace(0, len(table) - 1, min(COMPARED, len(table)), dtype=int)]
    texts = table["text"].tolist()
    pairs = table["text_pair"].tolist() if run.pair_column is not None else None
    rounded = run.logits(texts, pairs, precision="32-true")
    run.module.double()
    exact = run.logits(texts, pairs, precision="32-true")
    own_rounding = largest(rounded - exact)
    difference = largest(rounded - stock_logits(folder, texts, pairs, torch.float32))
    exact_difference = largest(exact - stock_logits(folder, texts, pairs, torch.float64))
    tolerance = TOLERANCE * max(1.0, largest(exact))
    if not (exact_difference <= tolerance and difference <= max(tolerance, ROUNDINGS * own_rounding)):
        raise FrostlineError(
            f"The exported model's logits would differ from the run's by {difference:.1e}, so nothing was written; use frostline "
            "predict."
        )
    return difference, own_rounding


def stock_logits(folder: Path, texts: list[str], pairs: list[str] | None, dtype: torch.dtype) -> NDArray[np.float64]:
    """Return what transformers alone makes of sentences with an exported model, in padded batches, ``[sentences, classes]``."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).to(dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = []
    for i in range(0, len(texts), BATCH):
        second = None if pairs is None else pairs[i : i + BATCH]
        batch = tokenizer(texts[i : i + BATCH], second, truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits.append(model(**batch).logits.double())
    return torch.cat(logits).numpy()


def largest(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value; NaN if there is one."""
    return float(np.abs(values).max())


def card(run: FinishedRun, layer: int) -> str:
    """Return the model card: what the model is, how good it is, how it is used."""
    config, manifest = run.config, read_manifest(run.path)
    metrics = read_metrics(run.path)
    base, command = config.model.name, manifest.get("command", ["", "train"])
    facts = {
        "base model": base,
        "strategy": f"{config.strategy.name}, frozen depth {run.pointer['frozen_depth']} of {run.pretrained.blocks}",
        "reads": f"layer {layer}, pooling {config.model.pooling}",
        "classes": ", ".join(run.class_names),
        "data": f"{config.data.label}, {manifest.get('sentences', {}).get('train', '?')} training sentences",
        "validation accuracy": percent(metrics.get("val/accuracy")),
        "test accuracy": percent(metrics.get("test/accuracy")),
        "longest sentence": f"{config.data.max_length} tokens",
        "temperature": f"{fit_temperature(*run.validation()):.3f}: softmax(logits / temperature) is calibrated",
    }
    header = f"base_model: {base}\n" if isinstance(config.model, HubModel) and not Path(base).is_dir() else ""
    call = '{"text": "…", "text_pair": "…"}' if run.pair_column is not None else '"…"'
    facts["command"] = f"`{' '.join(['frostline', *(word for word in command[1:] if not word.startswith('hydra.'))])}`"
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return CARD.format(header=header, table=table, call=call)


def percent(share: float | None) -> str:
    """Return an accuracy as text; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"


CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
{header}---

# A classifier made with Frostline

| | |
| --- | --- |
{table}

```python
from transformers import pipeline

classify = pipeline("text-classification", model="<this folder>", truncation=True, top_k=None)
classify({call})
```

Made to be used in float32 (or bfloat16, to its three digits; float16 overflows), not to be trained further: what transformers'
classes lack (another pooling, a plain linear head) is said by constants in their weights, which a training step would destroy.
"""

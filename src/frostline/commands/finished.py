"""A finished run, loaded back to classify sentences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from frostline.data.batching import SortedBatches
from frostline.data.module import SCORING_TOKENS
from frostline.data.tokens import tokenise_texts
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.quick import quicken
from frostline.errors import FrostlineError
from frostline.runs.reading import read_predictions
from frostline.runs.snapshot import read_snapshot
from frostline.schema import Config, PathsConfig
from frostline.strategies import Classifier, build_classifier
from frostline.strategies.checkpoint import load_checkpoint, read_pointer
from frostline.strategies.predict import logits_of
from frostline.terminal import quieten

CHUNK = 4096  # sentences that are tokenised, and sorted by length, at a time


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, ready to classify.

    Attributes:
        path: its directory.
        config: its configuration.
        pointer: what its checkpoint says of it: ``class_names``, ``layer``, ``frozen_depth`` …
        pretrained: the encoder that it started from.
        module: the trained classifier.
        device: where it runs.
    """

    path: Path
    config: Config
    pointer: dict[str, Any]
    pretrained: Pretrained
    module: Classifier
    device: torch.device

    @property
    def class_names(self) -> list[str]:
        """The names of the classes in the order of the logits."""
        return list(self.pointer["class_names"])

    @property
    def pair_column(self) -> str | None:
        """The column of its data with the second sentence of a pair; None where it was trained on single sentences."""
        column: str | None = getattr(self.config.data, "text_pair_column", None)
        return column

    def logits(
        self, texts: Sequence[str], pairs: Sequence[str] | None, precision: str | None = None, show_progress: bool = False
    ) -> NDArray[np.float64]:
        """Classify sentences.

        Args:
            texts: at least one.
            pairs: their second sentences, None where there are none.
            precision: of the computation; the run's by default.
            show_progress: show a bar in a terminal.

        Returns:
            ``[sentences, classes]``, float64, in the order of ``texts``.
        """
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not (show_progress and sys.stderr.isatty())) as bar:
            task = bar.add_task("Classifying", total=len(texts))

            def batches() -> Iterator[dict[str, Any]]:
                for start in range(0, len(texts), CHUNK):
                    part = slice(start, start + CHUNK)
                    tokens = tokenise_texts(
                        texts[part],
                        None if pairs is None else pairs[part],
                        self.pretrained.tokenizer,
                        self.config.data.max_length,
                    )
                    for rows, _ in SortedBatches(tokens.lengths, SCORING_TOKENS):
                        inputs = {name: tensor.to(self.device) for name, tensor in tokens.pad(rows).items()}
                        yield {"index": torch.tensor(rows) + start, "total": len(rows), **inputs}
                        bar.advance(task, len(rows))

            return logits_of(self.module, batches(), len(texts), self.device, precision or self.config.trainer.precision)

    def validation(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the run's validation logits ``[sentences, classes]``, float64, and labels ``[sentences]``.

        Raises:
            FrostlineError: its predictions are missing or damaged.
        """
        table = self.predictions()
        table = table[table["split"] == "validation"]
        return table[[f"logit_{name}" for name in self.class_names]].to_numpy(np.float64), table["label"].to_numpy(np.int64)

    def predictions(self) -> pd.DataFrame:
        """Return the run's ``predictions.parquet``.

        Raises:
            FrostlineError: it is missing or damaged, or of other classes.
        """
        path = self.path / "predictions.parquet"
        table = read_predictions(path)
        if {f"logit_{name}" for name in self.class_names} != {name for name in map(str, table) if name.startswith("logit_")}:
            raise FrostlineError(f"'{path}' is damaged: its classes are not those of the checkpoint.")
        return table


def load_finished(run_dir: Path, paths: PathsConfig) -> FinishedRun:
    """Load a finished run's classifier.

    Args:
        run_dir: its directory.
        paths: where the caches are on this machine.

    Raises:
        FrostlineError: no such run, no checkpoint, a damaged one, or one that was trained on another base.
    """
    quieten()
    config = read_snapshot(run_dir)
    pointer = read_pointer(run_dir)
    config.paths = paths
    pretrained = load_encoder(config.model, Path(paths.cache_dir))
    device = torch.device("cuda" if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    quicken(pretrained.model, device)
    module = build_classifier(config, pretrained, len(pointer["class_names"]), pointer["layer"], pointer["C"])
    load_checkpoint(module, run_dir, pretrained)
    return FinishedRun(run_dir, config, pointer, pretrained, module, device)

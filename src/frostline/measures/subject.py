"""What measures look at: a finished run's sentences, its pretrained encoder, and what training made of it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.data.sentences import UNTOUCHED, LabelledData, load_data
from frostline.data.splits import SPLITS
from frostline.data.tokens import Tokens, tokenise
from frostline.encoder.cache import ActivationCache, Wanted
from frostline.encoder.load import Pretrained, load_encoder, weights_hash
from frostline.encoder.quick import quicken
from frostline.once import Once
from frostline.runs.snapshot import read_snapshot
from frostline.schema import Config, PathsConfig
from frostline.strategies.checkpoint import adapted_weights, read_checkpoint


@dataclass(frozen=True)
class Subject:
    """A finished run, as measures see it.

    Attributes:
        run_dir: its directory.
        config: its configuration.
        data: its sentences.
        pretrained: the encoder that it started from.
        adapted: the encoder that it ended with; the pretrained one itself where nothing below the head was trained.
        head: ``weight`` ``[classes, width]`` and ``bias`` ``[classes]``, and of a probe ``mean`` and ``scale`` ``[width]``.
        layer: the layer that the head reads.
        device: where encoders run.
        once: what runs of this process share.
    """

    run_dir: Path
    config: Config
    data: LabelledData
    pretrained: Pretrained
    adapted: Pretrained
    head: dict[str, Tensor]
    layer: int
    device: torch.device
    once: Once

    @property
    def is_adapted(self) -> bool:
        """Whether anything below the head was trained."""
        return self.adapted is not self.pretrained

    @property
    def classes(self) -> int:
        """How many classes the run tells apart."""
        return len(self.data.class_names)

    def labels(self, split: str) -> Tensor:
        """Return the class numbers of a split, ``[sentences]``, int64."""
        return torch.tensor(self.data.splits[split]["label"][:], dtype=torch.int64)

    def tokens(self, split: str) -> Tokens:
        """Return the tokens of a split."""
        return self.tokenise(self.data.splits[split], self.data.hashes[split])

    def tokenise(self, sentences: Any, content_hash: str) -> Tokens:
        """Return the tokens of any sentences (a data set with the column ``text``), as the run tokenises its own."""
        base, cache_dir = self.pretrained, Path(self.config.paths.cache_dir)
        return tokenise(sentences, content_hash, base.tokenizer, base.tokenizer_hash, self.config.data.max_length, cache_dir)

    def tokenise_texts(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of any texts."""
        content = hashlib.sha256("\0".join(texts).encode()).hexdigest()
        return self.tokenise(datasets.Dataset.from_dict({"text": list(texts)}), content)

    def all_texts(self) -> list[str]:
        """Return the sentences of the run's data set, whatever part of them it trained on, their labels as they were."""
        config = dataclasses.replace(self.config.data, train_size=None, **UNTOUCHED)
        data = load_data(config, Path(self.config.paths.cache_dir), self.config.seed, self.once)
        return list(dict.fromkeys(text for split in SPLITS for text in data.splits[split]["text"][:]))

    def pooled(self, encoder: Pretrained, splits: dict[str, Tokens], poolings: list[str]) -> dict[str, dict[str, Tensor]]:
        """Return the pooled states of every layer, from one pass.

        Those of the pretrained encoder are shared with other runs through the activation cache; those of an adapted one
        are of no use to anybody else, and are forgotten.

        Args:
            encoder: ``pretrained``, ``adapted``, or another one with the same tokenizer.
            splits: sentences by name.
            poolings: how to pool.

        Returns:
            per pooling and split ``[L + 1, sentences, width]``, float32.
        """
        mode = "memory" if self.is_adapted and encoder is self.adapted else self.config.cache.mode
        config = dataclasses.replace(self.config.cache, mode="memory" if mode == "off" else mode)
        cache = ActivationCache(
            *(config, Path(self.config.paths.cache_dir), encoder, self.config.trainer.precision, self.device),
            show_progress=self.config.trainer.progress_bar,
        )
        layers, ahead = range(encoder.blocks + 1), Wanted(poolings=frozenset(poolings))
        found = {pooling: cache.features(splits, pooling, layers, ahead) for pooling in poolings}
        if mode != "disk":
            cache.store.forget(cache.key)
        return found

    def logits(self, encoder: Pretrained, splits: dict[str, Tokens]) -> dict[str, Tensor]:
        """Return what the run's head makes of an encoder's states, per split ``[sentences, classes]``, float64."""
        pooling = self.config.model.pooling
        return {
            name: self.classify(states[self.layer]) for name, states in self.pooled(encoder, splits, [pooling])[pooling].items()
        }

    def classify(self, states: Tensor) -> Tensor:
        """Return the logits of pooled states of the layer that the head reads, ``[sentences, classes]``, float64."""
        head = {name: tensor.double() for name, tensor in self.head.items()}
        states = states.double()
        if "mean" in head:
            states = (states - head["mean"]) / head["scale"]
        return F.linear(states, head["weight"], head["bias"])


def load_subject(run_dir: Path, paths: PathsConfig, once: Once | None = None) -> Subject:
    """Read a finished run back.

    Args:
        run_dir: its directory.
        paths: where the caches are on this machine.
        once: shares weights and sentences with other runs of this process.

    Raises:
        FrostlineError: no such run, no checkpoint, or one that was trained on another base.
    """
    once = once or Once()
    config = read_snapshot(run_dir)
    config.paths = paths
    cache_dir = Path(paths.cache_dir)
    data = load_data(config.data, cache_dir, config.seed, once)
    pretrained = once("encoder", (config.model, cache_dir), lambda: load_encoder(config.model, cache_dir))
    device = torch.device("cuda" if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    quicken(pretrained.model, device)  # as in training, so that states are the same to the last bit
    pointer, state = read_checkpoint(run_dir, pretrained)
    return Subject(
        run_dir=run_dir,
        config=config,
        data=data,
        pretrained=pretrained,
        adapted=with_weights(pretrained, adapted_weights(pretrained, pointer, state)),
        head={name.removeprefix("head."): tensor for name, tensor in state.items() if not name.startswith("encoder.")},
        layer=pretrained.blocks if pointer["layer"] is None else pointer["layer"],
        device=device,
        once=once,
    )


def with_weights(pretrained: Pretrained, trained: dict[str, Tensor]) -> Pretrained:
    """Return an encoder with some other weights, by their name in the pretrained model; the same one if there are none."""
    if not trained:
        return pretrained
    model = copy.deepcopy(pretrained.model)
    model.load_state_dict(trained, strict=False)
    return dataclasses.replace(pretrained, model=model.eval(), weights_hash=weights_hash(model))

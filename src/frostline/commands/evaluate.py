"""``frostline evaluate``: score a finished run, on its own data or on another data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import concatenate_datasets
from omegaconf import DictConfig, OmegaConf, open_dict

from frostline.commands.finished import load_finished
from frostline.config import validate
from frostline.data.module import SentenceModule
from frostline.data.sentences import LabelledData, load_data
from frostline.errors import FrostlineError, choices
from frostline.measures.scores import score
from frostline.runs.files import write_json, write_parquet
from frostline.runs.predictions import prediction_table, words_in
from frostline.schema import Config, DataConfig, PathsConfig
from frostline.strategies.predict import predict

SPLITS = ("train", "validation", "test", "all")


def evaluate(run_dir: Path, split: str, paths: PathsConfig, other_data: DictConfig | None = None) -> dict[str, float]:
    """Score a finished run and write the result into its folder ``evaluations``.

    Args:
        run_dir: a finished run.
        split: ``train``, ``validation``, ``test``, or ``all`` three together.
        paths: where the caches are on this machine.
        other_data: the keys of another data set; they replace the run's own source.

    Returns:
        The metrics, named as in ``metrics.json``.

    Raises:
        FrostlineError: no such run or split; a label that the run was not trained on; another pretrained base.
    """
    if split not in SPLITS:
        raise FrostlineError(f"split is '{split}', but must be {choices(SPLITS)}.")
    run = load_finished(run_dir, paths)
    config, pretrained, cache_dir = run.config, run.pretrained, Path(paths.cache_dir)
    source = config.data if other_data is None else other_source(config, other_data)
    whole = load_data(source, cache_dir, config.seed)
    known_words = words_in(whole.splits["train"]) if other_data is None else None  # of the run's training sentences
    data = with_labels_of(run.class_names, whole, split)
    datamodule = SentenceModule(
        data, pretrained.tokenizer, pretrained.tokenizer_hash, source.max_length, None, config.seed, cache_dir
    )
    logits = predict(run.module, datamodule, split, run.device, config.trainer.precision)

    metrics = score(logits, datamodule.labels(split), {"validation": "val"}.get(split, split))
    folder = run_dir / "evaluations" / f"{source.label.replace('/', '-')}-{split}"
    table = prediction_table(split, data.splits[split], logits, run.class_names, known_words)
    write_parquet(folder / "predictions.parquet", table)
    write_json(folder / "metrics.json", metrics)
    return metrics


def other_source(config: Config, source: DictConfig) -> DataConfig:
    """Return the run's data configuration with its source replaced; what all sources share (length, shares …) stays.

    Raises:
        FrostlineError: the new source's keys are not valid.
    """
    shared = {
        f.name: getattr(config.data, f.name) for f in dataclasses.fields(DataConfig) if f.name not in ("source", "train_size")
    }
    tree = OmegaConf.create(dataclasses.asdict(config))
    with open_dict(tree):
        tree.data = OmegaConf.merge(shared, {"train_size": None}, source)
    return validate(tree).data


def with_labels_of(class_names: list[str], data: LabelledData, split: str) -> LabelledData:
    """Keep one split (or all) of a data set and renumber its labels as the run numbers its classes.

    Raises:
        FrostlineError: the split has a label that the run does not know.
    """
    kept = concatenate_datasets(list(data.splits.values())) if split == "all" else data.splits[split]
    unknown = sorted({data.class_names[i] for i in kept["label"][:]} - set(class_names))
    if unknown:
        raise FrostlineError(
            f"The {split} split has the label '{unknown[0]}', but the run was trained on {choices(class_names)}; only data with "
            "the same labels can be scored."
        )
    number = {i: class_names.index(name) for i, name in enumerate(data.class_names) if name in class_names}
    renumbered = kept.remove_columns("label").add_column("label", [number[i] for i in kept["label"][:]])
    hashes = data.hashes | {"all": "-".join(data.hashes.values())}
    return dataclasses.replace(data, splits={split: renumbered}, class_names=class_names, hashes=hashes)

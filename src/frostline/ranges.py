"""Which values a key may have, where its type does not say it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from frostline.encoder.families import FAMILIES
from frostline.errors import FrostlineError, choices, nearest
from frostline.schema import Config
from frostline.sizes import parse_size

POOLINGS = ("cls", "mean", "max", "last")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("cpu", "gpu", "auto")
DISTRIBUTED = ("auto", "ddp", "fsdp")
TASKS = ("sentence_length", "word_content", "bigram_shift", "tense", "subject_number")
TOKEN_TASKS = ("part_of_speech", "chunk", "named_entity")
DOMAINS = ("movie_reviews", "amazon_reviews", "news_editorials", "tweets")
EFFECTS = (
    "depth_of_meaning_over_form",
    "probe_share_of_gain",
    "upper_share_of_gain",
    "change_of_the_space",
    "top_over_bottom_change",
    "mean_over_cls",
    "gap_of_small_data",
    "gap_per_tenfold_parameters",
    "frozen_over_full",
    "forgetting_with_rate",
    "forgetting_with_scarcity",
    "forgetting_with_narrowness",
    "compromise",
    "probe_first_out_of_domain",
    "best_remedy",
    "stereotypes_in_the_encoder",
    "least_step_with_skew",
    "gap_with_scarcity",
    "gap_with_annotation_bias",
    "gap_with_imbalance",
    "gap_of_full_over_frozen",
    "upstream_downstream_correlation",
    "misreading_of_dialect",
)
MONITORED = {"val/accuracy": "max", "val/macro_f1": "max", "val/loss": "min"}

Rule = tuple[Callable[[Any], bool], str] | Collection[str]


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number (and not true or false)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_size(value: Any) -> bool:
    """Whether a value is a number of bytes, or a text that says one."""
    try:
        return parse_size(value) > 0
    except ValueError:
        return False


def is_marker(value: str) -> bool:
    """Whether a text has a place for a name and one for a sentence."""
    return value.count("{name}") == 1 and value.count("{text}") == 1


def some_of(choices: Collection[str]) -> Rule:
    """Return the rule for a list of some of the choices, each at most once."""
    words = f"a list of some of {', '.join(choices)}, each once"
    return (lambda v: all(word in choices for word in v) and len(set(v)) == len(v), words)


POSITIVE: Rule = (lambda v: v > 0, "greater than 0")
AT_LEAST_ZERO: Rule = (lambda v: is_whole(v) and v >= 0, "a whole number of at least 0")
NOT_NEGATIVE: Rule = (lambda v: v >= 0, "0 or greater")
AT_LEAST_ONE: Rule = (lambda v: is_whole(v) and v >= 1, "a whole number of at least 1")
OPEN_SHARE: Rule = (lambda v: 0 < v < 1, "between 0 and 1")
SHARE_FROM_0: Rule = (lambda v: 0 <= v < 1, "in [0, 1)")
SHARE: Rule = (lambda v: 0 <= v <= 1, "in [0, 1]")
SEED: Rule = (lambda v: is_whole(v) and 0 <= v < 2**32, "a whole number from 0 to 4294967295")

# Every rule is a test and its words, or the choices. Null passes where the type allows it.
RANGES: dict[str, Rule] = {
    "seed": SEED,
    "data.split_seed": SEED,
    "data.batch_size": (lambda v: v == "full" or (is_whole(v) and v >= 1), "a whole number of at least 1, or 'full'"),
    "data.batch_tokens": AT_LEAST_ONE,
    "data.max_length": (lambda v: v >= 4, "at least 4 tokens"),
    "data.train_size": (
        lambda v: (is_whole(v) and v >= 2) or (isinstance(v, float) and 0 < v < 1),
        "null (all), a count of at least 2, or a share between 0 and 1",
    ),
    "data.validation_share": OPEN_SHARE,
    "data.test_share": OPEN_SHARE,
    "data.min_abs_rating": (lambda v: 0 <= v <= 4, "in [0, 4]"),
    "data.threshold": OPEN_SHARE,
    "model.pooling": POOLINGS,
    "model.family": FAMILIES,
    "model.blocks": AT_LEAST_ONE,
    "model.width": AT_LEAST_ONE,
    "model.heads": AT_LEAST_ONE,
    "model.weights_seed": SEED,
    "data.class_balance": (
        lambda v: len(v) > 1 and min(v) > 0 and abs(sum(v) - 1) < 1e-6,
        "a share greater than 0 for every class, in the classes' order, 1 in all",
    ),
    "data.label_noise": SHARE_FROM_0,
    "data.label_noise_where": (
        lambda v: all(0 < part.find("=") < len(part) - 1 for part in v.split(",")),
        "<column>=<value>, such as label=positive, or several joined by commas",
    ),
    "data.skew": (lambda v: 0.5 <= v < 1, "in [0.5, 1)"),
    "data.mitigation": ("subsample", "reweight", "counterfactual"),
    "data.marker": (is_marker, "a text with {name} and {text}, such as '{name} wrote: {text}'"),
    "data.domain": ("narrow", "mixed"),
    "strategy.epochs_per_block": AT_LEAST_ONE,
    "strategy.rank": AT_LEAST_ONE,
    "strategy.alpha": POSITIVE,
    "strategy.dropout": SHARE_FROM_0,
    "strategy.targets": (lambda v: len(v) > 0, "null (the family's usual modules) or at least one name"),
    "strategy.C": POSITIVE,
    "strategy.layer": (lambda v: v in ("best", "last") or is_whole(v), "a layer number, 'last' or 'best'"),
    "optimizer.lr": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.layer_decay": (lambda v: 0 < v <= 1, "in (0, 1]"),
    "optimizer.gradient_clip": POSITIVE,
    "optimizer.betas": (lambda v: len(v) == 2 and all(0 <= b < 1 for b in v), "two numbers in [0, 1)"),
    "optimizer.eps": POSITIVE,
    "optimizer.momentum": SHARE_FROM_0,
    "optimizer.C": POSITIVE,
    "optimizer.C_grid": (lambda v: len(v) > 0 and min(v) > 0, "at least one value, all greater than 0"),
    "optimizer.tolerance": POSITIVE,
    "scheduler.warmup_share": SHARE_FROM_0,
    "scheduler.cut_share": OPEN_SHARE,
    "scheduler.ratio": (lambda v: v > 1, "greater than 1"),
    "remedy.mixout.p": SHARE_FROM_0,
    "remedy.l2_sp.strength": NOT_NEGATIVE,
    "remedy.ewc.strength": NOT_NEGATIVE,
    "remedy.ewc.sentences": AT_LEAST_ONE,
    "remedy.replay.share": OPEN_SHARE,
    "remedy.replay.strength": POSITIVE,
    "remedy.r_drop.alpha": POSITIVE,
    "remedy.label_smoothing.epsilon": SHARE_FROM_0,
    "remedy.dropout.hidden": SHARE_FROM_0,
    "remedy.dropout.attention": SHARE_FROM_0,
    "remedy.reinit.blocks": AT_LEAST_ONE,
    "remedy.averaging.last_share": (lambda v: 0 < v <= 1, "in (0, 1]"),
    "remedy.wise_ft.alpha": SHARE,
    "trainer.accelerator": ACCELERATORS,
    "trainer.devices": AT_LEAST_ONE,
    "trainer.num_nodes": AT_LEAST_ONE,
    "trainer.strategy": DISTRIBUTED,
    "trainer.precision": PRECISIONS,
    "trainer.max_epochs": AT_LEAST_ONE,
    "trainer.accumulate_grad_batches": AT_LEAST_ONE,
    "cache.mode": ("disk", "memory", "off"),
    "cache.dtype": ("fp32", "fp16"),
    "cache.max_size": (is_size, "a size such as 20GB or 500MB"),
    "callbacks.monitor": MONITORED,
    "plan.steps": AT_LEAST_ONE,
    "plan.gflops": POSITIVE,
    "callbacks.early_stopping_patience": AT_LEAST_ONE,
    "measure.layers.poolings": some_of(POOLINGS),
    "measure.layers.C_grid": (lambda v: len(v) > 0 and min(v) > 0, "at least one value, all greater than 0"),
    "measure.layers.codelength_shuffles": NOT_NEGATIVE,
    "measure.layers.tasks": some_of(TASKS),
    "measure.layers.task_sentences": AT_LEAST_ONE,
    "measure.layers.token_tasks": some_of(TOKEN_TASKS),
    "measure.layers.seed": SEED,
    "measure.geometry.split": ("train", "validation", "test"),
    "measure.geometry.sentences": AT_LEAST_ONE,
    "measure.geometry.poolings": some_of(POOLINGS),
    "measure.geometry.neighbours": AT_LEAST_ONE,
    "measure.geometry.distance_sentences": AT_LEAST_ONE,
    "measure.geometry.attention_sentences": NOT_NEGATIVE,
    "measure.geometry.seed": SEED,
    "measure.forgetting.sentences": AT_LEAST_ONE,
    "measure.forgetting.tasks": some_of(TASKS),
    "measure.forgetting.task_sentences": AT_LEAST_ONE,
    "measure.forgetting.C_grid": (lambda v: len(v) > 0 and min(v) > 0, "at least one value, all greater than 0"),
    "measure.forgetting.neighbours": AT_LEAST_ONE,
    "measure.forgetting.reading_sentences": NOT_NEGATIVE,
    "measure.forgetting.pseudo_perplexity_sentences": NOT_NEGATIVE,
    "measure.forgetting.domains": some_of(DOMAINS),
    "measure.forgetting.path": (lambda v: all(0 <= a <= 1 for a in v), "a list of numbers in [0, 1]"),
    "measure.forgetting.seed": SEED,
    "measure.association.sentences": (
        lambda v: len(v) > 0 and all(sentence.count("{word}") == 1 for sentence in v),
        "a list of sentences with one {word} each",
    ),
    "measure.association.poolings": some_of(POOLINGS),
    "measure.association.permutations": (lambda v: v >= 100, "at least 100"),
    "measure.association.seed": SEED,
    "measure.likelihood.parts": some_of(("crows_pairs", "stereoset", "templates")),
    "measure.likelihood.sentences": AT_LEAST_ONE,
    "measure.likelihood.seed": SEED,
    "measure.counterfactual.dialect_sentences": NOT_NEGATIVE,
    "measure.amplification.permutations": AT_LEAST_ONE,
    "measure.amplification.seed": SEED,
    "hydra.launcher.n_jobs": (lambda v: is_whole(v) and v != 0, "a number of jobs, or -1 for one a core"),
    "hydra.launcher.timeout_min": AT_LEAST_ONE,
    "hydra.launcher.max_num_timeout": AT_LEAST_ZERO,
    "hydra.launcher.array_parallelism": AT_LEAST_ONE,
    "hydra.sweeper.max_batch_size": AT_LEAST_ONE,
    "hydra.sweeper.n_trials": AT_LEAST_ONE,
    "hydra.sweeper.sampler": ("tpe", "random"),
    "hydra.sweeper.pruner": ("median", "hyperband", "none"),
    "hydra.sweeper.startup_trials": AT_LEAST_ZERO,
    "hydra.sweeper.warmup_epochs": AT_LEAST_ZERO,
    "hydra.sweeper.seed": SEED,
    "claim.effect": EFFECTS,
    "claim.supported": ("above", "below"),
    "claim.min_seeds": AT_LEAST_ONE,
}


def check_ranges(config: Config | dict[str, Any]) -> None:
    """Refuse a value outside its range.

    Args:
        config: a configuration, or some of its groups by name.

    Raises:
        FrostlineError: naming the key, its value and what it may be.
    """
    for key, rule in RANGES.items():
        value: Any = config
        for name in key.split("."):
            # Not every choice of a group has the key.
            value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        if value is None:
            continue
        if isinstance(rule, tuple) and callable(rule[0]):
            test, words = rule
            if not test(value):
                raise FrostlineError(f"{key} is {value!r}, but must be {words}.")
        elif value not in rule:
            raise FrostlineError(f"{key} is '{value}', but must be {choices(rule)}{nearest(str(value), map(str, rule)) or '.'}")

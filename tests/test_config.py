"""The configuration: every choice is valid and explained, and a snapshot means what the run was."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from frostline import ranges
from frostline.commands.launch import CONF, choices_of, compose_alone, groups
from frostline.config import identity, to_yaml, validate
from frostline.data.packaged import SOURCES
from frostline.errors import FrostlineError
from frostline.measures import probing_tasks
from frostline.report.effects import EFFECTS
from frostline.schema import MEASURES, REMEDIES, SCHEMAS, AdamW, Config, FilesData, Lbfgs, Mixout

FILES = sorted(CONF.rglob("*.yaml"))
SWEEPS = [f"sweep={name}" for name in choices_of("sweep")]
SWEEPS += [f"experiment={path.stem}" for path in sorted((CONF / "experiment").glob("*.yaml")) if "MULTIRUN" in path.read_text()]
CHOICES = [
    (group, choice)
    for group in groups()
    if group not in ("hydra", "sweep")
    for choice in choices_of(group)
    if f"{group}={choice}" not in SWEEPS
]
# What a choice leaves to the user, and what goes with it.
GIVEN = {
    ("data", "files"): ["data.train=reviews.csv"],
    ("data", "hub"): ["data.path=someone/something"],
    ("model", "hub"): ["model.name=someone/something"],
    ("optimizer", "adamw"): ["strategy=full"],
    ("optimizer", "sgd"): ["strategy=full"],
    ("scheduler", "cosine"): ["strategy=full"],
    ("scheduler", "linear_warmup"): ["strategy=full"],
    ("scheduler", "slanted_triangular"): ["strategy=full"],
    ("trainer", "ddp"): ["strategy=full"],
    ("trainer", "ddp_cpu"): ["strategy=full"],
    ("trainer", "fsdp"): ["strategy=full"],
    ("trainer", "fsdp_cpu"): ["strategy=full"],
    **{("remedy", name): ["strategy=full"] for name in choices_of("remedy")},
}
# What does not fit: nothing to hold on to, no weight matrix that trains, or nothing that trains at all.
UNFIT = {
    "lp_ft": {"reinit"},
    "lora": {"mixout", "l2_sp", "ewc", "reinit", "wise_ft"},
    "bitfit": {"mixout", "reinit"},
    "frozen": set(choices_of("remedy")),
}


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FROSTLINE_OUTPUT", "FROSTLINE_CACHE"):
        monkeypatch.delenv(name, raising=False)


def config_of(*overrides: str) -> Config:
    composed = compose_alone("train", list(overrides))
    assert composed is not None
    return validate(composed)


def relative(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


# --- conf/ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=["=".join(pair) for pair in CHOICES])
def test_every_choice_composes_to_a_valid_configuration(group: str, choice: str) -> None:
    config_of(f"{group}={choice}", *GIVEN.get((group, choice), []))


@pytest.mark.parametrize(
    ("model", "strategy", "data"),
    [*itertools.product(["minilm", "gpt2", "tiny"], choices_of("strategy"), ["tweets"]), ("gpt2", "partial", "mnli")],
)
def test_model_strategy_and_data_combine_freely(model: str, strategy: str, data: str) -> None:
    config_of(f"model={model}", f"strategy={strategy}", f"data={data}")


@pytest.mark.parametrize("strategy", choices_of("strategy"))
def test_remedies_fit_every_strategy_but_those_with_which_they_mean_nothing(strategy: str) -> None:
    names = choices_of("remedy")
    tree = compose_alone("train", [f"strategy={strategy}", f"remedy=[{','.join(names)}]"])
    assert tree is not None
    remedies = dict(tree.remedy)
    for name in names:
        tree.remedy = {name: remedies[name]}
        if name in UNFIT.get(strategy, set()):
            with pytest.raises(FrostlineError, match=rf"remedy={name}\b.* strategy={strategy}\b"):
                validate(tree)
        else:
            assert validate(tree).remedy.keys() == {name}


def test_several_remedies_stand_together_in_one_order_whatever_the_command_lines() -> None:
    fitting = [name for name in choices_of("remedy") if name != "reinit"]
    config = config_of("strategy=full", f"remedy=[{','.join(fitting)}]", "remedy.mixout.p=0.3")
    again = config_of("strategy=full", f"remedy=[{','.join(reversed(fitting))}]", "remedy.mixout.p=0.3")
    assert sorted(config.remedy) == fitting
    assert isinstance(config.remedy["mixout"], Mixout)
    assert config.remedy["mixout"].p == 0.3
    assert list(again.remedy) == list(config.remedy)
    assert identity(again) == identity(config)


@pytest.mark.parametrize("name", ["mixout", "l2_sp", "ewc", "wise_ft"])
def test_what_holds_on_to_the_pretrained_weights_does_not_go_with_fresh_ones(name: str) -> None:
    with pytest.raises(FrostlineError, match=f"remedy={name} holds on to the pretrained weights, which remedy=reinit throws"):
        config_of("strategy=full", f"remedy=[{name},reinit]")


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_job_of_every_sweep_is_valid(sweep: str) -> None:
    tree = compose_alone("train", [sweep, "hydra.mode=RUN"])
    assert tree is not None
    grids = OmegaConf.to_container(tree.hydra.sweeper.grids)
    assert isinstance(grids, list)
    for grid in grids:
        words = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in grid.items()])
        jobs = BasicSweeper.split_arguments(words, None)[0]
        seeds = [word for word in jobs[0] if word.startswith("seed=")]  # one for all: whether a job is valid does not hang on it
        for job in jobs:
            if set(seeds) <= set(job):
                config_of(sweep, "hydra.mode=RUN", *job)


def test_every_claim_has_the_name_of_its_experiment_and_a_rule() -> None:
    claims = [(sweep, config_of(sweep, "hydra.mode=RUN").claim) for sweep in SWEEPS if sweep.startswith("experiment=")]
    assert claims
    for sweep, claim in claims:
        assert claim is not None
        assert sweep == f"experiment={claim.name}"
        assert claim.effect in EFFECTS


def test_every_remedy_and_strategy_of_the_schema_has_a_file_and_the_reverse() -> None:
    assert set(choices_of("remedy")) == set(REMEDIES)
    assert set(choices_of("strategy")) == set(SCHEMAS["strategy"][1])
    assert set(choices_of("measure")) == set(MEASURES)
    assert set(choices_of("scheduler")) == set(SCHEMAS["scheduler"][1])
    assert set(ranges.DOMAINS) == set(SOURCES)


def test_effects_that_a_rule_may_name_are_those_that_exist() -> None:
    assert set(ranges.EFFECTS) == set(EFFECTS)
    assert set(ranges.TASKS) == set(probing_tasks.LEVELS)


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_every_file_opens_with_the_command_that_uses_it(file: Path) -> None:
    opening = "".join(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines(keepends=True)))
    assert opening
    if relative(file) == "hydra/default.yaml":  # used by every command
        return
    command = "train" if file.parent != CONF else file.stem
    assert re.search(rf"^# frostline {command}\b", opening, re.MULTILINE)
    if file.parent != CONF and file.parent.name != "paths":
        assert f"{file.parent.name}={file.stem}" in opening


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name not in ("hydra", "sweep", "experiment")], ids=relative)
def test_every_key_is_explained_on_its_line(file: Path) -> None:
    """Only the key that tells a group's choices apart may speak for itself: it is the file's name."""
    lines = file.read_text().splitlines()
    node = yaml.compose(file.read_text())
    pairs = [(key, value) for key, value in node.value if key.value != "defaults"]
    while pairs:
        key, value = pairs.pop()
        if isinstance(value, yaml.MappingNode):
            pairs += value.value
            assert lines[key.start_mark.line - 1].lstrip().startswith("# ")
        elif (key.value, value.value) != ("name", file.stem):
            assert re.search(r" # \S", lines[key.start_mark.line]), f"{relative(file)}: {key.value} has no comment"


def test_every_group_in_the_table_of_contents_is_explained() -> None:
    lines = [line for line in (CONF / "train.yaml").read_text().splitlines() if line.startswith("  - ") and "_self_" not in line]
    assert {line.split(":")[0].removeprefix("  - ") for line in lines} == set(groups())
    assert all(re.search(r" # \S", line) for line in lines)


# --- precedence ------------------------------------------------------------------------------------------------------


def test_a_strategy_brings_its_optimizer_and_the_command_line_beats_it() -> None:
    assert isinstance(config_of("strategy=frozen").optimizer, Lbfgs)
    for words in (["strategy=frozen", "optimizer=adamw"], ["optimizer=adamw", "strategy=frozen"]):
        config = config_of(*words)
        assert isinstance(config.optimizer, AdamW)
        assert config.optimizer.lr == 1e-3
        assert config.data.batch_size == 32
        assert config.trainer.max_epochs == 100


def test_each_strategy_has_a_learning_rate_and_a_length_of_its_own() -> None:
    found = {name: config_of(f"strategy={name}") for name in choices_of("strategy") if name != "frozen"}
    rates = {"partial": 2e-4, "full": 1e-4, "lp_ft": 5e-5, "gradual": 1e-4, "lora": 1e-3, "bitfit": 1e-3}
    assert {name: config.optimizer.lr for name, config in found.items()} == rates  # type: ignore[attr-defined]
    assert {name: config.trainer.max_epochs for name, config in found.items()} == dict.fromkeys(rates, 3) | {"gradual": 8}
    assert config_of("strategy=full", "optimizer.lr=0.5").optimizer.lr == 0.5  # type: ignore[attr-defined]


def test_the_command_line_beats_an_experiment() -> None:
    assert config_of("experiment=debug").data.train_size == 200
    assert config_of("experiment=debug", "data.train_size=50").data.train_size == 50
    assert config_of("experiment=debug", "logger=wandb").logger.name == "wandb"


def test_environment_variables_move_outputs_and_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config_of().paths.output_dir == str(tmp_path / "outputs")
    assert config_of().paths.cache_dir == str(Path("~/.cache/frostline").expanduser())
    monkeypatch.setenv("FROSTLINE_OUTPUT", "/scratch/out")
    monkeypatch.setenv("FROSTLINE_CACHE", "/scratch/cache")
    assert (config_of().paths.output_dir, config_of().paths.cache_dir) == ("/scratch/out", "/scratch/cache")
    assert config_of("paths.output_dir=here").paths.output_dir == str(tmp_path / "here")


# --- identity and snapshot -------------------------------------------------------------------------------------------

SAME = {
    "output": ["paths.output_dir=elsewhere"],
    "cache": ["paths.cache_dir=elsewhere"],
    "logger": ["logger=csv"],
    "logger's project": ["logger.project=other"],
    "state to resume from": ["ckpt_path=last.ckpt"],
}
OTHER = {
    "seed": ["seed=1"],
    "lr": ["optimizer.lr=1e-3"],
    "scheduler": ["scheduler=cosine"],
    "depth": ["strategy=partial"],
    "data": ["data=tweets"],
    "split": ["data.split_seed=1"],
    "training size": ["data.train_size=100"],
    "pooling": ["model.pooling=cls"],
    "epochs": ["trainer.max_epochs=1"],
    "label noise": ["data.label_noise=0.1"],
    "permuted labels": ["data.permute_labels=true"],
    "class balance": ["data.class_balance=[0.5,0.5]"],
    "domains": ["data.domain=mixed"],
    "remedy": ["remedy=label_smoothing"],
    "test": ["test=false"],
}


@pytest.mark.parametrize("words", SAME.values(), ids=SAME)
def test_what_cannot_change_a_result_leaves_the_identity(words: list[str]) -> None:
    assert identity(config_of("strategy=full", *words)) == identity(config_of("strategy=full"))


@pytest.mark.parametrize("words", OTHER.values(), ids=OTHER)
def test_what_can_change_a_result_changes_the_identity(words: list[str]) -> None:
    assert identity(config_of("strategy=full", *words)) != identity(config_of("strategy=full"))


def test_the_order_of_the_command_line_does_not_change_the_identity() -> None:
    assert identity(config_of("seed=1", "strategy=full")) == identity(config_of("strategy=full", "seed=1"))


def test_one_file_named_in_two_ways_is_one_run(tmp_path: Path) -> None:
    names = ["x.csv", f"{tmp_path}/x.csv", "./x.csv"]
    assert len({identity(config_of("data=files", f"data.train='{name}'")) for name in names}) == 1


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=["=".join(pair) for pair in CHOICES])
def test_a_snapshot_read_back_is_the_configuration(group: str, choice: str) -> None:
    config = config_of(f"{group}={choice}", *GIVEN.get((group, choice), []))
    text = to_yaml(config)
    again = validate(OmegaConf.create(text))
    assert again == config
    assert identity(again) == identity(config)
    assert "${" not in text
    assert "???" not in text


def test_a_snapshot_means_the_same_files_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("data=files", "data.train=reviews.csv", "data.test='~/test.csv'")
    assert isinstance(config.data, FilesData)
    assert config.data.train == str(tmp_path / "reviews.csv")
    assert config.data.test == str(Path("~/test.csv").expanduser())
    monkeypatch.chdir("/")
    assert validate(OmegaConf.create(to_yaml(config))) == config


def test_seed_0_and_test_false_are_values() -> None:
    config = validate(OmegaConf.create(to_yaml(config_of("seed=0", "test=false"))))
    assert config.seed == 0
    assert config.test is False


def test_a_snapshot_without_a_group_or_with_a_foreign_key_is_refused() -> None:
    tree = OmegaConf.create(to_yaml(config_of()))
    tree.colour = "blue"
    with pytest.raises(FrostlineError, match="Unknown configuration key 'colour'"):
        validate(tree)
    del tree["colour"], tree["model"]
    with pytest.raises(FrostlineError, match="no 'model'; choose one with model=…"):
        validate(tree)

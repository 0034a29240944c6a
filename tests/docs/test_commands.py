"""Every command and key that the README and the pages of docs/ show is one that a user can type."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from frostline.commands.launch import compose_alone, quoted
from frostline.commands.plan import of_train
from frostline.commands.preflight import check_surroundings
from frostline.config import validate
from frostline.errors import FrostlineError
from frostline.schema import FilesData, PackagedModel

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STAND_INS = {"hub id": "some/name", "hub id or local folder": "some/name", "part": "some", "name": "debug", "column": "other"}
STOPS = {"&&", "||", "|", ";", ">", "&"}
GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra")


def filled(text: str) -> str:
    """What stands in angle brackets becomes an example of it: ``<file.conllu>`` a file, ``<run or sweep>`` a directory."""
    return re.sub(r"<([^<>\n]+)>", lambda found: STAND_INS.get(found[1], "nowhere"), text)


def commands(page: str) -> list[list[str]]:
    """Return the words of every ``frostline`` and ``./multirun.sh`` command in a page's blocks and inline code."""
    blocks = re.findall(r"^```(?:bash|console|sh)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:frostline|\./multirun\.sh) [^`]+)`", " ".join(prose.split()))
    found = []
    for line in lines:
        words = shlex.split(filled(line), comments=True)
        if words[:1] == ["./multirun.sh"]:
            words = ["frostline", "train", "-m", *(words[1:] or ["sweep=main"])]
        if "frostline" in words:
            words = words[words.index("frostline") + 1 :]
            found.append(words[: next((i for i, word in enumerate(words) if word in STOPS), None)])
    return found


def jobs(overrides: list[str]) -> list[list[str]]:
    """Return so many jobs of a sweep that every value is in one of them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep, Override

    def values_of(parsed: Override) -> list[str]:
        if isinstance(interval := parsed.value(), IntervalSweep):
            return [str(interval.start), str(interval.end)]
        return list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else [parsed.get_value_element_as_str()]

    values = [values_of(parsed) for parsed in OverridesParser.create().parse_overrides(overrides)]
    keys = [word.partition("=")[0] for word in overrides]
    most = max(map(len, values), default=1)
    return [[f"{key}={of_key[i % len(of_key)]}" for key, of_key in zip(keys, values, strict=True)] for i in range(most)]


ALL = {tuple(words): path.name for path in PAGES for words in commands(path.read_text())}
TRAIN = [words for words in ALL if words[0] in ("train", "plan") and not {"--help", "-h"} & set(words)]
ALONE = ("cache", "claims")  # of the others, a bare name in prose is no command line
OTHERS = [words for words in ALL if words[0] not in ("train", "plan", "-sc") and (len(words) > 1 or words[0] in ALONE)]


def test_pages_have_commands():
    assert len(TRAIN) > 30 and len(OTHERS) > 8
    for page in ("README.md", "start.md", "sweeps.md", "layers.md", "costs.md", "bias.md", "space.md", "devices.md"):
        assert page in ALL.values()


@pytest.mark.parametrize("words", TRAIN, ids=" ".join)
def test_every_job_of_every_command_to_train_is_valid(words, cache_dir):
    check(words, cache_dir)


def check(words: Sequence[str], cache_dir: Path) -> None:
    command, *words = words
    options = {word for word in words if word.startswith("-")}
    assert options <= {"-m", "--cfg", "--resolve"}
    overrides = [word for word in words if "=" in word and not word.startswith("resume=")]  # taken out before Hydra sees it
    has_grids = any(word.startswith(("sweep=", "experiment=")) for word in overrides)  # test_config.py looks at these
    for job in jobs(overrides) if has_grids or "-m" in options else [overrides]:
        composed = compose_alone(command, [*job, "hydra.mode=RUN", f"paths.cache_dir={quoted(cache_dir)}"])
        assert composed is not None
        config = validate(of_train(composed))
        if isinstance(config.model, PackagedModel) and not isinstance(config.data, FilesData):
            config.trainer.accelerator = "cpu"  # this machine may have no GPU
            check_surroundings(config)  # such as whether the encoder is as deep as that


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_every_other_command_knows_its_options(frostline, words):
    """On a directory that does not exist, the complaint is about the directory, not about the options."""
    result = frostline(*words)
    of_a_run = any("nowhere" in word for word in words)
    assert result.status == int(of_a_run), result.err
    assert ("nowhere" in result.err) == of_a_run


@functools.cache
def keys() -> set[str]:
    """Every key of every choice: ``data.train_size``, ``measure.layers.poolings``, ``seed``."""

    def leaves(tree: object, prefix: str) -> set[str]:
        inner = {str(k): v for k, v in tree.items() if k != "defaults"} if isinstance(tree, dict) else {}
        return {prefix} | {leaf for key, value in inner.items() for leaf in leaves(value, f"{prefix}.{key}".lstrip("."))}

    def read(path: Path) -> object:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)

    found = leaves(read(ROOT / "conf" / "train.yaml"), "")
    for group in GROUPS:
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            several = group in ("measure", "remedy")
            found |= leaves(read(path), f"{group}.{path.stem}" if several else group)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_key_in_the_prose_exists(path):
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE))
    named = [span.partition("=")[0] for span in spans if re.fullmatch(rf"(?:{'|'.join(GROUPS)})\.[a-z_.]+[a-z_](=.*)?", span)]
    named = [key for key in named if not key.endswith((".py", ".yaml", ".csv", ".json", ".md"))]
    assert not set(named) - keys()
    chosen = [span.split("=") for span in spans if re.fullmatch(rf"(?:{'|'.join(GROUPS)})=[a-z_\d]+", span)]
    assert not [f"{group}={choice}" for group, choice in chosen if not (ROOT / "conf" / group / f"{choice}.yaml").is_file()]


def test_commands_are_found():
    block = "```bash\nsource x && frostline train -m a=1,2 | cat # note\n./multirun.sh b=1\n```\n"
    assert commands(block) == [["train", "-m", "a=1,2"], ["train", "-m", "b=1"]]
    assert commands("as `frostline\ncache` or `frostline report run=<sweep>`") == [["cache"], ["report", "run=nowhere"]]


def test_a_sweep_is_looked_at_value_by_value():
    assert jobs(["a=interval(0.5, 2)", "b=1"]) == [["a=0.5", "b=1"], ["a=2.0", "b=1"]]
    assert jobs(["a=1,2,3", "b=[x,y]", "c=p,q"]) == [
        ["a=1", "b=[x,y]", "c=p"],
        ["a=2", "b=[x,y]", "c=q"],
        ["a=3", "b=[x,y]", "c=p"],
    ]


def test_typos_are_found(cache_dir):
    with pytest.raises(HydraException, match="frozen_dept"):
        check(["train", "strategy=partial", "strategy.frozen_dept=4"], cache_dir)
    with pytest.raises(FrostlineError, match="frozen_depth"):
        check(["plan", "-m", "strategy=partial", "strategy.frozen_depth=4,7"], cache_dir)
    assert {"seed", "strategy.frozen_depth", "measure.layers.poolings"} <= keys()
    assert "strategy.frozen_dept" not in keys()

"""Nothing in the source reads what could execute; what Frostline itself composes is trusted."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import frostline
from frostline.errors import FrostlineError
from frostline.trust import check_target, check_trust

SOURCE = Path(frostline.__file__).parent
NEVER = {"eval", "exec", "compile", "read_pickle", "load_from_disk", "unsafe_load", "full_load", "extractall", "literal_eval"}
MODULES = {"pickle", "joblib", "dill", "marshal", "shelve", "cloudpickle"}
SAFE = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}


def calls(tree: ast.AST) -> list[tuple[str, str, ast.Call]]:
    """Every call as (what is before the dot, name, call)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            before = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
            found.append((before, function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""), node))
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_module_loads_what_could_execute(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & MODULES
    for before, name, call in calls(tree):
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        is_own = isinstance(call.func, ast.Attribute) and name in ("eval", "compile")  # a module's mode, a pattern
        assert name not in NEVER or is_own, f"{name} in line {call.lineno}"
        if (before, name) in SAFE:
            option, value = SAFE[before, name]
            assert given.get(option) is value, f"{before}.{name} without {option}={value} in line {call.lineno}"
        assert given.get("trust_remote_code") is not True
        assert not (before == "yaml" and name == "load")


@pytest.mark.parametrize(
    "target",
    [
        "frostline.commands.sweep.SweepEnd",
        "hydra_plugins.frostline_grids.GridsSweeper",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "torch.nn.Linear",
        "torch.optim.AdamW",
        "torchmetrics.Accuracy",
        "lightning.pytorch.callbacks.EarlyStopping",
        "transformers.BertModel",
    ],
)
def test_classes_of_the_stack_are_allowed(target: str) -> None:
    check_target("key", target)


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "subprocess.Popen", "importlib.import_module", "pickle.loads", "", ".", "torch..nn"),
        *("torch.hub.load", "torch.load", "torch.os.system", "torch.package.PackageImporter"),
        "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
        *("hydra.utils.instantiate", "frostline.commands.launch.sys.exit", "lightning.pytorch.cli.LightningCLI"),
        "frostline.runs.manifest.subprocess.Popen",
    ],
)
def test_functions_and_what_runs_commands_are_not(target: str) -> None:
    with pytest.raises(FrostlineError, match="key is '"):
        check_target("key", target)


def test_a_shell_command_that_was_typed_is_the_user_s_own() -> None:
    config = OmegaConf.create({"hydra": {"launcher": {"setup": ["module load cuda"]}}})
    check_trust(config, typed=["hydra.launcher.setup"])
    with pytest.raises(FrostlineError, match=r"hydra\.launcher\.setup\.0 would run 'module load cuda'"):
        check_trust(config)


def test_the_environment_may_be_set_and_read_where_it_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trust(OmegaConf.create({"hydra": {"job": {"env_set": {"CUDA_VISIBLE_DEVICES": "0"}}}}))
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert OmegaConf.create({"a": "${oc.env:SCRATCH}/x", "b": "${oc.env:FROSTLINE_OUTPUT,there}"}).a == "/scratch/x"

"""A search over hyperparameters: the study in a sweep's directory, what the next jobs try, and which jobs are given up.

A trial of the study is the job of the same number. What it tries depends on the jobs before it and on the search's seed alone, so
that a search which was killed goes on as if it had not been.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from omegaconf import DictConfig

from frostline.errors import FrostlineError
from frostline.runs.reading import read_json, read_manifest
from frostline.strategies.pruning import Report

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.study import Study

STUDY, NAME = "study.journal", "frostline"
Values: TypeAlias = dict[str, Any]  # of what is searched, by its key


def require_optuna() -> None:
    """Check that Optuna is there.

    Raises:
        FrostlineError: it is not.
    """
    try:
        import optuna
    except ImportError:
        raise FrostlineError(
            "hydra/sweeper=optuna needs the package optuna (4 or later); install it with pip install 'optuna>=4'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(sweep_dir: Path, describes: Mapping[str, Any], mode: str) -> Study:
    """Open a sweep's study, or make it.

    Args:
        sweep_dir: the sweep's directory.
        describes: what is searched, and how; JSON.
        mode: ``max`` or ``min``.

    Raises:
        FrostlineError: there is a study of another search.
    """
    import optuna

    direction = optuna.study.StudyDirection.MAXIMIZE if mode == "max" else optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(storage=_storage(sweep_dir), study_name=NAME, direction=direction, load_if_exists=True)
    found, now = study.user_attrs.get("search"), json.loads(json.dumps(describes))
    if found is None:
        study.set_user_attr("search", now)
    elif found != now:
        differs = ", ".join(key for key in now if found.get(key) != now[key])
        raise FrostlineError(
            f"'{sweep_dir}' holds another search (its {differs} differ); choose another directory, or remove it."
        )
    return study


def open_trials(study: Study, keys: Sequence[str]) -> list[tuple[int, Values]]:
    """Return the jobs that were begun and have no result: of a launcher that was killed, or jobs that failed."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [(trial.number, dict(trial.params)) for trial in trials if set(trial.params) == set(keys)]


def count(study: Study, keys: Sequence[str]) -> int:
    """Return how many jobs the search has had; a trial whose values were not all drawn before a kill is none."""
    return sum(set(trial.params) == set(keys) for trial in study.get_trials(deepcopy=False))


def ask(study: Study, space: Mapping[str, BaseDistribution], options: DictConfig) -> tuple[int, Values]:
    """Return the number of the next job, and what it tries."""
    number = len(study.get_trials(deepcopy=False))
    study.sampler = _sampler(options, int(np.random.SeedSequence([options.seed, number]).generate_state(1)[0]))
    trial = study.ask(dict(space))
    return trial.number, dict(trial.params)


def tell(study: Study, number: int, run_dir: Path, monitor: str) -> None:
    """Tell what has become of a job; one that failed is left open, so that it is run again when the search goes on.

    A diverged job is told as a pruned one without a value, which samplers take for worse than any other.
    """
    from optuna.trial import TrialState

    status = read_manifest(run_dir).get("status")
    if status == "finished":
        study.tell(number, read_json(run_dir / "metrics.json")[monitor])
    elif status in ("pruned", "diverged"):
        study.tell(number, state=TrialState.PRUNED)


def trial_of(run_dir: Path, options: DictConfig, epochs: int) -> Report | None:
    """Return what a job of a search reports to after every epoch; None for a job of any other sweep.

    Args:
        run_dir: the job's directory.
        options: of the sweeper.
        epochs: the most that the job trains.
    """
    sweep_dir = run_dir.parent
    if not (sweep_dir / STUDY).is_file():
        return None
    require_optuna()
    import optuna

    storage, pruner = _storage(sweep_dir), _pruner(options, epochs)
    study = optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)
    trial = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(NAME), int(run_dir.name))

    def report(value: float, epoch: int) -> bool:
        storage.set_trial_intermediate_value(trial, epoch, value)
        return pruner.prune(study, storage.get_trial(trial))

    return report


def best_in_words(study: Study, monitor: str) -> str:
    """Return which job is the best so far, in one line."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        return f"Search: none of {len(trials)} jobs has finished."
    best = study.best_trial
    values = " ".join(f"{key}={value}" for key, value in best.params.items())
    return (
        f"Search: of {len(trials)} jobs ({pruned} pruned), job {best.number} has the best {monitor}, {best.value:.4f}: {values}"
    )


def _storage(sweep_dir: Path) -> JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(sweep_dir / STUDY)))


def _sampler(options: DictConfig, seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    return RandomSampler(seed) if options.sampler == "random" else TPESampler(n_startup_trials=options.startup_trials, seed=seed)


def _pruner(options: DictConfig, epochs: int) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if options.pruner == "median":
        return MedianPruner(n_startup_trials=options.startup_trials, n_warmup_steps=options.warmup_epochs)
    if options.pruner == "hyperband":
        return HyperbandPruner(min_resource=max(options.warmup_epochs, 1), max_resource=max(epochs, options.warmup_epochs, 1))
    return NopPruner()

"""How large everything is: the same for both sides of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BATCH_SIZE, LEARNING_RATE, MAX_LENGTH = 32, 1e-4, 128
SENTENCES = "{work}/sentences.json"  # what peers read; Bench puts the folder in

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Settings:
    """Sizes of the measurements; :func:`quick` has small ones for a smoke test.

    Attributes:
        small: whether these are the sizes of a smoke test.
        repeats: overrides every job's own number of repeats; None leaves them.
        validation_share: of the 10,072 sentences; 0.05 are 504.
        train_size: training sentences of a fine-tuning, of a probe and of every cell of the sweep.
        probe_epochs: of the mini-batch probe.
        sweep_rates, sweep_depths, sweep_epochs: the sweep.
        many_size, many_rates, many_seeds, many_epochs: the many probes, and their training sentences.
        many_sample: how many of them are fitted one at a time.
        step_size: training sentences where only single steps are looked at.
        inner: repeats inside one process, where the sides take turns in it.
        scales: numbers of training sentences for the scaling.
        plan_size: training sentences of the runs that are planned.
    """

    small: bool = False
    repeats: int | None = None
    validation_share: float = 0.05
    train_size: int = 1_000
    probe_epochs: int = 10
    sweep_rates: Sequence[float] = (1e-5, 3e-5, 1e-4, 3e-4)
    sweep_depths: Sequence[int] = (0, 2, 4, 6)
    sweep_epochs: int = 2
    many_size: int = 2_000
    many_sample: int = 10
    many_rates: int = 20
    many_seeds: int = 5
    many_epochs: int = 50
    step_size: int = 480
    inner: int = 5
    scales: Sequence[int] = (1_000, 3_000, 8_900)
    plan_size: int = 600

    def data_words(self, train_size: int, validation_share: float | None = None) -> list[str]:
        """Return Frostline's overrides for the data, and what else all runs have in common.

        The test split is not scored (``test=false``) and kept small, since a peer has none. Curves go to ``curves.csv`` only.
        """
        share = self.validation_share if validation_share is None else validation_share
        return [
            *(f"data.train_size={train_size}", f"data.validation_share={share}", "data.test_share=0.01"),
            *(f"data.max_length={MAX_LENGTH}", "test=false", "logger=csv"),
        ]


def quick() -> Settings:
    """Return small sizes and one repeat: everything runs, no number means anything."""
    return Settings(
        small=True,
        repeats=1,
        validation_share=0.02,
        train_size=64,
        probe_epochs=2,
        sweep_rates=(1e-4, 3e-4),
        sweep_depths=(2, 6),
        sweep_epochs=1,
        many_size=128,
        many_sample=2,
        many_rates=3,
        many_seeds=2,
        many_epochs=3,
        step_size=96,
        inner=2,
        scales=(100, 200, 400),
        plan_size=100,
    )

"""What a plan says of jobs is what they then do; nothing is written by saying it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frostline.commands.plan import Plan
from frostline.commands.plan import plan as plan_of
from frostline.encoder.cache import Wanted
from tests.commands.run_files import curves, metrics

pytestmark = pytest.mark.usefixtures("one_thread")
JOBS = ["strategy=frozen,partial,full", "seed=0,1", "optimizer=adamw", "trainer.max_epochs=2"]


@pytest.fixture
def plan(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROSTLINE_CACHE", str(own_cache))
    monkeypatch.setenv("FROSTLINE_OUTPUT", str(tmp_path / "outputs"))
    return lambda *words: plan_of([*words, "plan.steps=2"])


def test_jobs_do_what_their_plan_says(plan, frostline, tiny, own_cache, tmp_path, capsys):
    words = ["-m", *tiny, *JOBS]
    before = plan(*words)
    told = capsys.readouterr().out
    assert "6 jobs" in told and "seed 0, 1" in told
    assert not (tmp_path / "outputs").exists() and not list(own_cache.rglob("*.safetensors"))
    assert not list(own_cache.glob("plan-*"))
    assert all(part.total > 0 for part in before.parts)
    assert before.seconds == sum(part.total for part in before.parts)

    sweep = tmp_path / "sweep"
    assert frostline("train", *words, f"hydra.sweep.dir={sweep}").status == 0
    for kind, trained in zip(before.jobs, before.parameters, strict=True):
        for job in kind:
            run = sweep / str([c.config for of_kind in before.jobs for c in of_kind].index(job.config))
            assert trained == (metrics(run)["trained_parameters"], metrics(run)["total_parameters"])
            steps = curves(run)["train/loss"].count()
            assert job.work.steps == steps
    (encoding,) = before.encodings
    assert encoding.wanted == Wanted(frozenset({3}), frozenset({"mean", "cls"}))
    kept = sum(path.stat().st_size for path in (own_cache / "activations").rglob("*.safetensors"))
    assert sum(encoding.parts().values()) == pytest.approx(kept, rel=0.01)

    after = plan(*words)
    assert not [part for part in after.parts if part.what.startswith("encoding")], "everything is in the cache"


def test_what_cannot_be_trained_cannot_be_planned(frostline, tiny, tmp_path):
    for words in (
        ["-m", *tiny, "strategy=partial", "strategy.frozen_depth=0,9"],
        [*tiny, "strategy=partial", "strategy.frozen_dept=2"],
        [*tiny, "seed=-1"],
    ):
        planned, trained = frostline("plan", *words), frostline("train", *words)
        assert planned.status == trained.status == 1
        assert planned.err.removeprefix("frostline plan: ") == trained.err.removeprefix("frostline train: ")
    assert "plan.steps is 0, but must be" in frostline("plan", *tiny, "plan.steps=0").err


def test_its_help_explains_its_keys(frostline):
    result = frostline("plan", "--help")
    assert result.status == 0 and result.out.startswith("# frostline plan -m") and "gflops: null #" in result.out


def test_at_a_stated_throughput_time_is_operations_over_it(plan, tiny, capsys):
    found = plan(*tiny, "strategy=partial", "strategy.frozen_depth=2", "plan.gflops=0.5")
    (((job,),), (encoding,)) = found.jobs, found.encodings
    assert found.seconds == pytest.approx((job.work.flops.total + encoding.flops) / 0.5e9)
    assert "nothing was measured" in capsys.readouterr().out


def test_a_thaw_and_low_ranks_are_planned_and_timed(plan, tiny):
    """Strategies whose epochs differ, whose matrices stay, whose head is solved for first."""
    grids = "[{strategy: gradual, trainer.max_epochs: '6'}, {strategy: 'lora,lp_ft', trainer.max_epochs: '2'}]"
    found = plan("-m", *tiny, f"hydra.sweeper.grids={grids}")
    gradual, lora, lp_ft = (kind[0].work for kind in found.jobs)
    assert gradual.flops.backward / gradual.steps < lp_ft.flops.backward / lp_ft.steps
    assert lora.flops.backward == lora.flops.steps and lp_ft.flops.backward == 2 * lp_ft.flops.steps
    assert all(part.total > 0 for part in found.parts)


def test_an_encoder_without_its_weights_is_planned_by_its_shape(plan, tiny, tmp_path, capsys):
    from frostline.encoder.load import load_encoder
    from frostline.schema import RandomModel

    folder = tmp_path / "encoder"
    encoder = load_encoder(RandomModel("random", "mean", "tiny", "bert", 4, 32, 4, 0), tmp_path)
    encoder.model.config.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    others = [word for word in tiny if word != "model=tiny"]
    found = plan("-m", *others, "model=hub", f"model.name={folder}", "strategy=frozen,full", "optimizer=adamw")
    assert all(part.total > 0 for part in found.parts)
    out = " ".join(capsys.readouterr().out.split())
    assert "are not on this machine" in out
    assert os.listdir(folder) and not list(folder.glob("*.safetensors"))
    own = plan("-m", *tiny, "strategy=frozen,full", "optimizer=adamw")
    assert [[job.work for job in kind] for kind in found.jobs] == [[job.work for job in kind] for kind in own.jobs]
    assert found.parameters == own.parameters

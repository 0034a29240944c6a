"""``trainer.precision=auto`` becomes what the processor computes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from frostline import processor as processor_module
from frostline.errors import FrostlineError
from frostline.processor import has_bf16, mkl_is_slow, processor, resolve_precision

OLD = "fpu vme sse4_2 avx2 avx512f"
CPUINFO = "processor\t: {number}\nvendor_id\t: {vendor}\nmodel name\t: A: B\nflags\t\t: {flags}\n\n"


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    processor.cache_clear()
    yield
    processor.cache_clear()


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make this a machine with such a processor; None: one without /proc."""

    def pretend(content: str | None) -> None:
        path = tmp_path / "cpuinfo"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(processor_module, "Path", lambda name: {"/proc/cpuinfo": path}[name])
        processor.cache_clear()

    return pretend


def x86(flags: str = OLD, vendor: str = "GenuineIntel") -> str:
    return "".join(CPUINFO.format(number=number, vendor=vendor, flags=flags) for number in range(2))


@pytest.mark.parametrize(
    ("content", "precision"),
    [
        (x86(), "32-true"),
        (x86(f"{OLD} avx512_bf16"), "bf16-mixed"),
        (x86(f"{OLD} amx_bf16 amx_tile"), "bf16-mixed"),
        ("processor\t: 0\nFeatures\t: fp asimd sve bf16\n\n", "bf16-mixed"),  # ARM
        ("processor\t: 0\nFeatures\t: fp asimd svebf16x\n\n", "32-true"),
        ("", "32-true"),
        (None, "32-true"),
    ],
    ids=["old", "avx512", "amx", "arm", "old arm", "empty", "no /proc"],
)
def test_auto_is_bf16_where_the_hardware_computes_in_it(cpuinfo, content: str | None, precision: str) -> None:
    cpuinfo(content)
    assert resolve_precision("auto", "cpu") == precision
    assert has_bf16() == (precision == "bf16-mixed")


def test_emulated_bf16_is_refused_with_what_to_use(cpuinfo) -> None:
    cpuinfo(x86())
    with pytest.raises(FrostlineError, match=r"trainer\.precision is 'bf16-mixed', .*use trainer\.precision=auto or 32-true"):
        resolve_precision("bf16-mixed", "cpu")


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_bf16_in_hardware_is_what_it_is(cpuinfo, monkeypatch: pytest.MonkeyPatch, accelerator: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpuinfo(x86(f"{OLD} avx512_bf16"))
    assert resolve_precision("bf16-mixed", accelerator) == "bf16-mixed"


@pytest.mark.parametrize("flags", [OLD, f"{OLD} avx512_bf16"])
def test_other_precisions_are_what_they_are(cpuinfo, flags: str) -> None:
    cpuinfo(x86(flags))
    assert resolve_precision("32-true", "cpu") == "32-true"
    assert resolve_precision("16-mixed", "gpu") == "16-mixed"
    with pytest.raises(FrostlineError, match=r"trainer\.precision is '16-mixed', which needs a GPU; use"):
        resolve_precision("16-mixed", "cpu")  # Lightning would take bf16 in its place


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_is_asked_itself(
    cpuinfo, monkeypatch: pytest.MonkeyPatch, accelerator: str, supported: bool, precision: str
) -> None:
    cpuinfo(x86(OLD if supported else f"{OLD} avx512_bf16"))  # what the processor has does not count
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert resolve_precision("auto", accelerator) == precision
    if supported:
        assert resolve_precision("bf16-mixed", accelerator) == "bf16-mixed"
    else:
        with pytest.raises(FrostlineError, match="has no bf16"):
            resolve_precision("bf16-mixed", accelerator)


@pytest.mark.parametrize(
    ("content", "slow"),
    [
        (x86(vendor="AuthenticAMD"), True),
        (x86("fpu sse4_2 avx2", vendor="AuthenticAMD"), False),
        (x86(), False),
        (None, False),
    ],
    ids=["AMD", "AMD without AVX-512", "Intel", "no /proc"],
)
def test_mkl_is_slow_on_amd_processors_with_avx512(cpuinfo, content: str | None, slow: bool) -> None:
    cpuinfo(content)
    assert mkl_is_slow() == slow
    assert "model name" in processor()
    if content:
        assert processor()["model name"] == "A: B", "the first of them, with all that follows the first colon"
        assert processor()["processor"] == "0"

"""What this machine's processor can do, read without importing torch."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from frostline.errors import FrostlineError


@cache
def processor() -> dict[str, str]:
    """Return the first processor's entries of ``/proc/cpuinfo``, such as ``vendor_id``, ``model name`` and ``flags``."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return {"model name": platform.processor()}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def has_bf16() -> bool:
    """Whether bfloat16 products run in hardware; elsewhere they are emulated, and slower than float32."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & _flags())


def mkl_is_slow() -> bool:
    """Whether this is an AMD processor with AVX-512, which MKL leaves unused: it reaches less than half of what oneDNN reaches.

    On AMD processors without AVX-512 both reach the same.
    """
    return processor().get("vendor_id") == "AuthenticAMD" and "avx512f" in _flags()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _flags() -> set[str]:
    return set(processor().get("flags", processor().get("Features", "")).split())


def computes_in_bf16(accelerator: str) -> bool:
    """Whether a run on ``trainer.accelerator`` has bfloat16 in hardware; a GPU is asked itself, so torch is imported."""
    if accelerator != "cpu" and _has_gpu():
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_bf16()


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return the precision that a run uses: ``auto`` is bf16-mixed where the hardware computes in bf16, else 32-true.

    Args:
        precision: ``trainer.precision``.
        accelerator: ``trainer.accelerator``.

    Raises:
        FrostlineError: a precision that the hardware would only emulate, or does not have.
    """
    if precision == "auto":
        return "bf16-mixed" if computes_in_bf16(accelerator) else "32-true"
    is_there = accelerator != "gpu" or _has_gpu()  # else that is what the user must be told, and is told later
    if precision == "bf16-mixed" and is_there and not computes_in_bf16(accelerator):
        raise FrostlineError(
            "trainer.precision is 'bf16-mixed', but this processor has no bf16 instructions and would emulate them, slower than "
            "float32; use trainer.precision=auto or 32-true."
        )
    if precision == "16-mixed" and accelerator == "cpu":
        raise FrostlineError("trainer.precision is '16-mixed', which needs a GPU; use trainer.precision=auto or 32-true.")
    return precision

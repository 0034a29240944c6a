"""The arithmetic of matrix products: mixed precision, and oneDNN in place of MKL, which is slow on AMD processors with AVX-512.

torch sends float32 products to oneDNN only if it may compute in a narrower type (``fp32_precision = "bf16"``). Without
matrix units for that type oneDNN computes in full float32 all the same, more than twice as fast as MKL on such a processor;
:func:`is_exact` makes sure of that before the switch is left on.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

from frostline.processor import mkl_is_slow

log = logging.getLogger(__name__)
TOLERANCE = 2e-6  # of the largest value; float32 rounds to 6e-8, bfloat16 to 4e-3
SHAPES = ((64, 384, 1536), (1024, 768, 768), (7, 1536, 384))  # rows, inner, columns


@cache
def choose_products() -> str:
    """Choose who computes float32 products on the CPU in this process: ``onednn`` or ``torch`` (its default)."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if not (mkl_is_slow() and hasattr(matmul, "fp32_precision") and torch._C._has_mkldnn):
        return "torch"
    assert matmul is not None
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    if is_exact():
        return "onednn"
    matmul.fp32_precision = before
    log.info("oneDNN does not compute in full float32 here; torch's default products stay.")
    return "torch"


def is_exact() -> bool:
    """Whether products agree with float64 to float32 rounding: forward, both gradients, and batched ones."""
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in SHAPES:
        x, w = (torch.randn(n, inner, generator=generator) for n in (rows, columns))
        g = torch.randn(rows, columns, generator=generator)
        for a, b in ((x, w.t()), (g, w), (g.t(), x), (x.view(1, rows, inner).expand(3, -1, -1), w.t().expand(3, -1, -1))):
            exact = a.double() @ b.double()
            if (a @ b - exact).abs().max() > TOLERANCE * exact.abs().max():
                return False
    return True


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a pass has the same precision as Lightning's ``precision`` has in training."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)

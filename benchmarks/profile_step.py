"""Where the time of a training step goes: 20 steps under torch's profiler, after a run has warmed up.

python benchmarks/profile_step.py strategy=full
python benchmarks/profile_step.py strategy=partial strategy.frozen_depth=3 model.pooling=cls
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import frostline_side
from settings import Settings

STEPS = 20
PARTS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention's products": ("aten::bmm",),
    "dropout": ("aten::bernoulli_", "aten::random_", "aten::ge", "_Dropout", "_DropoutBackward"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "AdamW": ("aten::_fused_adamw_",),
    "clipping": ("aten::linalg_vector_norm", "aten::mul_"),
    "copies": ("aten::copy_",),
    "normalisation and softmax": (
        *("aten::native_layer_norm", "aten::native_layer_norm_backward"),
        *("aten::_softmax", "aten::_softmax_backward_data"),
    ),
}


def main() -> None:
    """Train once as the command line says, then profile further steps of the same module, optimizer and batches."""
    shares: dict[str, float] = {}

    def steps(trainer: Any) -> None:
        module, optimizer = trainer.lightning_module.train(), trainer.optimizers[0]
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for batch in islice(trainer.train_dataloader, STEPS):
                optimizer.zero_grad()
                F.cross_entropy(module(batch).float(), batch["labels"]).backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
        times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
        total = sum(times.values())
        shares.update({part: sum(times.get(key, 0) for key in keys) / total for part, keys in PARTS.items()})
        shares["all else"] = 1 - sum(shares.values())
        print(f"{total / STEPS / 1000:.0f} ms a step, under the profiler")

    words = [*Settings().data_words(1_000), "trainer.max_epochs=1", "trainer.precision=32-true", "optimizer.lr=1e-4"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        frostline_side.train([*words, *sys.argv[1:]], after=steps)
        os.chdir("/")
    for part, share in shares.items():
        print(f"{part:<28}{100 * share:5.1f} %")


if __name__ == "__main__":
    main()

"""What thawing costs: the time of a training step at every frozen depth, beside the formula.

    make bench

Every depth trains on the same batches of real sentences with MiniLM. Depths are measured in turn, several times, and
compared with full fine-tuning as ratios of medians: absolute times depend on the machine, ratios hardly.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from frostline.commands.launch import compose_alone
from frostline.config import validate
from frostline.data.module import SentenceModule
from frostline.data.sentences import load_data
from frostline.encoder.load import load_encoder
from frostline.strategies import build_classifier

REPEATS, STEPS = 5, 6


def formula(depth: int, blocks: int) -> float:
    """Return the expected speed-up over full fine-tuning without a cache: 3L / (3L - 2d).

    A backward pass costs two forward passes; frozen blocks need the forward pass only.
    """
    return 3 * blocks / (3 * blocks - 2 * depth)


def seconds_of_steps(depth: int, batches: list[dict[str, Any]]) -> float:
    """Return how long the optimizer steps on ``batches`` take at a frozen depth."""
    words = ["strategy=partial", f"strategy.frozen_depth={depth}", "logger=csv"]
    config = validate(compose_alone("train", words))
    pretrained = load_encoder(config.model, Path(config.paths.cache_dir))
    module = build_classifier(config, pretrained, classes=2).train()
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    started = 0.0
    for number, batch in enumerate(batches):
        if number == 1:  # the first step only warms up
            started = time.perf_counter()
        loss = F.cross_entropy(module(batch), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print the table."""
    config = validate(compose_alone("train", ["strategy=full", "data.train_size=1000"]))
    cache_dir = Path(config.paths.cache_dir)
    data, pretrained = load_data(config.data, cache_dir, seed=0), load_encoder(config.model, cache_dir)
    datamodule = SentenceModule(data, pretrained.tokenizer, pretrained.tokenizer_hash, 128, 32, 0, cache_dir)
    batches = list(itertools.islice(datamodule.train_dataloader(), STEPS + 1))

    depths = range(pretrained.blocks + 1)
    seconds: dict[int, list[float]] = {depth: [] for depth in depths}
    for _ in range(REPEATS):
        for depth in depths:
            seconds[depth].append(seconds_of_steps(depth, batches))

    table = Table(title=f"{STEPS} training steps of 32 movie reviews, MiniLM, {REPEATS} repeats, depths in turn")
    for title in ("frozen depth", "speed-up over full", "lowest … highest", "3L / (3L - 2d)"):
        table.add_column(title, justify="right")
    for depth in depths:
        ratios = [full / own for full, own in zip(seconds[0], seconds[depth], strict=True)]
        speed_up = statistics.median(seconds[0]) / statistics.median(seconds[depth])
        row = (f"{speed_up:.2f}", f"{min(ratios):.2f} … {max(ratios):.2f}", f"{formula(depth, pretrained.blocks):.2f}")
        table.add_row(f"{depth} of {pretrained.blocks}", *row)
    Console().print(table)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()

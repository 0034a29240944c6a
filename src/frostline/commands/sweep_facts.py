"""What a sweep's jobs must know of it, in whatever process or on whatever machine they run.

The sweeper writes it into the sweep's directory, and every job takes it into its environment, where its own child processes
find it, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from frostline.commands.placement import visible_gpus
from frostline.runs.files import write_json
from frostline.schema import Config

FILE = ".facts.json"
# The sweep's number of jobs, its start (Unix time), which frozen depths (null: a probe) and poolings of which model its jobs will
# ask the cache for, how many of them share a machine, and its GPUs.
JOBS, STARTED, FROZEN = "FROSTLINE_SWEEP_JOBS", "FROSTLINE_SWEEP_STARTED", "FROSTLINE_SWEEP_FROZEN"
AT_ONCE, GPUS = "FROSTLINE_SWEEP_AT_ONCE", "FROSTLINE_SWEEP_GPUS"


def write_facts(sweep_dir: Path, configs: Sequence[Config], jobs: int, at_once: int | None) -> None:
    """Write the facts of a sweep.

    Args:
        sweep_dir: its directory.
        configs: of its jobs; of a search, some with every value that can be asked for.
        jobs: how many there will be.
        at_once: how many of them share this machine; None if they run elsewhere.
    """
    frozen = {
        (c.model.name, c.model.pooling, getattr(c.strategy, "frozen_depth", None))
        for c in configs
        if c.strategy.name != "full" and c.cache.mode != "off" and not getattr(c.strategy, "frozen_dropout", False)
    }
    asks_gpu = any(c.trainer.accelerator != "cpu" and c.trainer.devices == 1 for c in configs)
    facts = {
        JOBS: str(jobs),
        STARTED: str(time.time()),
        FROZEN: json.dumps(sorted(frozen, key=str)),
        AT_ONCE: str(at_once or 0),
        GPUS: ",".join(visible_gpus() if asks_gpu and (at_once or 0) > 1 else []),
    }
    write_json(sweep_dir / FILE, facts)


def take_facts(sweep_dir: Path) -> dict[str, str]:
    """Put the facts of a sweep into this process's environment, and return them."""
    facts: dict[str, str] = json.loads((sweep_dir / FILE).read_text())
    os.environ.update(facts)
    return facts

"""FSDP on processors, which Lightning refuses: so that it can be tested without GPUs."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType


class ShardedOnCpu(FSDPStrategy):
    """Lightning's FSDP strategy over gloo. It saves no memory; the numbers are those of GPUs up to rounding."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            module=model,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=torch.device("cpu"),  # Lightning gives an index, which a processor does not have
            **self.kwargs,
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole state on the first process; moved to the CPU, where it is, it would be read after it was freed."""
        assert self.model is not None
        whole = FullStateDictConfig(offload_to_cpu=False, rank0_only=True)
        with FullyShardedDataParallel.state_dict_type(self.model, StateDictType.FULL_STATE_DICT, whole):
            state: dict[str, Any] = self.model.state_dict()
        return state

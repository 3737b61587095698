"""What learns: networks, their average, the optimiser, and one step of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from siamkd_core.distributed import rank, share_batch_norm, size, total
from siamkd_core.engine_config import EngineConfig
from siamkd_core.freeze import Frozen, check_layers, frozen_layers, set_training
from siamkd_core.task import Batch, Task


def _optimizer(parameters: Iterable[nn.Parameter], config: EngineConfig) -> torch.optim.Optimizer:
    lr, decay = config.lr, config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay)


class Learner:
    """State of the optimisation.

    Args:
        config: of the run.
        task: its networks are moved to ``device``.
        device: of this process.
        dtype: that the task computes in; float16 needs scaled gradients.

    Raises:
        ConfigError: a frozen layer that does not exist.
    """

    def __init__(
        self, config: EngineConfig, task: Task, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.task, self.device = config, task, device
        check_layers(task.networks, config.freeze)
        networks = task.networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks: nn.ModuleDict = share_batch_norm(networks, device)
        self.average = (
            AveragedModel(
                self.networks, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
            if config.ema
            else None
        )
        self.optimizer = _optimizer(self.networks.parameters(), config)
        # float16 gradients underflow without a scale; bfloat16 and float32 do not need one
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._frozen: Frozen | None = None
        self._losses: nn.Module

    @property
    def models(self) -> nn.ModuleDict:
        """The networks that are validated and saved: the averages where they are kept."""
        return self.networks if self.average is None else cast(nn.ModuleDict, self.average.module)

    def start_epoch(self, epoch: int) -> None:
        """Training mode, with the layers frozen that this epoch freezes; the task is told too."""
        self.task.start_epoch(epoch)
        frozen = frozen_layers(self.config.freeze, epoch)
        set_training(self.networks, frozen)
        if frozen != self._frozen:
            # DistributedDataParallel takes note of what learns when it is made
            self._losses = self._wrap()
            self._frozen = frozen

    def step(self, batch: Batch, step: int, lr: float) -> dict[str, float]:
        """Learn from a batch; its losses, the means over all processes.

        Args:
            batch: this process's rows.
            step: number of the step in the run; with the seed it decides what is random in it, so
                that a resumed run draws what an unbroken one draws.
            lr: learning rate.
        """
        self._seed(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batch = {name: rows.to(self.device, non_blocking=True) for name, rows in batch.items()}
        losses: dict[str, Tensor] = self._losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses["loss"]).backward()
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            for network in self.networks.values():
                nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.networks)
        values = torch.stack([value.detach().float() for value in losses.values()])
        return dict(zip(losses, (total(values) / size()).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """All that a later step depends on."""
        return {
            "networks": self.networks.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.networks.load_state_dict(state["networks"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _wrap(self) -> nn.Module:
        losses: nn.Module = _Losses(self.task, self.networks)
        if size() > 1:
            losses = DistributedDataParallel(losses)
        return cast(nn.Module, torch.compile(losses)) if self.config.compile else losses

    def _seed(self, step: int) -> None:
        seed = np.random.SeedSequence((self.config.seed, step, rank())).generate_state(1)[0]
        # not torch.manual_seed: it formats a stack trace for every backend that is not there
        torch.default_generator.manual_seed(int(seed))
        if self.device.type == "cuda":
            torch.cuda.manual_seed(int(seed))


class _Losses(nn.Module):
    """The task's losses as the forward pass of a module, which DistributedDataParallel needs."""

    def __init__(self, task: Task, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.task = task
        self.networks = networks

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.losses(self.networks, batch)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's state on the CPU."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }

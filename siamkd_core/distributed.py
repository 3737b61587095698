"""Several processes as one: who they are, and sums and statistics over the global batch.

``torchrun`` starts the processes; every function here also holds for a single one, where it costs
nothing. Process ``r`` of ``n`` has rows ``r * B/n .. (r + 1) * B/n - 1`` of a global batch of B.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from siamkd_core.device import resolve_device

T = TypeVar("T")
# The others wait while the first process writes, or while one tracks a longer sequence.
PATIENCE = timedelta(hours=1)


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, if it did, and yield this one's device; within
    another ``joined`` only the latter.

    ``auto`` and ``cuda`` mean the GPU of this process's number on its machine. They talk through
    NCCL on GPUs and Gloo on CPUs.

    Raises:
        ConfigError: a device that is not there.
    """
    place = resolve_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield place
        return
    if str(place) == "cuda":
        place = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
    if dist.is_initialized():
        yield place
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield place
    finally:
        # what still refers to the group in a cycle would be torn down after the interpreter, where
        # a thread of it that is left aborts the process
        gc.collect()
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0; number 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` returns in the first process; the others do not call it."""
    if size() == 1:
        return make()
    box: list[Any] = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, src=0)
    made: T = box[0]
    return made


def total(values: Tensor) -> Tensor:
    """Sum over the processes, element by element; gradients flow back to each of them."""
    if size() == 1:
        return values
    summed: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return summed


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in at least one process; the same answer in all of them."""
    return bool(total(torch.tensor(float(flag), device=device)) > 0)


def predecessors(rows: Tensor) -> Tensor:
    """For each row of this process, the row before it in the global batch; the first one's
    predecessor is the last. (n, ...) -> (n, ...)"""
    if size() == 1:
        return rows.roll(1, 0)
    count, first = len(rows), rank() * len(rows)
    # disjoint rows summed up: a gather that gradients flow through
    mine = F.pad(rows.reshape(count, -1), (0, 0, first, (size() - 1) * count - first))
    return total(mine).roll(1, 0)[first : first + count].view_as(rows)


def share_of_mean(values: Tensor, mask: Tensor) -> Tensor:
    """This process's part of the mean of the ``values`` (n,) where ``mask`` (n,) is 1, taken over
    the global batch: the average over the processes is that mean, 0 where no row counts."""
    count = total(mask.sum()).clamp(min=1)
    return size() * (values * mask).sum() / count


class _Sum(torch.autograd.Function):
    # every process's loss depends on the sum, so the gradients are summed as well
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with the statistics of the global batch, for CPUs, where torch's SyncBatchNorm
    raises an error. The processes must hold equally many values."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        mean = total(x.mean((0, 2, 3), keepdim=True)) / size()
        variance = total((x - mean).square().mean((0, 2, 3), keepdim=True)) / size()
        if self.running_mean is not None and self.running_var is not None:
            count = size() * x.numel() // x.shape[1]
            momentum = self.momentum
            assert momentum is not None, "a cumulative average is not implemented"
            with torch.no_grad():
                self.running_mean.lerp_(mean.flatten(), momentum)
                self.running_var.lerp_(variance.flatten() * count / (count - 1), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        out = (x - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)


def share_batch_norm(networks: nn.ModuleDict, device: torch.device) -> nn.ModuleDict:
    """With several processes, let every BatchNorm see the global batch; names and state stay."""
    if size() == 1:
        return networks
    if device.type == "cuda":
        converted: nn.ModuleDict = nn.SyncBatchNorm.convert_sync_batchnorm(networks)
        return converted
    for parent in list(networks.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                shared = GlobalBatchNorm2d(
                    child.num_features, child.eps, child.momentum, child.affine
                )
                shared.load_state_dict(child.state_dict())
                setattr(parent, name, shared)
    return networks

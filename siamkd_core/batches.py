"""The order of the data: which samples a step takes, and the workers that make them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from siamkd_core.distributed import rank, size
from siamkd_core.engine_config import EngineConfig
from siamkd_core.interrupt import ignore_signals
from siamkd_core.task import Batch, Task


class StepSampler:
    """Numbers of the samples of each step from ``first`` on: this process's rows of each batch."""

    def __init__(self, config: EngineConfig, first: int) -> None:
        self.batch, self.first, self.last = config.batch_size, first, config.steps

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // size()
        for step in range(self.first, self.last):
            start = step * self.batch + rank() * share
            yield list(range(start, start + share))


def load_batches(
    config: EngineConfig, task: Task, device: torch.device, first: int
) -> Generator[Batch, None, None]:
    """This process's rows of the batch of each step, from step ``first`` to the end of the run.

    A generator: closing it ends the workers, whoever still holds it. They ignore SIGTERM, so an
    interpreter that ends before them would wait for them for ever.
    """
    loader: DataLoader[Any] = DataLoader(
        task.samples,
        batch_sampler=StepSampler(config, first),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker,
    )
    yield from loader


def _start_worker(number: int) -> None:
    ignore_signals()

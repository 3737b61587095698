"""What a training prints: a bar that moves, and a line per epoch that stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from siamkd_core.checkpoint import RunState
from siamkd_core.distributed import rank
from siamkd_core.engine_config import EngineConfig


class Display:
    """Made by :func:`show`."""

    def __init__(self, bar: Progress, config: EngineConfig, step: int) -> None:
        self._bar = bar
        epoch = min(step // config.steps_per_epoch + 1, config.epochs)
        self._task = bar.add_task(
            "train", total=config.steps, completed=step, epoch=epoch, loss=math.nan, speed=0.0
        )

    def step(self, epoch: int, step: int, loss: float, speed: float) -> None:
        """Epoch counted from 0, finished steps, mean loss of the epoch so far, pairs per second."""
        self._bar.update(self._task, completed=step, epoch=epoch + 1, loss=loss, speed=speed)

    def epoch(self, row: Mapping[str, float], improved: bool) -> None:
        """The figures of a finished epoch."""
        if self._bar.disable:
            return
        left_out = ("epoch", "step", "seconds")
        shown = "  ".join(f"{key} {row[key]:.4g}" for key in row if key not in left_out)
        best = "  (best so far)" if improved else ""
        self._bar.console.print(
            f"epoch {row['epoch']}: {shown}{best}", highlight=False, soft_wrap=True
        )


@contextmanager
def show(config: EngineConfig, run: RunState) -> Iterator[Display]:
    """The display of the first process; those of the others stay silent."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(config.epochs)),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:.1f} pairs/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=rank() > 0) as bar:
        yield Display(bar, config, run.step)

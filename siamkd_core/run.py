"""A run from a recipe: the processes, the task and the engine; and a dry one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from siamkd_core.device import resolve_precision, short
from siamkd_core.distributed import joined, rank, size
from siamkd_core.engine import fit
from siamkd_core.modelfile import load_model
from siamkd_core.recipe import RecipeConfig
from siamkd_core.schedule import ScheduleConfig
from siamkd_core.task import Task

C = TypeVar("C", bound=RecipeConfig)
TaskOf = Callable[[C, Path, torch.device, torch.dtype, str], Task]
"""What makes a task of recipe, data folder, device, precision and the code's commit."""


def run(
    task_of: TaskOf[C],
    config: C,
    data: str | Path,
    output: str | Path,
    device: str = "auto",
    precision: str = "auto",
    commit: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Train, or go on where ``output`` holds a checkpoint, and return the model files' paths.

    A run that was interrupted at any time goes on at its last checkpoint, with the pairs that come
    after it; on the same machine it ends with the same weights. Under ``torchrun`` every process
    calls this.

    Args:
        task_of: see :data:`TaskOf`.
        config: the recipe.
        data: folder that ``config.pairs.sources`` are found in.
        output: folder of the run, see :mod:`siamkd_core.runfolder`.
        device, precision: see :mod:`siamkd_core.device`.
        commit: of the code, for the card.
        stop: asked before the first step and after each one; once true, a checkpoint is written
            where there is something new, and KeyboardInterrupt raised.

    Raises:
        SiamkdError: bad data or configuration, a checkpoint of another configuration, precision or
            start, a loss that is not finite or a full disk (the last checkpoint stays).
    """
    with joined(device) as place:
        dtype = resolve_precision(precision, place)
        task = task_of(config, Path(data), place, dtype, commit)
        facts = {
            "commit": commit,
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
            "precision": short(dtype),
            "processes": size(),
        }
        return fit(config, task, Path(output), place, dtype, facts, stop)


def dry_run(task_of: TaskOf[C], config: C, data: str | Path, device: str, precision: str) -> None:
    """Two steps of everything a run does, in a temporary folder: a step, checkpoint, interruption,
    resume, another step, both validations, the model files and their loading.

    Raises:
        SiamkdError: what the run itself would raise.
    """
    short_config = shortened(config)
    with joined(device), tempfile.TemporaryDirectory(prefix="siamkd-dry-run-") as folder:
        asked: list[bool] = []

        def stop() -> bool:
            """After the first step."""
            asked.append(True)
            return len(asked) > 1

        try:
            run(task_of, short_config, data, folder, device, precision, stop=stop)
        except KeyboardInterrupt:
            if len(asked) < 2:  # a real Ctrl-C
                raise
            models = run(task_of, short_config, data, folder, device, precision)
            if rank() == 0:
                for model in models:
                    load_model(model)


def shortened(config: C) -> C:
    """The recipe with an epoch a step, and all that it does in a few of them."""
    schedule = ScheduleConfig(
        config.schedule.kind,
        min(config.schedule.warmup_epochs, 1),
        (2,) if config.schedule.milestones else (),
    )
    return replace(
        config,
        epochs=4 if schedule.milestones else 2,
        pairs_per_epoch=config.batch_size,
        schedule=schedule,
        freeze=tuple(replace(phase, until_epoch=1) for phase in config.freeze),
        validation_pairs=min(config.validation_pairs, 2),
        tracking_every=min(config.tracking_every, 1),
        tracking_frames=3,
    )

"""The training loop: steps, checkpoints, validation, curves, the model of the best epoch.

What is trained is a :class:`siamkd_core.task.Task`; how a step learns is
:class:`siamkd_core.learner.Learner`. With several processes each of them runs this loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from siamkd_core.batches import load_batches
from siamkd_core.checkpoint import Best, RunState, load_checkpoint
from siamkd_core.device import short
from siamkd_core.display import Display, show
from siamkd_core.distributed import any_process, from_first, rank, size
from siamkd_core.engine_config import EngineConfig
from siamkd_core.errors import ConfigError, DivergedError, SiamkdError
from siamkd_core.learner import Learner, weights_of
from siamkd_core.runfolder import RunFolder
from siamkd_core.schedule import learning_rate
from siamkd_core.task import Batch, Task, Validation

LOG_EVERY = 20
"""Steps between two points of the loss curve in TensorBoard."""
RULE = (
    "the epoch with the highest score of the validation, the earliest of equal ones; "
    "the last epoch where none is scored"
)
"""How the best epoch of a network is chosen."""


def fit(
    config: EngineConfig,
    task: Task,
    output: Path,
    device: torch.device,
    dtype: torch.dtype,
    facts: Mapping[str, Any],
    stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Train, or go on where ``output`` holds a checkpoint, and return the model files' paths.

    Args:
        config: of the run; only keys in :data:`siamkd_core.engine_config.NEUTRAL` may differ from
            those of the checkpoint.
        task: what is trained.
        output: folder of the run, see :mod:`siamkd_core.runfolder`; the first process writes it.
        device, dtype: where and in which precision the task computes.
        facts: of this start, for ``environment.json``.
        stop: asked before the first step and after each one; once true, a checkpoint is written
            where there is something new, and the run ends.

    Raises:
        SiamkdError: a checkpoint of another configuration or precision, or of networks that began
            as others, a loss that is not finite, or a folder that cannot be written; the last
            checkpoint stays.
        KeyboardInterrupt: ``stop`` was true.
    """
    if config.batch_size % size():
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared by {size()} processes; it is the "
            "number of pairs over all of them, so choose a multiple"
        )
    learner = Learner(config, task, device, dtype)
    setting = {"precision": short(dtype), **{f"start of {k}": v for k, v in task.starts.items()}}
    stored = from_first(lambda: load_checkpoint(output, config, setting))
    run, learned = stored or (RunState(), None)
    models = from_first(lambda: [task.saved(name, output) for name in task.networks])
    there = [path for path in models if path is not None]
    # of a finished run; their cards may hold tuning, calibration and scores by now
    kept = dict(zip(task.networks, models, strict=True)) if run.step == config.steps else {}
    if kept and None not in kept.values():
        return there
    if stored is None and there:
        raise SiamkdError(
            f"{output} holds {', '.join(p.name for p in there)} of an earlier run, but no "
            "checkpoint to go on from: choose another --output, or move the model away to start "
            "again"
        )
    if learned is not None:
        learner.load_state_dict(learned)
    if any_process(stop(), device):
        raise KeyboardInterrupt(f"stopped at step {run.step}; the same command goes on from there")
    folder = RunFolder(output, config, setting, facts, run) if rank() == 0 else None
    try:
        batches = load_batches(config, task, device, run.step)
        with closing(batches), show(config, run) as display:
            _run(config, task, learner, batches, run, folder, display, stop)
        return [
            kept.get(name) or _save_model(task, name, best, config, folder)
            for name, best in run.best.items()
        ]
    finally:
        if folder is not None:
            folder.close()


def _run(
    config: EngineConfig,
    task: Task,
    learner: Learner,
    batches: Iterator[Batch],
    run: RunState,
    folder: RunFolder | None,
    display: Display,
    stop: Callable[[], bool],
) -> None:
    """The loop itself; ``folder`` is None in all processes but the first."""
    per_epoch = config.steps_per_epoch
    for epoch in range(run.step // per_epoch, config.epochs):
        learner.start_epoch(epoch)
        started, first_step, end = time.perf_counter(), run.step, (epoch + 1) * per_epoch
        for step in range(first_step, end):
            lr = learning_rate(
                config.schedule, config.lr, config.lr_end, config.epochs, step, per_epoch
            )
            losses = learner.step(next(batches), step, lr)
            _check(losses, step, folder)
            run.step += 1
            for name, value in losses.items():
                run.totals[name] = run.totals.get(name, 0.0) + value
            seconds = time.perf_counter() - started
            speed = (run.step - first_step) * config.batch_size / seconds
            mean = run.totals["loss"] / (run.step - epoch * per_epoch)
            display.step(epoch, run.step, mean, speed)
            if folder is not None and step % LOG_EVERY == 0:
                folder.log({"loss/train": losses["loss"]}, run.step)
            if run.step == end:
                break  # validated and saved below
            stopping = any_process(stop(), learner.device)
            due = config.checkpoint_every and run.step % config.checkpoint_every == 0
            if folder is not None and (stopping or due):
                folder.save(run, learner.state_dict())
            if stopping:
                raise _interrupted(run.step)
        with torch.no_grad():
            validation = task.validate(learner.models.eval(), epoch)
        run.history.append(
            {
                "epoch": epoch + 1,
                "step": run.step,
                **_mean_losses(run.totals, per_epoch),
                "lr": lr,
                **validation.metrics,
                "pairs_per_second": speed,
                "seconds": time.perf_counter() - started,
            }
        )
        run.totals = {}
        improved = _note_best(run, learner, validation, epoch)
        display.epoch(run.history[-1], bool(improved and validation.scores))
        if folder is not None:
            folder.finish_epoch(run, learner.state_dict(), bool(improved))
        if run.step < config.steps and any_process(stop(), learner.device):
            raise _interrupted(run.step)


def _interrupted(step: int) -> KeyboardInterrupt:
    return KeyboardInterrupt(
        f"stopped after step {step}, with a checkpoint; the same command goes on from there"
    )


def _check(losses: Mapping[str, float], step: int, folder: RunFolder | None) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            kept = (
                f"the checkpoint of step {folder.saved} is intact; "
                if folder and folder.saved
                else ""
            )
            raise DivergedError(
                f"{name} became {value} in step {step}; {kept}lower lr or set clip_norm (or "
                "--precision float32), and start again with another --output"
            )


def _mean_losses(totals: Mapping[str, float], steps: int) -> dict[str, float]:
    names = {name: "loss/epoch" if name == "loss" else f"loss/{name}" for name in totals}
    return {names[name]: value / steps for name, value in totals.items()}


def _note_best(run: RunState, learner: Learner, validation: Validation, epoch: int) -> list[str]:
    """Remember the weights of the networks for which RULE prefers this epoch; their names."""
    improved = []
    for name, network in learner.models.items():
        score, before = validation.scores.get(name), run.best.get(name)
        if before is None or before.score is None:
            better = True
        else:
            better = score is not None and score > before.score
        if better:
            run.best[name] = Best(epoch + 1, score, weights_of(network))
            improved.append(name)
    return improved


def _save_model(
    task: Task, name: str, best: Best, config: EngineConfig, folder: RunFolder | None
) -> Path:
    chosen = {"epoch": best.epoch, "epochs": config.epochs, "score": best.score, "rule": RULE}
    facts = {"best_epoch": chosen, "processes": size()}

    def save() -> Path:
        assert folder is not None, "the first process has the folder"
        with folder.writing():
            return task.save(name, best.weights, facts, folder.path)

    return from_first(save)

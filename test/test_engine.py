"""The training loop on a toy task: it resumes exactly, it stops cleanly, it keeps the best."""

import csv
import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import default_collate
from toy_training import CONFIG, Samples, ToyTask, train_toy

from siamkd_core import runfolder
from siamkd_core.checkpoint import BEST, LAST, RunState, load_checkpoint, save_checkpoint
from siamkd_core.config import load_yaml
from siamkd_core.engine_config import EngineConfig
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.freeze import FreezeConfig
from siamkd_core.interrupt import stop_on_signals
from siamkd_core.learner import Learner

STEPS = CONFIG.steps
CURVES = runfolder.curves


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    # drawing takes a hundred times longer than the training
    monkeypatch.setattr(runfolder, "curves", lambda history: b"")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights of a run that nothing disturbs."""
    return [load_file(path) for path in train_toy(tmp_path_factory.mktemp("whole"))]


def equal(models, weights):
    return all(
        torch.equal(value, before[name])
        for path, before in zip(models, weights, strict=True)
        for name, value in load_file(path).items()
    )


def step_of(folder):
    return torch.load(folder / LAST, weights_only=True)["run"]["step"]


class Broken(Exception):
    pass


@pytest.mark.parametrize("fatal", range(STEPS))
def test_a_run_that_breaks_in_any_step_ends_with_the_same_weights(tmp_path, whole, fatal):
    def fail(step):
        if step == fatal:
            raise Broken

    with pytest.raises(Broken):
        train_toy(tmp_path, task=ToyTask(on_step=fail))
    assert equal(train_toy(tmp_path), whole)


def test_a_run_that_is_killed_ends_with_the_same_weights(tmp_path, whole):
    script = Path(__file__).with_name("toy_training.py")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    command = [sys.executable, str(script), str(tmp_path), "7"]
    killed = subprocess.run(command, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert step_of(tmp_path) == 6  # in the middle of the second epoch
    assert equal(train_toy(tmp_path), whole)


def test_each_step_takes_its_own_numbers(tmp_path):
    task = ToyTask()
    train_toy(tmp_path, replace(CONFIG, epochs=1), task)
    seen, samples = torch.cat(task.seen), Samples(4)
    assert len(seen) == 16
    assert all(torch.equal(seen[k], samples[k]["x"]) for k in range(16))


def test_a_task_is_told_the_epoch_of_its_next_step(tmp_path):
    first, second = ToyTask(), ToyTask()
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path, task=first, stop=lambda: first.steps == 6)
    train_toy(tmp_path, task=second)
    assert (first.epochs, second.epochs) == ([0, 1], [1, 2])


def test_a_signal_ends_the_step_and_writes_a_checkpoint(tmp_path, whole):
    for number, at, done in ((signal.SIGTERM, 4, 5), (signal.SIGINT, 2, 8)):

        def send(step, number=number, at=at):
            if step == at:
                os.kill(os.getpid(), number)

        before = signal.getsignal(number)
        with stop_on_signals() as stop, pytest.raises(KeyboardInterrupt, match=f"step {done}"):
            train_toy(tmp_path, task=ToyTask(on_step=send), stop=stop)
        assert signal.getsignal(number) == before
        assert step_of(tmp_path) == done
    assert equal(train_toy(tmp_path), whole)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path, whole):
    poison = ToyTask(on_step=lambda step: float("nan") if step == 8 else 1.0)
    with pytest.raises(SiamkdError, match=r"loss became nan in step 8; .* step 8 is intact"):
        train_toy(tmp_path, task=poison)
    assert step_of(tmp_path) == 8
    assert equal(train_toy(tmp_path), whole)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    good = {"networks": {"a.weight": torch.ones(2)}, "average": None}
    save_checkpoint(tmp_path, CONFIG, {}, RunState(step=3), good)
    bad = {"networks": {"a.weight": torch.tensor([1.0, float("inf")])}, "average": None}
    with pytest.raises(SiamkdError, match=r"networks\.a\.weight is not finite after step 6"):
        save_checkpoint(tmp_path, CONFIG, {}, RunState(step=6), bad)
    run, learner = load_checkpoint(tmp_path, CONFIG, {})
    assert run == RunState(step=3)
    assert torch.equal(learner["networks"]["a.weight"], torch.ones(2))


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, whole):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))

    try:
        with pytest.raises(SiamkdError, match=r"cannot write to .*step 4 is intact: make room"):
            train_toy(tmp_path, task=ToyTask(on_step=fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert step_of(tmp_path) == 4
    assert not list(tmp_path.glob("*.part"))
    assert equal(train_toy(tmp_path), whole)


def test_a_disk_that_is_full_when_the_model_is_written_costs_nothing(tmp_path, whole):
    task = ToyTask()

    def save(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    task.save = save
    with pytest.raises(SiamkdError, match=r"No space left on device; .* step 12 is intact"):
        train_toy(tmp_path, task=task)
    (tmp_path / BEST).unlink()
    assert equal(train_toy(tmp_path), whole)
    assert (tmp_path / BEST).is_file()


def test_the_best_epoch_of_each_network_is_its_model(tmp_path):
    task = ToyTask(scores=(0.5, 0.7, 0.7))
    seen = []
    original = task.validate

    def validate(networks, epoch):
        seen.append({n: m[0].weight.detach().clone() for n, m in networks.items()})
        return original(networks, epoch)

    task.validate = validate
    models = train_toy(tmp_path, task=task)
    # a scores 0.5 0.7 0.7: the earlier of the equal ones; b scores -0.5 -0.7 -0.7: the first
    for path, name, epoch in zip(models, "ab", (2, 1), strict=True):
        assert torch.equal(load_file(path)["0.weight"], seen[epoch - 1][name])
        with safe_open(path, "pt") as file:
            assert f"'epoch': {epoch}, 'epochs': 3" in file.metadata()["best"]
    best = torch.load(tmp_path / BEST, weights_only=True)["best"]
    assert (best["a"]["epoch"], best["b"]["score"]) == (2, -0.5)


def test_epochs_without_a_score_never_beat_one_with_a_score(tmp_path):
    train_toy(tmp_path, task=ToyTask(scores=(None, 0.1, None)))
    best = torch.load(tmp_path / BEST, weights_only=True)["best"]
    assert best["a"]["epoch"] == 2


def test_the_folder_tells_what_ran_and_what_came_out(tmp_path, monkeypatch):
    monkeypatch.setattr(runfolder, "curves", CURVES)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = []
    task = ToyTask()
    original = task.losses

    def note(networks, batch):
        found = original(networks, batch)
        losses.append(float(found["loss"].detach()))
        return found

    task.losses = note
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path, task=task, stop=lambda: len(losses) == 6)
    second = ToyTask()
    second.losses, original = note, second.losses
    train_toy(tmp_path, task=second)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    means = [sum(losses[n : n + 4]) / 4 for n in (0, 4, 8)]
    assert [float(row["loss/epoch"]) for row in rows] == pytest.approx(means)
    sums = [float(row["loss/a"]) + float(row["loss/b"]) for row in rows]
    assert sums == pytest.approx(means)
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1**1.5, 0.01])
    assert load_yaml(EngineConfig, tmp_path / "config.yaml") == CONFIG
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, 6]
    assert starts[0]["torch"] == torch.__version__
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("loss/epoch")] == pytest.approx(means)


def test_a_finished_run_is_not_touched(tmp_path):
    train_toy(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    train_toy(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def after_the_first_step():
    """The engine asks before it and after it."""
    return iter([False, True]).__next__


def test_a_signal_before_the_first_step_is_heard_before_it(tmp_path, whole):
    task = ToyTask()
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 0; .* goes on from there"):
        train_toy(tmp_path, task=task, stop=lambda: True)
    assert task.steps == 0
    assert equal(train_toy(tmp_path), whole)


def test_a_finished_run_writes_the_model_that_is_missing_and_no_other(tmp_path, whole):
    a, b = train_toy(tmp_path)
    b.write_bytes(b"tuned since")
    a.unlink()
    assert train_toy(tmp_path) == [a, b]
    assert b.read_bytes() == b"tuned since"
    assert equal([a, a], [whole[0], whole[0]])


def test_a_run_goes_on_in_its_precision_only(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path, stop=after_the_first_step())
    with pytest.raises(SiamkdError, match=r"another precision: float32, now float16; go on with"):
        train_toy(tmp_path, dtype=torch.float16)
    assert equal(train_toy(tmp_path), whole)
    # nothing of a finished one is computed any more
    assert equal(train_toy(tmp_path, dtype=torch.bfloat16), whole)


def test_a_run_goes_on_with_networks_that_began_as_its_own_only(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path, task=ToyTask(starts={"a": "5dd9"}), stop=after_the_first_step())
    with pytest.raises(SiamkdError, match=r"another start of a: 5dd9, now 2cbf; go on with that"):
        train_toy(tmp_path, task=ToyTask(starts={"a": "2cbf"}))
    with pytest.raises(SiamkdError, match=r"another start of a: 5dd9, now none"):
        train_toy(tmp_path)
    assert equal(train_toy(tmp_path, task=ToyTask(starts={"a": "5dd9"})), whole)


def test_only_keys_that_no_weight_depends_on_may_change(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path, stop=after_the_first_step())
    for change in ({"seed": 5}, {"lr": 0.2}, {"epochs": 9}):
        with pytest.raises(SiamkdError, match=rf"changed: {next(iter(change))}\)"):
            train_toy(tmp_path, replace(CONFIG, **change))
    assert equal(train_toy(tmp_path, replace(CONFIG, checkpoint_every=0)), whole)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(SiamkdError, match="cannot be read"):
        train_toy(tmp_path)
    torch.save({"epochs_done": 3}, tmp_path / LAST)
    with pytest.raises(SiamkdError, match="another version"):
        train_toy(tmp_path)


def test_clipping_bounds_each_networks_step(tmp_path):
    plain = replace(CONFIG, epochs=1, pairs_per_epoch=4, ema=0.0, lr=1.0, lr_end=1.0, momentum=0.0)
    plain = replace(plain, weight_decay=0.0)
    before = {n: list(map(torch.clone, m.parameters())) for n, m in ToyTask().networks.items()}

    def change(config, folder):
        moved = []
        for path, start in zip(train_toy(folder, config), before.values(), strict=True):
            names = [n for n, _ in ToyTask().networks["a"].named_parameters()]
            loaded = load_file(path)
            squares = [
                ((loaded[n] - s.detach()) ** 2).sum() for n, s in zip(names, start, strict=True)
            ]
            moved.append(float(sum(squares)) ** 0.5)
        return moved

    free = change(plain, tmp_path / "free")
    limit = min(free) / 3
    clipped = change(replace(plain, clip_norm=limit), tmp_path / "clipped")
    assert clipped == pytest.approx([limit, limit], rel=1e-3)


def test_adamw_takes_the_published_step(tmp_path):
    told = replace(CONFIG, optimizer="adamw", lr=0.05, lr_end=0.05, weight_decay=0.1, ema=0.0)
    task = ToyTask()
    learner = Learner(told, task, torch.device("cpu"), torch.float32)
    learner.start_epoch(0)
    weights = list(task.networks.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in weights]
    for step in range(3):
        before = [p.detach().clone() for p in weights]
        learner.step(default_collate([task.samples[n] for n in range(4)]), step, 0.05)
        for n, (p, old) in enumerate(zip(weights, before, strict=True)):
            mean, square = moments[n]
            mean = 0.9 * mean + 0.1 * p.grad
            square = 0.999 * square + 0.001 * p.grad**2
            moments[n] = mean, square
            slope = mean / (1 - 0.9 ** (step + 1))
            size = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            expected = old * (1 - 0.05 * 0.1) - 0.05 * slope / size
            assert torch.allclose(p, expected, atol=1e-6)
    # an interrupted run ends with the same weights
    told = replace(told, lr_end=0.01)
    whole = train_toy(tmp_path / "whole", told)
    stopped = iter([False] * 5 + [True] * 99)
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path / "cut", told, stop=lambda: next(stopped))
    assert equal(train_toy(tmp_path / "cut", told), [load_file(path) for path in whole])
    with pytest.raises(ConfigError, match="optimizer is one of sgd, adamw"):
        replace(CONFIG, optimizer="lion")


def test_no_worker_outlives_the_run(tmp_path):
    # a worker left over would keep the interpreter from ending: it ignores SIGTERM
    task = ToyTask()
    held = []
    original = task.validate

    def validate(networks, epoch):
        held.append(sys._getframe(1))  # as an exception's traceback would
        return original(networks, epoch)

    task.validate = validate
    train_toy(tmp_path, replace(CONFIG, workers=2), task)
    assert held and multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("statistics_only", "same"), [(False, [True, True, False]), (True, [False, False, False])]
)
def test_frozen_layers_stay_until_their_epoch(tmp_path, statistics_only, same):
    task = ToyTask()
    start = task.networks["a"][0].weight.detach().clone()
    seen = []
    original = task.validate

    def validate(networks, epoch):
        a = networks["a"]
        seen.append((torch.equal(a[0].weight, start), float(a[1].running_mean.abs().sum()) > 0))
        return original(networks, epoch)

    task.validate = validate
    phase = FreezeConfig(("0", "1"), until_epoch=2, statistics_only=statistics_only)
    train_toy(tmp_path, replace(CONFIG, freeze=(phase,), ema=0.0), task)
    assert seen == list(zip(same, [False, False, True], strict=True))


def test_freezing_refuses_what_makes_no_sense(tmp_path):
    for layers, message in ((("7",), "no layer 7; there are: 0, 1"), (("0", "1", "4"), "left")):
        with pytest.raises(ConfigError, match=message):
            train_toy(tmp_path, replace(CONFIG, freeze=(FreezeConfig(layers, 1),)))

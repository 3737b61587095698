"""A task of a few weights, to train in milliseconds; with dropout, BatchNorm and two networks.

Run as a script it trains in a folder and kills its process at a step:

    python toy_training.py FOLDER STEP
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from siamkd_core.engine import fit
from siamkd_core.engine_config import EngineConfig
from siamkd_core.task import Validation

CONFIG = EngineConfig(
    epochs=3,
    pairs_per_epoch=16,
    batch_size=4,
    lr=0.1,
    lr_end=0.01,
    ema=0.6,
    checkpoint_every=3,
    workers=0,
    seed=4,
)


class Samples(torch.utils.data.Dataset):
    def __init__(self, seed):
        self.seed = seed

    def __len__(self):
        return 10**6

    def __getitem__(self, number):
        rng = np.random.default_rng((self.seed, number))
        x = torch.from_numpy(rng.normal(size=(2, 4, 4)).astype(np.float32))
        return {"x": x, "y": x.mean()}


def network():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Flatten(), nn.Linear(12, 1)
    )


class ToyTask:
    """Two students of one target. ``on_step(number)`` is called in each step; ``scores`` are those
    of the epochs, None: not scored. ``starts``: see the protocol."""

    def __init__(self, seed=4, on_step=lambda step: None, scores=(None,) * 99, starts=()):
        torch.manual_seed(seed)
        self.starts = dict(starts)
        self.networks = nn.ModuleDict({"a": network(), "b": network()})
        self.samples = Samples(seed)
        self.on_step, self.scores, self.steps = on_step, scores, 0
        self.seen, self.epochs = [], []

    def start_epoch(self, epoch):
        self.epochs.append(epoch)

    def losses(self, networks, batch):
        self.seen.append(batch["x"])
        factor = self.on_step(self.steps)
        self.steps += 1
        parts = {
            name: (one(batch["x"]).squeeze(1) - batch["y"]).square().mean()
            for name, one in networks.items()
        }
        return {"loss": sum(parts.values()) * (1.0 if factor is None else factor), **parts}

    def validate(self, networks, epoch):
        assert not any(module.training for module in networks.modules())
        score = self.scores[epoch]
        if score is None:
            return Validation({"mean/a": float(networks["a"][0].weight.mean())})
        return Validation({"iou/a": score}, {"a": score, "b": -score})

    def saved(self, name, folder):
        path = Path(folder) / f"{name}.safetensors"
        return path if path.is_file() else None

    def save(self, name, weights, facts, folder):
        path = Path(folder) / f"{name}.safetensors"
        save_file(dict(weights), path, {"best": str(facts["best_epoch"])})
        return path


def train_toy(folder, config=CONFIG, task=None, dtype=torch.float32, **options):
    task = task or ToyTask(config.seed)
    return fit(config, task, Path(folder), torch.device("cpu"), dtype, {}, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    fatal = int(sys.argv[2])

    def kill(step):
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    train_toy(sys.argv[1], task=ToyTask(on_step=kill))

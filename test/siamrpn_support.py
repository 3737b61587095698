"""Distillation of a SiamRPN: a small recipe, and a batch through it."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import default_collate
from training_support import TRACKS

from siamkd_core.config import to_mapping
from siamkd_core.distill import DistillTask
from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.losses.rpn_soft import Predictions
from siamkd_core.siamrpn import HeadConfig

CPU = torch.device("cpu")
RECIPES = Path(__file__).parent.parent / "config" / "distill"
BETA = 1 / 9
PAIRS = replace(TRACKS, negative=0.3)
# another backbone, and another kind of head than the teacher's
DULL = StudentConfig(
    "dull", (4, 2, 4, 4, 3), "efficientnet", head=HeadConfig("depthwise", 4), share=1.0
)
INTELLIGENT = StudentConfig("intelligent", (4, 6, 6, 6, 4), head=HeadConfig("upchannel", 5))


def settle(network):
    """Statistics of images, without which fresh weights answer with hundreds."""
    network.train()
    for _ in range(60):
        network(torch.rand(2, 3, 127, 127) * 255, torch.rand(2, 3, 143, 143) * 255)
    return network.eval()


def recipe(teacher):
    """Of two students with other heads and backbones than the teacher's."""
    return DistillConfig(
        teacher=str(teacher),
        students=(DULL, INTELLIGENT),
        pairs=PAIRS,
        epochs=3,
        pairs_per_epoch=16,
        batch_size=4,
        lr=0.02,
        lr_end=0.01,
        clip_norm=10.0,
        workers=0,
    )


def make(config, data):
    return DistillTask(config, data, CPU, torch.float32, "abc")


def batch_of(task, count=4):
    return default_collate([task.samples[k] for k in range(count)])


def gradients(network):
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def outputs(network, batch):
    z, x = (network.embed(batch[key].float()) for key in ("exemplar", "search"))
    response = network.respond(network.kernels(z), x)
    return z, x, Predictions(response[:, 0], response[:, 1:])


def small(values, **changes):
    """A committed recipe, in a few seconds."""
    values |= {"pairs": to_mapping(PAIRS), "epochs": 1, "workers": 0, **changes}
    values |= {"pairs_per_epoch": 8, "validation_pairs": 0, "freeze": []}
    values["schedule"]["warmup_epochs"] = 0
    return values

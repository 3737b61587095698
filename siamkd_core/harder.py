"""What the students of a distillation see harder than their teacher does: a turned exemplar.

The teacher sees the pair as it is, so its answer stays that for an upright target; a student that
gives the same answer for a turned exemplar can follow a target that turns in the image, as all do
where a camera rolls, better than its teacher. Clean pictures for the teacher and noised ones for
the student are those of "Noisy Student" (Xie et al., 2020); for pairs, it is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from siamkd_core.errors import ConfigError
from siamkd_core.task import Batch

STREAM = 0x7475726E
"""Of the random numbers, so that they are not those of the pairs."""


@dataclass(frozen=True)
class HarderConfig:
    """How much harder.

    Attributes:
        turn: degrees in the image plane, uniform in -+turn, by which the students' exemplar is
            turned; 0: not at all.
        share: of the pairs that this is done to.
    """

    turn: float = 0.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.turn <= 180:
            raise ConfigError(f"harder: turn must lie in 0..180 degrees, got {self.turn}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"harder: share must lie in 0..1 (above 0), got {self.share}")


def angles(config: HarderConfig, numbers: Tensor, seed: int) -> Tensor:
    """(N,) float32 degrees by which the exemplars of pairs are turned, 0 for those that are not: a
    function of the seed and a pair's number alone.

    Args:
        config: of the recipe.
        numbers: (N,) int64, of the pairs.
        seed: of the recipe.
    """
    drawn = []
    for number in numbers.tolist():
        rng = np.random.default_rng((seed, number, STREAM))
        chosen = rng.random() < config.share
        drawn.append(rng.uniform(-config.turn, config.turn) if chosen else 0.0)
    return torch.tensor(drawn, dtype=torch.float32, device=numbers.device)


def turned(pictures: Tensor, degrees: Tensor) -> Tensor:
    """Square pictures, turned about their middle; where nothing is known they are mirrored at
    their border.

    Args:
        pictures: (N, C, S, S) uint8.
        degrees: (N,) float32, counter-clockwise as seen; those of 0 come back bit for bit.

    Returns:
        (N, C, S, S) uint8, bilinear.
    """
    which = degrees != 0
    if not which.any():
        return pictures
    angle = torch.deg2rad(degrees[which])
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # from a place of the new picture (x right, y down) to that of the old one which is seen there
    back = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    old = pictures[which].float()
    # in half precision places would be pixels off
    with torch.autocast(old.device.type, enabled=False):
        grid = F.affine_grid(back, list(old.shape), align_corners=False)
        new = F.grid_sample(old, grid, "bilinear", "reflection", align_corners=False)
    result = pictures.clone()
    result[which] = new.round().clamp(0, 255).to(pictures.dtype)
    return result


def harder(batch: Batch, config: HarderConfig, seed: int) -> tuple[Batch, Tensor]:
    """A batch as the students see it, and (N,) float32, 1 for the pairs that they see as the
    teacher does, else 0. ``batch`` stays as it is.

    Args:
        batch: of :class:`siamkd_core.pairs.Pair`.
        config: of the recipe.
        seed: of the recipe.
    """
    if not config.turn:
        return batch, torch.ones(len(batch["number"]), device=batch["number"].device)
    degrees = angles(config, batch["number"], seed)
    seen = {**batch, "exemplar": turned(batch["exemplar"], degrees)}
    return seen, (degrees == 0).float()

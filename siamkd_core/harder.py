"""What the students of a distillation see harder than their teacher does.

The teacher sees a pair as it is, or an exemplar that is easier to know again; a student that
answers the same to a harder one learns what its teacher never did. Clean pictures for the teacher
and noised ones for the student are those of "Noisy Student" (Xie et al., 2020), a teacher that sees
what a student will not have in use is that of "privileged information" (Lopez-Paz et al., 2016);
for pairs, both are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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
        zoom: it is shown larger or smaller by a factor between 1 / (1 + zoom) and 1 + zoom,
            log-uniform, as where a box was drawn too small or too large.
        shift: pixels, uniform in -+shift per axis, by which it is moved, as where a box was drawn
            beside its target.
        share: of the pairs that these are done to.
        twin: the teacher's exemplar is of the search region's own frame, so that it knows the
            target again however much it has changed since the students'.
    """

    turn: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    share: float = 0.5
    twin: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.turn <= 180:
            raise ConfigError(f"harder: turn must lie in 0..180 degrees, got {self.turn}")
        if not 0 <= self.zoom <= 1:
            raise ConfigError(f"harder: zoom must lie in 0..1, got {self.zoom}")
        if not 0 <= self.shift <= 32:
            raise ConfigError(f"harder: shift must lie in 0..32 pixels, got {self.shift}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"harder: share must lie in 0..1 (above 0), got {self.share}")

    @property
    def moves(self) -> bool:
        """Whether students see other exemplars than the pairs'."""
        return bool(self.turn or self.zoom or self.shift)


class Moves(NamedTuple):
    """What is done to the exemplars of a batch; of one that stays as it is 0, 1 and 0, 0.

    Attributes:
        turn: (N,) float32 degrees, counter-clockwise as seen.
        zoom: (N,) float32, how many times larger things are seen.
        shift: (N, 2) float32 pixels, x to the right and y down, by which things are moved.
        chosen: (N,) bool, those that something is done to.
    """

    turn: Tensor
    zoom: Tensor
    shift: Tensor
    chosen: Tensor


def draw(config: HarderConfig, numbers: Tensor, seed: int) -> Moves:
    """What is done to the exemplars of pairs: a function of the seed and a pair's number alone.

    Args:
        config: of the recipe.
        numbers: (N,) int64, of the pairs.
        seed: of the recipe.
    """
    drawn = []
    for number in numbers.tolist():
        rng = np.random.default_rng((seed, number, STREAM))
        row = [0.0, 1.0, 0.0, 0.0, 0.0]
        if config.moves and rng.random() < config.share:
            turn, zoom, x, y = rng.uniform(-1, 1, 4)
            size = (1 + config.zoom) ** zoom
            row = [config.turn * turn, size, config.shift * x, config.shift * y, 1.0]
        drawn.append(row)
    rows = torch.tensor(drawn, dtype=torch.float32, device=numbers.device)
    return Moves(rows[:, 0], rows[:, 1], rows[:, 2:4], rows[:, 4] > 0)


def moved(pictures: Tensor, moves: Moves) -> Tensor:
    """Square pictures, turned about their middle and zoomed there, then shifted; where nothing is
    known they are mirrored at their border.

    Args:
        pictures: (N, C, S, S) uint8.
        moves: what is done to each; those that are not chosen come back bit for bit.

    Returns:
        (N, C, S, S) uint8, bilinear.
    """
    which = moves.chosen
    if not which.any():
        return pictures
    old = pictures[which].float()
    angle = torch.deg2rad(moves.turn[which])
    cos, sin = angle.cos() / moves.zoom[which], angle.sin() / moves.zoom[which]
    # from a place of the new picture (x right, y down, the picture from -1 to 1) to that of the old
    # one which is seen there
    back = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    there = moves.shift[which, :, None] * (2 / pictures.shape[-1])
    theta = torch.cat([back, -back @ there], 2)
    # in half precision places would be pixels off
    with torch.autocast(old.device.type, enabled=False):
        grid = F.affine_grid(theta, list(old.shape), align_corners=False)
        new = F.grid_sample(old, grid, "bilinear", "reflection", align_corners=False)
    result = pictures.clone()
    result[which] = new.round().clamp(0, 255).to(pictures.dtype)
    return result


def harder(batch: Batch, config: HarderConfig, seed: int) -> tuple[Batch, Batch, Tensor]:
    """A batch as the teacher sees it, as the students see it, and (N,) float32, 1 for the pairs
    whose exemplar is the same for both, else 0. ``batch`` stays as it is.

    Args:
        batch: of :class:`siamkd_core.pairs.Pair`, of :class:`siamkd_core.pairs.TwinPair` where
            ``config.twin`` asks for them.
        config: of the recipe.
        seed: of the recipe.
    """
    shown = seen = batch
    alike = torch.ones_like(batch["number"], dtype=torch.bool)
    if config.moves:
        moves = draw(config, batch["number"], seed)
        seen, alike = {**batch, "exemplar": moved(batch["exemplar"], moves)}, ~moves.chosen
    if config.twin:
        shown = {**batch, "exemplar": batch["twin"]}
        alike = alike & (batch["twin"] == batch["exemplar"]).flatten(1).all(1)
    return shown, seen, alike.float()

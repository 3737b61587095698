"""The MobileNetV3-small backbone of NanoTrack V3, a public tracker that can teach ours.

Howard et al., "Searching for MobileNetV3", 2019, up to stride 16, with the strides behind that left
out and 96 channels at the end, as the project (HonglinChu/NanoTrack, Apache-2.0) publishes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Plan(NamedTuple):
    """Of a block.

    Attributes:
        expansion: channels inside for each that enters it; 1: no layer expands them.
        kernel, stride: of the depth-wise convolution.
        excited: whether squeeze and excitation weigh the channels.
        smooth: HardSwish in place of ReLU.
    """

    expansion: float
    kernel: int
    stride: int
    excited: bool
    smooth: bool


BLOCKS = (
    Plan(1, 3, 2, True, False),
    Plan(4.5, 3, 2, False, False),
    Plan(11 / 3, 3, 1, False, False),
    Plan(4, 5, 2, True, True),
    Plan(6, 5, 1, True, True),
    Plan(6, 5, 1, True, True),
    Plan(3, 5, 1, True, True),
    Plan(3, 5, 1, True, True),
    Plan(6, 5, 1, True, True),
)
SLIM_BLOCKS = tuple(
    plan._replace(expansion=expansion)
    for plan, expansion in zip(BLOCKS, (1, 3, 2, 3, 3, 3, 2, 2, 3), strict=True)
)
"""The same with fewer channels inside of the blocks, what :mod:`siamkd_core.prune_mobilenet`
leaves."""
MOBILENET_WIDTHS = (16, 16, 24, 24, 40, 40, 40, 48, 48, 96)
"""Out-channels of NanoTrack V3's stem and blocks."""


class MobileNetV3(nn.Module):
    """(N, 3, H, W) float, BGR 0..255 -> (N, C, ceil(H / 16), ceil(W / 16)).

    Args:
        widths: out-channels of the stem and of each block; behind them there may be the channels
            inside of each block that expands them, in place of the plan's.
        plan: the blocks.

    Attributes:
        channels: C, the last width.
        stride: pixels between two cells.
    """

    def __init__(
        self, widths: Sequence[int] = MOBILENET_WIDTHS, plan: Sequence[Plan] = BLOCKS
    ) -> None:
        expanding = [block.expansion != 1 for block in plan]
        outputs, inner = widths[: len(plan) + 1], widths[len(plan) + 1 :]
        fits = len(outputs) == len(plan) + 1 and len(inner) in (0, sum(expanding))
        if not fits or any(width < 1 for width in widths):
            raise ValueError(
                f"this MobileNetV3 has positive widths of its stem and of {len(plan)} blocks, and "
                f"none or {sum(expanding)} inside of them, got {tuple(widths)}"
            )
        super().__init__()
        self.channels = outputs[-1]
        self.stride = 16
        given = iter(inner)
        inside = [next(given, None) if expands else None for expands in expanding]
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.Hardswish()
        )
        steps = zip(outputs[:-1], outputs[1:], plan, inside, strict=True)
        self.blocks = nn.Sequential(*(Block(*step) for step in steps))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.stem(images))
        return out


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, weigh the channels, project; ``inside`` takes
    the place of the plan's expansion."""

    def __init__(self, inputs: int, outputs: int, plan: Plan, inside: int | None = None) -> None:
        super().__init__()
        self.residual = plan.stride == 1 and inputs == outputs
        wide = inside or round(inputs * plan.expansion)
        activation = nn.Hardswish if plan.smooth else nn.ReLU
        filtered = nn.Sequential(
            nn.Conv2d(
                wide, wide, plan.kernel, plan.stride, plan.kernel // 2, groups=wide, bias=False
            ),
            nn.BatchNorm2d(wide),
        )
        excited = Excitation(wide) if plan.excited else nn.Identity()
        projected = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        if plan.expansion == 1:
            # here the activation comes before the excitation, as published
            self.layers = nn.Sequential(filtered, activation(), excited, projected)
        else:
            expanded = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide))
            self.layers = nn.Sequential(
                expanded, activation(), filtered, excited, activation(), projected
            )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features)
        return features + out if self.residual else out


class Excitation(nn.Module):
    """Weighs each channel by what a small network makes of the means of all (Hu et al., 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = rounded(width / 4)
        self.layers = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Hardsigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.layers(features.mean((2, 3)))
        return features * weights[:, :, None, None]


def rounded(channels: float) -> int:
    """The nearest multiple of 8 (at least 8) that is not more than a tenth below: MobileNet's rule
    for derived widths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near

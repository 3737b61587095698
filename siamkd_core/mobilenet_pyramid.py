"""A pyramid of MobileNetV3 features for a SiamFC: the backbone of
:mod:`siamkd_core.mobilenet`, and necks for what it has at strides 8 and 16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from siamkd_core.mobilenet import BLOCKS, MobileNetV3, Plan
from siamkd_core.pyramid import check_sides, coarse, fine, keep_products, neck

ENDS = (3, 9)
"""Numbers of the blocks whose features it gives: the last of stride 8, and the last."""


class MobileNetPyramid(MobileNetV3):
    """(N, 3, H, W) float, BGR 0..255, sides 8k + 7 -> (N, C, H', W') at stride 8.

    Args:
        widths: out-channels of the stem, of each block and of the neck; behind them there may be
            the channels inside of each block that expands them, in place of the plan's.
        plan: the blocks.

    Attributes:
        channels: C, twice the neck's width: the finer features stand first.
        levels: how many they are.
        stride: pixels between two of their cells.

    Raises:
        ValueError: other widths.
    """

    def __init__(self, widths: Sequence[int], plan: Sequence[Plan] = BLOCKS) -> None:
        number, inside = len(plan) + 1, sum(block.expansion != 1 for block in plan)
        if len(widths) - number not in (1, 1 + inside) or any(width < 1 for width in widths):
            raise ValueError(
                f"a SiamFC's MobileNetV3 has positive widths of its stem, of {len(plan)} blocks "
                f"and of its neck, and none or {inside} inside of its blocks, got {tuple(widths)}"
            )
        super().__init__(without_neck(widths, plan), plan)
        width = widths[number]
        self.necks = nn.ModuleList(neck(widths[end], width) for end in ENDS)
        keep_products(self.necks)
        self.levels = len(ENDS)
        self.channels, self.stride = width * self.levels, 8

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError for other sides."""
        levels = zip(self.necks, self.ends(images), strict=True)
        return torch.cat([part(features) for part, features in levels], 1)

    def ends(self, images: Tensor) -> list[Tensor]:
        """(N, C, H', W') of each level, as the necks are given them."""
        check_sides(images, "a SiamFC's MobileNetV3")
        features, ends, shape = self.stem(images), [], images.shape
        for number, block in enumerate(self.blocks, 1):
            features = block(features)
            if number == ENDS[0]:
                shape = features.shape
                ends.append(fine(features))
            elif number in ENDS:
                ends.append(coarse(features, shape))
        return ends


def without_neck(widths: Sequence[int], plan: Sequence[Plan] = BLOCKS) -> tuple[int, ...]:
    """The widths of the :class:`MobileNetV3` of a pyramid's."""
    number = len(plan) + 1
    return (*widths[:number], *widths[number + 1 :])

"""A pyramid of EfficientNet-Lite features with the geometry of SiamFC's AlexNet.

EfficientNet-Lite (Tan and Le, 2019; the Lite variant has no squeeze-and-excitation, and ReLU6)
keeps sizes by padding. Of the fine features of a Lite0 all that padding may have touched is cut
off (:mod:`siamkd_core.pyramid`), of deeper ones a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from siamkd_core.pyramid import check_sides, coarse, fine, keep_products, neck

LITE0_WIDTHS = (32, 16, 24, 40, 80, 112)
"""Out-channels of the stem and the first five stages of EfficientNet-Lite0."""
LITE2_WIDTHS = (32, 16, 24, 48, 88, 120, 208)
"""Out-channels of the stem and the first six stages of EfficientNet-Lite2."""


class Stage(NamedTuple):
    """Attributes:
    blocks: how many.
    expansion: channels inside of a block for each that enters it; 1: no layer expands them.
    kernel: side of the depth-wise convolution.
    stride: of the first block.
    dilation: of the depth-wise convolutions of the blocks behind the first.
    """

    blocks: int
    expansion: float
    kernel: int
    stride: int
    dilation: int = 1


STAGES = (
    Stage(1, 1, 3, 1),
    Stage(2, 6, 3, 2),
    Stage(2, 6, 5, 2),
    Stage(3, 6, 3, 2),
    Stage(3, 6, 5, 1),
)
SLIM = (
    Stage(1, 1, 3, 1),
    Stage(2, 3, 3, 2),
    Stage(2, 3, 5, 2),
    Stage(3, 2, 3, 2),
    Stage(2, 1.6, 5, 1),
)
"""The same with fewer channels inside of the blocks, what :mod:`siamkd_core.prune` leaves: with the
widths of Lite0 and a neck of 32 a SiamFC of 174,289 parameters."""
LITE2 = (
    Stage(1, 1, 3, 1),
    Stage(3, 6, 3, 2),
    Stage(3, 6, 5, 2),
    Stage(4, 6, 3, 2),
    Stage(4, 6, 5, 1),
    Stage(5, 6, 5, 1, dilation=2),
)
"""Those of EfficientNet-Lite2. The sixth, of stride 32 in the classifier, keeps its features at 16
by dilation, as Li et al., "SiamRPN++", 2019, do with a ResNet: with the widths of Lite2 and a neck
of 96 a SiamFC of 3,678,818 parameters."""
PRUNED = "_slim"
"""What follows the name of a backbone in that of its slim form."""
FINE, COARSE = 3, 5
"""Numbers of the stages that give the features of stride 8 and the first level of stride 16; where
there are fewer stages, the last one gives that."""
SHORT = 4
"""A network of so many stages leaves out the last block of its last one: with the widths of Lite0
and a neck of 32 it is a SiamFC of 174,754 parameters."""


class EfficientNet(nn.Module):
    """(N, 3, H, W) float, BGR 0..255, sides 8k + 7 -> (N, C, H', W') at stride 8.

    Args:
        widths: out-channels of the stem, of three stages or more, and of the neck. With three, C is
            the neck's width; with four or five, features of stride 16 stand behind those of stride
            8, and C is twice as much; with six those of the sixth stage behind both. Behind the
            widths of all of the plan's stages and the neck's there may be the channels inside of
            each block that expands them, in place of the plan's.
        plan: the stages.

    Attributes:
        plan: the stages of a network that has all of them.
        ends: numbers of the stages whose features it gives.
        channels: C.
        levels: how many they are.
        stride: pixels between two of their cells.
    """

    def __init__(self, widths: Sequence[int], plan: Sequence[Stage] = STAGES) -> None:
        outputs, inner = widths[: len(plan) + 2], widths[len(plan) + 2 :]
        expanding = sum(stage.blocks for stage in plan if stage.expansion != 1)
        fits = len(outputs) >= FINE + 2 and len(inner) in (0, expanding)
        if not fits or any(w < 1 for w in widths):
            raise ValueError(
                f"this EfficientNet has positive widths of its stem, of three to {len(plan)} "
                f"stages and of its neck, and behind those of all none or {expanding} inside of "
                f"its blocks, got {tuple(widths)}"
            )
        super().__init__()
        self.plan, self.stride = tuple(plan), 8
        stem, *stages, width = outputs
        given = iter(inner)
        short = len(stages) == SHORT
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 2, 1, bias=False), _norm(stem), nn.ReLU6(inplace=True)
        )
        self.stages = nn.ModuleList()
        for entering, leaving, stage in zip([stem, *stages], stages, plan, strict=False):
            count = stage.blocks - (short and len(self.stages) == SHORT - 1)
            blocks = []
            for number in range(count):
                inputs, stride, dilation = (
                    (leaving, 1, stage.dilation) if number else (entering, stage.stride, 1)
                )
                wide = None
                if stage.expansion != 1:
                    wide = next(given, None) or round(inputs * stage.expansion)
                blocks.append(Block(inputs, leaving, wide, stage.kernel, stride, dilation))
            self.stages.append(nn.Sequential(*blocks))
        ends = {FINE, min(COARSE, len(stages)), len(stages)}
        self.ends = tuple(sorted(ends))
        self.necks = nn.ModuleList(neck(stages[end - 1], width) for end in self.ends)
        self.levels = len(self.ends)
        self.channels = width * self.levels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        keep_products(self.necks)

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError for other sides."""
        check_sides(images, "an EfficientNet")
        features = self.stem(scaled(images))
        for stage in self.stages[:FINE]:
            features = stage(features)
        levels, shape = [self.necks[0](fine(features))], features.shape
        for number, stage in enumerate(self.stages[FINE:], FINE + 1):
            features = stage(features)
            if number in self.ends:
                levels.append(self.necks[len(levels)](coarse(features, shape)))
        return torch.cat(levels, 1)


class Block(nn.Module):
    """Inverted residual: expand to ``wide`` channels (None: not), filter each channel, project.

    Attributes:
        layers: convolution, norm and ReLU6 of each step; the last without the ReLU6, and without
            the first step where nothing is expanded.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        wide: int | None,
        kernel: int,
        stride: int,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        expand = (
            (nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide), nn.ReLU6(inplace=True))
            if wide
            else ()
        )
        wide = wide or inputs
        padding = dilation * (kernel // 2)
        self.layers = nn.Sequential(
            *expand,
            nn.Conv2d(wide, wide, kernel, stride, padding, dilation, groups=wide, bias=False),
            _norm(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, outputs, 1, bias=False),
            _norm(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features)
        return features + out if self.residual else out


def scaled(images: Tensor) -> Tensor:
    """Pixels of 0..255 in the range of the ImageNet weights; their channel order is in the stem
    (:mod:`siamkd_core.pretrained`)."""
    return (images - 127.0) / 128.0


def _norm(channels: int) -> nn.BatchNorm2d:
    # eps and momentum that EfficientNet was published with
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

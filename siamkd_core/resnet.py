"""A ResNet with three levels of features at stride 8: the backbone of SiamRPN++.

Li et al., "SiamRPN++", 2019, section 3.1; He et al., "Deep residual learning", 2016. Stages 3 and 4
have dilated convolutions in place of strides, so that all levels have one grid, and a convolution
of 1x1, the neck, brings each to the same width. Kernels, strides and paddings are those of the
authors' public pysot, whose stem and strided convolutions do without padding; with the widths
RESNET_WIDTHS its 15x15 and 31x31 cells of 127 and 255 px are reproduced number by number.

Our choice: four cells are cut off each side of search regions, as SiamRPN++ does it for exemplars
only. Of 127 px 7x7 cells remain, of 255 px 23x23, and the response, 17x17, is that of every other
backbone: the inner part of pysot's 25x25. So anchors, labels and tracker stay as they are, and what
is cut off is what padding has touched most. The cells lie between AlexNet's 6x6 and 22x22, half a
stride beside them, see :func:`siamkd_core.distill.on_one_grid`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CUT = 4
"""Cells cut off each side."""
RESNET_WIDTHS = (64, 64, 128, 256, 512, 256)
"""Of the published stem, stages and neck."""
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)
"""Of the stages."""
FIRST = 1
"""Stages before the first whose features are used."""


EXEMPLAR_SIDE = 7
"""Cells of the side of an exemplar of 127 px."""


class ResNet(nn.Module):
    """(N, 3, H, W) float, BGR 0..255, sides 8k + 7 -> (N, L C, k - 8, k - 8) at stride 8.

    Args:
        widths: channels of the stem, of two to four stages, and C of the necks. A stage of
            bottlenecks has four times its width on the outside.
        blocks: of each stage: (3, 4, 6, 3) is a ResNet-50 of bottlenecks or a ResNet-34 without,
            (2, 2, 2, 2) a ResNet-18.
        bottleneck: blocks of a narrow 3x3 convolution between two of 1x1, instead of two of 3x3.

    Attributes:
        levels: L, the features of each stage but the first, one behind the other.
        channels: L C.
        stride: pixels between two of their cells.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], bottleneck: bool) -> None:
        if not 4 <= len(widths) <= len(STRIDES) + 2 or any(w < 1 for w in widths):
            raise ValueError(
                "a ResNet has positive widths of its stem, of two to four stages and of its neck, "
                f"got {tuple(widths)}"
            )
        super().__init__()
        stem, *stages, neck = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, 2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stages = nn.ModuleList()
        self.necks = nn.ModuleList()
        inputs = stem
        for place, (width, count) in enumerate(zip(stages, blocks, strict=False)):
            outputs = 4 * width if bottleneck else width
            stride, dilation = STRIDES[place], DILATIONS[place]
            first = _Block(inputs, width, outputs, stride, dilation)
            more = (_Block(outputs, width, outputs, 1, dilation) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *more))
            if place >= FIRST:
                self.necks.append(
                    nn.Sequential(nn.Conv2d(outputs, neck, 1, bias=False), nn.BatchNorm2d(neck))
                )
            inputs = outputs
        self.levels = len(self.necks)
        self.channels, self.stride = self.levels * neck, 8
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError for other sides: their cells would not lie on those of an exemplar."""
        height, width = images.shape[-2:]
        if height % 8 != 7 or width % 8 != 7:
            raise ValueError(f"a ResNet needs sides of 8k + 7 pixels, got {width}x{height}")
        features = self.stem(images)
        levels = []
        for place, stage in enumerate(self.stages):
            features = stage(features)
            if place >= FIRST:
                cut = features[..., CUT:-CUT, CUT:-CUT]
                levels.append(self.necks[place - FIRST](cut))
        return torch.cat(levels, 1)


class _Block(nn.Module):
    """Residual block; the first of a stage that changes stride or channels has a shortcut.

    A stage's first block has half its dilation, as pysot has it: the grid that it reads was made by
    the stage before. Its shortcut then is a 3x3 convolution, also as in pysot.
    """

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        changes = stride != 1 or inputs != outputs
        first = max(dilation // 2, 1) if changes else dilation

        def spatial(entering: int, leaving: int) -> nn.Conv2d:
            # a strided convolution has no padding
            padding = first if stride == 1 else 0
            return nn.Conv2d(entering, leaving, 3, stride, padding, first, bias=False)

        if outputs == width:
            self.layers = nn.Sequential(
                spatial(inputs, width),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, outputs, 3, 1, dilation, dilation, bias=False),
                nn.BatchNorm2d(outputs),
            )
        else:
            self.layers = nn.Sequential(
                nn.Conv2d(inputs, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                spatial(width, width),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
        self.shortcut = nn.Sequential()
        if changes:
            plain = stride == dilation == 1
            convolution = (
                nn.Conv2d(inputs, outputs, 1, bias=False) if plain else spatial(inputs, outputs)
            )
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.layers(features) + self.shortcut(features), inplace=True)

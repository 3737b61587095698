"""A region proposal head without anchors, for features of stride 16: that of NanoTrack V3.

SiamBAN (Chen et al., "Siamese Box Adaptive Network for Visual Tracking", 2020) regresses, at each
cell, the distances to the box's four sides; NanoTrack compares by pixel-wise and by depth-wise
correlation. Layers as in HonglinChu/NanoTrack, so that its public parameters can be imported; how
the answer is given, on the cells and in the deltas of our other heads, is our own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamkd_core.anchors import SQUARE
from siamkd_core.xcorr import correlate_channels, correlate_pixels

STRIDE = 16
"""Pixels between two cells of the features."""
SIDE = 8
"""Cells of an exemplar's side."""
RIM = 2
"""Cells on each side of the exemplar that the depth-wise correlation leaves out."""
BEYOND = 3
"""Cells on each side of the answer where the exemplar would reach beyond the search region. They
are left out: the other heads have none there, and one grid serves all."""
LOGS = (-4.0, 8.0)
"""Bounds of a distance's logarithm (pixels), so that no weights can overflow."""
DEPTH = 6
"""Layers behind the correlation."""


class BanHead(nn.Module):
    """Scores and boxes, a branch each.

    Args:
        inputs: channels of the features.
        width: channels inside.

    Attributes:
        inputs, width: these.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        self.score, self.box = Branch(inputs, width, 1), Branch(inputs, width, 4)
        with torch.no_grad():
            # a box of the square's size
            self.box.answer.weight *= 0.1
            self.box.answer.bias.fill_(math.log(SQUARE / 2))  # type: ignore[union-attr]

    def kernels(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Features (M, C, 8, 8) and (N, C, H, H) -> (N, 5, 1, R, R) float32, R = 2 (H - 8) + 1: one
        anchor, a square of :data:`siamkd_core.anchors.SQUARE` pixels.

        A cell lies every 16 pixels; in between, at the 8 of the other heads, is the mean of its
        neighbours.
        """
        logits, logs = self.score(kernels, search), self.box(kernels, search)
        left, top, right, bottom = logs.clamp(*LOGS).unbind(1)
        x, y = (right.exp() - left.exp()) / 2 / SQUARE, (bottom.exp() - top.exp()) / 2 / SQUARE
        # the logarithm of the sum; ONNX has no logaddexp
        w, h = (a + F.softplus(b - a) - math.log(SQUARE) for a, b in ((left, right), (top, bottom)))
        coarse = torch.cat([logits, torch.stack([x, y, w, h], 1)], 1)
        inner = coarse[:, :, BEYOND:-BEYOND, BEYOND:-BEYOND]
        # bilinear; F.interpolate's gradient does not repeat exactly on a GPU
        twice = inner.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.avg_pool2d(twice, 2, 1).unsqueeze(2)


class Branch(nn.Module):
    """Both correlations, what merges them, and the layers behind: (N, ``outputs``, H - 1, H - 1)
    float32."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.pixels, self.channels = PixelMaps(inputs, width), ChannelMaps(inputs, width)
        self.merge = nn.Conv2d(SIDE**2 + width, width, 1)
        self.tower = nn.Sequential(*(_separable(width) for _ in range(DEPTH)))
        self.answer = nn.Conv2d(width, outputs, 1)

    def forward(self, exemplar: Tensor, search: Tensor) -> Tensor:
        maps = torch.cat([self.pixels(exemplar, search), self.channels(exemplar, search)], 1)
        features = self.tower(self.merge(maps))
        # float32: the logarithm of a distance is about 4, of which bfloat16 knows 1/32
        with torch.autocast(search.device.type, enabled=False):
            weight, bias = self.answer.weight.float(), self.answer.bias
            assert bias is not None
            return F.conv2d(features.float(), weight, bias.float())


class PixelMaps(nn.Module):
    """How much each cell of the search region is like each cell of the exemplar: (N, 64, H - 1,
    H - 1)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        maps = SIDE**2
        self.exemplar, self.search = _pointwise(inputs, width), _pointwise(inputs, width)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(maps, maps, 1),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 1),
            nn.Sigmoid(),
        )
        self.gather = nn.Sequential(
            nn.Conv2d(maps, maps, 2, groups=maps, bias=False),
            nn.BatchNorm2d(maps),
            nn.ReLU6(),
            nn.Conv2d(maps, maps, 1),
            nn.BatchNorm2d(maps),
        )

    def forward(self, exemplar: Tensor, search: Tensor) -> Tensor:
        z, x = self.exemplar(exemplar), self.search(search)
        # float32: see SiamFC.respond
        with torch.autocast(search.device.type, enabled=False):
            products = correlate_pixels(z.float(), x.float())
        products = products.to(x.dtype)
        out: Tensor = self.gather(products * self.attention(products))
        return out


class ChannelMaps(nn.Module):
    """Depth-wise correlation with the exemplar's middle: (N, width, H - 1, H - 1)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.exemplar, self.search = _pointwise(inputs, width), _pointwise(inputs, width)

    def forward(self, exemplar: Tensor, search: Tensor) -> Tensor:
        z, x = self.exemplar(exemplar[:, :, RIM:-RIM, RIM:-RIM]), self.search(search)
        with torch.autocast(search.device.type, enabled=False):
            maps = correlate_channels(z.float(), F.pad(x.float(), (1, 1, 1, 1)))
        return maps.to(x.dtype)


def _pointwise(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width))


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
    )

"""Features of strides 8 and 16 on one grid of stride 8, with the geometry of SiamFC's AlexNet.

For backbones that keep sizes by padding: five cells cut off on each side leave 6x6 cells of a
127 px exemplar and 22x22 of a 255 px search region, as AlexNet gives them. Cell j of stride 16 lies
on cell 2j of stride 8; what is between is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CUT = 5
"""Cells cut off each side."""


def check_sides(images: Tensor, backbone: str) -> None:
    """Raises ValueError for sides other than 8k + 7: their cells would not lie on those of an
    exemplar."""
    height, width = images.shape[-2:]
    if height % 8 != 7 or width % 8 != 7:
        raise ValueError(f"{backbone} needs sides of 8k + 7 pixels, got {width}x{height}")


def fine(features: Tensor) -> Tensor:
    """(N, C, H, W) of stride 8 -> (N, C, H - 10, W - 10)."""
    return _cut(features, features.shape)


def coarse(features: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, C, h, w) of stride 16 -> (N, C, H - 10, W - 10), where ``shape`` is that of the features
    of stride 8, (N, C', H, W)."""
    sides = [2 * side - 1 for side in features.shape[-2:]]
    return _cut(F.interpolate(features, sides, mode="bilinear", align_corners=True), shape)


def neck(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution of 1x1 and norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def keep_products(necks: Iterable[nn.Module]) -> None:
    """Random weights that keep the products of pretrained features as they are."""
    for layers in necks:
        nn.init.orthogonal_(layers[0].weight)  # type: ignore[index]


def _cut(features: Tensor, shape: Sequence[int]) -> Tensor:
    return features[..., CUT : shape[-2] - CUT, CUT : shape[-1] - CUT]

"""The AlexNet of SiamFC: grouped convolutions, no padding."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

TEACHER_WIDTHS = (96, 256, 384, 384, 256)


class AlexNet(nn.Sequential):
    """(N, 3, H, W) float, BGR 0..255 -> (N, widths[-1], H', W').

    A student changes *widths* only: kernels, strides and the missing padding make the geometry, and
    a response target needs equal sizes.

    Args:
        widths: out-channels of the five convolutions. Layers 2, 4 and 5 have two groups, so the
            widths that enter and leave them are even.
    """

    def __init__(self, widths: Sequence[int] = TEACHER_WIDTHS) -> None:
        if len(widths) != 5 or any(w < 1 for w in widths):
            raise ValueError(f"an AlexNet has five positive widths, got {tuple(widths)}")
        if any(w % 2 for w in widths):
            raise ValueError(f"grouped convolutions need even widths, got {tuple(widths)}")
        a, b, c, d, e = widths
        super().__init__(
            _layer(3, a, 11, stride=2),
            nn.MaxPool2d(3, 2),
            _layer(a, b, 5, groups=2),
            nn.MaxPool2d(3, 2),
            _layer(b, c, 3),
            _layer(c, d, 3, groups=2),
            nn.Conv2d(d, e, 3, groups=2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups),
        # eps and momentum of the reference implementation
        nn.BatchNorm2d(outputs, eps=1e-6, momentum=0.05),
        nn.ReLU(inplace=True),
    )

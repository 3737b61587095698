"""The AlexNet of SiamFC and SiamRPN, without padding."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

TEACHER_WIDTHS = (96, 256, 384, 384, 256)
NORM_EPS = 1e-6
"""Of every BatchNorm, as in the widely used PyTorch SiamFC."""


class AlexNet(nn.Sequential):
    """(N, 3, H, W) float, BGR 0..255 -> (N, widths[-1], H', W').

    A student changes *widths* only: kernels, strides and the missing padding make the geometry, and
    a response target needs equal sizes.

    Args:
        widths: out-channels of the five convolutions.
        groups: of the convolutions 2, 4 and 5, whose channels are multiples of it; SiamFC has 2,
            SiamRPN 1.
        last_norm: a BatchNorm (without ReLU) after the last convolution, as SiamRPN has it.

    Attributes:
        channels: of the features.
    """

    def __init__(
        self, widths: Sequence[int] = TEACHER_WIDTHS, groups: int = 2, last_norm: bool = False
    ) -> None:
        if len(widths) != 5 or any(w < 1 for w in widths):
            raise ValueError(f"an AlexNet has five positive widths, got {tuple(widths)}")
        if any(w % groups for w in widths):
            raise ValueError(f"{groups} groups need even widths, got {tuple(widths)}")
        a, b, c, d, e = widths
        last = nn.Conv2d(d, e, 3, groups=groups)
        super().__init__(
            _layer(3, a, 11, stride=2),
            nn.MaxPool2d(3, 2),
            _layer(a, b, 5, groups=groups),
            nn.MaxPool2d(3, 2),
            _layer(b, c, 3),
            _layer(c, d, 3, groups=groups),
            nn.Sequential(last, _norm(e)) if last_norm else last,
        )
        self.channels = e
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups),
        _norm(outputs),
        nn.ReLU(inplace=True),
    )


def _norm(channels: int) -> nn.Module:
    # momentum of the reference implementation
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=0.05)

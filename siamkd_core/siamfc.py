"""SiamFC: an AlexNet without padding, and a cross-correlation head.

Geometry: an exemplar of 127 px gives 6x6 features, a search region of 255 px 22x22, the response
17x17 at stride 8. A student changes *widths* only: kernels, strides and the missing padding make
this geometry, and a response target needs equal sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from siamkd_core.network import SiameseNetwork
from siamkd_core.xcorr import cross_correlate

STRIDE = 8
EXEMPLAR_SIZE = 127
TEACHER_WIDTHS = (96, 256, 384, 384, 256)
RESPONSE_GAIN = 1e-3
"""Constant gain of the response, as in the widely used PyTorch SiamFC: sums of thousands of
products start near 1 instead of near 1000."""
NORM_EPS = 1e-6
"""Of every BatchNorm of the AlexNet, as in the widely used PyTorch SiamFC."""


def response_size(search_size: int, exemplar_size: int = EXEMPLAR_SIZE) -> int:
    """Cells of the response map's side for a search region of ``search_size`` pixels."""
    return feature_size(search_size) - feature_size(exemplar_size) + 1


def feature_size(size: int) -> int:
    """Side of the AlexNet features of a ``size`` px square: three strides of 2, no padding."""
    size = (size - 11) // 2 + 1
    size = (size - 3) // 2 + 1 - 4
    size = (size - 3) // 2 + 1
    return size - 6


class AlexNet(nn.Sequential):
    """(N, 3, H, W) float, BGR 0..255 -> (N, widths[-1], H', W').

    Args:
        widths: out-channels of the five convolutions.
        groups: of the convolutions 2, 4 and 5; the widths are multiples of it.
        last_norm: a BatchNorm (without ReLU) after the last convolution.
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
    # momentum of the reference implementation of SiamFC
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=0.05)


class SiamFC(SiameseNetwork):
    """Siamese network of Bertinetto et al. 2016 with any channel widths.

    Args:
        widths: out-channels of the five AlexNet convolutions; the default is the teacher with
            2,336,320 parameters.
    """

    def __init__(self, widths: Sequence[int] = TEACHER_WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(int(w) for w in widths)
        self.backbone = AlexNet(self.widths)

    def kernels(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Features (M, C, h, w) and (N, C, H, W) -> logits (N, 1, H - h + 1, W - w + 1)."""
        # float32: a bfloat16 sum of thousands of products would lose the response's fine shape
        with torch.autocast(search.device.type, enabled=False):
            return RESPONSE_GAIN * cross_correlate(kernels.float(), search.float())


def count_parameters(model: nn.Module) -> int:
    """Number of learnable values (BatchNorm statistics not counted, as in the literature)."""
    return sum(p.numel() for p in model.parameters())

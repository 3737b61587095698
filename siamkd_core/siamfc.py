"""SiamFC: a backbone for exemplar and search region alike, and a cross-correlation head.

Geometry, with either backbone: an exemplar of 127 px gives 6x6 features, a search region of 255 px
22x22, the response 17x17 at stride 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from siamkd_core.alexnet import TEACHER_WIDTHS, AlexNet
from siamkd_core.efficientnet import LITE2, SLIM, EfficientNet
from siamkd_core.mobilenet import SLIM_BLOCKS
from siamkd_core.mobilenet_pyramid import MobileNetPyramid
from siamkd_core.network import SiameseNetwork
from siamkd_core.xcorr import cross_correlate

STRIDE = 8
EXEMPLAR_SIZE = 127
RESPONSE_GAIN = 1e-3
"""Constant gain of the response, as in the widely used PyTorch SiamFC: sums of thousands of
products start near 1 instead of near 1000."""
BACKBONES: Mapping[str, Callable[[Sequence[int]], nn.Module]] = {
    "alexnet": AlexNet,
    "efficientnet": EfficientNet,
    "efficientnet_slim": partial(EfficientNet, plan=SLIM),
    "efficientnet_lite2": partial(EfficientNet, plan=LITE2),
    "mobilenet_v3": MobileNetPyramid,
    "mobilenet_v3_slim": partial(MobileNetPyramid, plan=SLIM_BLOCKS),
}


def response_size(search_size: int, exemplar_size: int = EXEMPLAR_SIZE) -> int:
    """Cells of the response map's side for a search region of ``search_size`` pixels."""
    return feature_size(search_size) - feature_size(exemplar_size) + 1


def feature_size(size: int) -> int:
    """Side of the AlexNet features of a ``size`` px square: three strides of 2, no padding. The
    other backbones, which take sizes of 8k + 7 only, give as many."""
    size = (size - 11) // 2 + 1
    size = (size - 3) // 2 + 1 - 4
    size = (size - 3) // 2 + 1
    return size - 6


class SiamFC(SiameseNetwork):
    """Siamese network of Bertinetto et al. 2016 with any backbone and channel widths.

    Args:
        widths: channel widths of the backbone; the default is the paper's teacher with 2,336,320
            parameters.
        backbone: one of :data:`BACKBONES`. Only ``alexnet`` has the response of the PyTorch
            SiamFC, a constant gain; the others learn gain and bias, as the first SiamFC did.

    Raises:
        ValueError: no such backbone, or widths that it cannot have.
    """

    def __init__(self, widths: Sequence[int] = TEACHER_WIDTHS, backbone: str = "alexnet") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
        self.widths = tuple(int(w) for w in widths)
        self.backbone = BACKBONES[backbone](self.widths)
        self.adjust = Adjust() if backbone != "alexnet" else nn.Identity()

    def kernels(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Features (M, C, h, w) and (N, C, H, W) -> logits (N, 1, H - h + 1, W - w + 1)."""
        # float32: a bfloat16 sum of thousands of products would lose the response's fine shape
        with torch.autocast(search.device.type, enabled=False):
            response = RESPONSE_GAIN * cross_correlate(kernels.float(), search.float())
            out: Tensor = self.adjust(response)
            return out

    def logits(self, response: Tensor) -> Tensor:
        """The response itself."""
        return response


class Adjust(nn.Module):
    """Gain and bias of a response, which learn; float32 out."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))  # most cells show no target

    def forward(self, response: Tensor) -> Tensor:
        # float32, whatever the network was converted to
        return self.gain.float() * response + self.bias.float()


def count_parameters(model: nn.Module) -> int:
    """Number of learnable values (BatchNorm statistics not counted, as in the literature)."""
    return sum(p.numel() for p in model.parameters())

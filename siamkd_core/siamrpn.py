"""SiamRPN and SiamRPN++: a backbone, and a head that scores and refines anchors.

Li et al., "High Performance Visual Tracking with Siamese Region Proposal Network", 2018; the
depth-wise head is that of Li et al., "SiamRPN++", 2019. Layers and sizes as in the authors' public
DaSiamRPN and pysot; their AlexNet has no groups. Any channel widths; with DOUBLED_WIDTHS and a head
of 512 the up-channel network has 90,436,132 parameters. SiamRPN++ is a ResNet with the depth-wise
head: one a level, whose answers are added with weights that learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamkd_core.alexnet import TEACHER_WIDTHS, AlexNet
from siamkd_core.anchors import ANCHORS
from siamkd_core.ban_head import STRIDE as BAN_STRIDE
from siamkd_core.ban_head import BanHead
from siamkd_core.efficientnet import LITE2, SLIM, EfficientNet
from siamkd_core.errors import ConfigError
from siamkd_core.mobilenet import SLIM_BLOCKS, MobileNetV3
from siamkd_core.network import SiameseNetwork, layer
from siamkd_core.pixelwise_head import PixelwiseHead
from siamkd_core.resnet import EXEMPLAR_SIDE, ResNet
from siamkd_core.xcorr import correlate_channels, correlate_kernels

T = TypeVar("T")
DOUBLED_WIDTHS = tuple(2 * width for width in TEACHER_WIDTHS)
Backbone: TypeAlias = AlexNet | EfficientNet | MobileNetV3 | ResNet
BACKBONES: Mapping[str, Callable[[Sequence[int]], Backbone]] = {
    "alexnet": partial(AlexNet, groups=1, last_norm=True),
    "efficientnet": EfficientNet,
    "efficientnet_slim": partial(EfficientNet, plan=SLIM),
    "efficientnet_lite2": partial(EfficientNet, plan=LITE2),
    "mobilenet_v3": MobileNetV3,
    "mobilenet_v3_slim": partial(MobileNetV3, plan=SLIM_BLOCKS),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True),
}


@dataclass(frozen=True)
class HeadConfig:
    """A region proposal head.

    Attributes:
        kind: ``upchannel`` (SiamRPN: a kernel for each number of each anchor) or ``depthwise``
            (SiamRPN++: a kernel a channel, far smaller) or ``pixelwise`` (our own, see
            :class:`siamkd_core.pixelwise_head.PixelwiseHead`) or ``ban`` (without anchors, see
            :class:`siamkd_core.ban_head.BanHead`; for features of stride 16).
        width: channels that are correlated.
    """

    kind: str = "upchannel"
    width: int = 256

    def __post_init__(self) -> None:
        if self.kind not in _HEADS:
            raise ConfigError(f"head.kind must be one of {', '.join(_HEADS)}, got {self.kind!r}")
        if self.width < 1:
            raise ConfigError(f"head.width must be at least 1, got {self.width}")

    @property
    def shaped(self) -> bool:
        """Whether it has one box a cell, and learns which cells are the target's from anchors of
        the exemplar's shape (:func:`siamkd_core.anchors.exemplar_anchors`)."""
        return self.kind in ("pixelwise", "ban")

    @property
    def square(self) -> bool:
        """Whether its deltas are relative to a square of :data:`siamkd_core.anchors.SQUARE`
        pixels."""
        return self.kind == "ban"


class SiamRPN(SiameseNetwork):
    """Siamese network with a region proposal head.

    Attributes:
        channels: of the backbone's features.

    :meth:`respond` gives (N, 5, A, R, R) float32: index 0 of axis 1 is a logit, 1..4 the deltas of
    a box, see :func:`siamkd_core.anchors.decode`. The published head has two class outputs an
    anchor; everything made of them (softmax, cross-entropy, a divergence at any temperature)
    depends on their difference alone, so that is what comes out: target minus background.

    Args:
        widths: channel widths of the backbone.
        head: kind and width of the head.
        backbone: one of :data:`BACKBONES`.

    Raises:
        ValueError: no such backbone, widths that it cannot have, or a head that does not fit it.
    """

    def __init__(
        self,
        widths: Sequence[int] = TEACHER_WIDTHS,
        head: HeadConfig | None = None,
        backbone: str = "alexnet",
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
        self.widths = tuple(int(w) for w in widths)
        self.head_config = head or HeadConfig()
        features = BACKBONES[backbone](self.widths)
        self.backbone, self.channels = features, features.channels
        kind, width = _HEADS[self.head_config.kind], self.head_config.width
        if (features.stride == BAN_STRIDE) != (kind is BanHead):
            raise ValueError(
                f"a {self.head_config.kind} head does not fit the backbone {backbone}, whose "
                f"features have a stride of {features.stride}: a ban head takes those of "
                f"{BAN_STRIDE} (mobilenet_v3, mobilenet_v3_slim), the others do not"
            )
        self.head: Head | LevelsHead
        if isinstance(features, ResNet):
            if kind is PixelwiseHead:
                kind = partial(PixelwiseHead, side=EXEMPLAR_SIDE)
            each = features.channels // features.levels
            self.head = LevelsHead([kind(each, width) for _ in range(features.levels)])
        elif kind is PixelwiseHead and isinstance(features, EfficientNet):
            self.head = PixelwiseHead(features.channels, width, features.levels)
        else:
            self.head = kind(features.channels, width)

    def kernels(self, features: Tensor) -> Tensor:
        """Features (M, C, h, w) -> (M, ...), by the head."""
        return self.head.kernels(features)

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Kernels (M, ...) of h x w features and features (N, C, H, W) -> (N, 5, A, R, R) float32,
        R = H - h + 1, or 2 (H - h) + 1 of a ban head: a cell every 8 pixels."""
        return self.head.respond(kernels, search)

    def logits(self, response: Tensor) -> Tensor:
        """(N, 5, A, R, R) -> (N, A, R, R)."""
        return response[:, 0]


class UpChannelHead(nn.Module):
    """A kernel of ``width`` channels for each of the 2 + 4 numbers of each anchor.

    The correlation is divided by the square root of how many products it sums, as attention does
    it: random weights then give logits near 1 and not near 20, from which SGD recovers badly. The
    functions that the head can be are the published one's.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.exemplar_score = nn.Conv2d(inputs, 2 * ANCHORS * width, 3)
        self.exemplar_box = nn.Conv2d(inputs, 4 * ANCHORS * width, 3)
        self.search_score = nn.Conv2d(inputs, width, 3)
        self.search_box = nn.Conv2d(inputs, width, 3)
        self.adjust = nn.Conv2d(4 * ANCHORS, 4 * ANCHORS, 1)
        self.width = width

    def kernels(self, features: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, 5 A, width, h - 2, w - 2): of the scores, then of the deltas."""
        classes = self.exemplar_score(features).unflatten(1, (2, ANCHORS, self.width))
        boxes = self.exemplar_box(features).unflatten(1, (4 * ANCHORS, self.width))
        return torch.cat([classes[:, 1] - classes[:, 0], boxes], 1)

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        score, box = self.search_score(search), self.search_box(search)
        # float32: see SiamFC.respond
        with torch.autocast(search.device.type, enabled=False):
            kernels = kernels.float() * kernels[0, 0].numel() ** -0.5
            logits = correlate_kernels(kernels[:, :ANCHORS], score.float())
            deltas = correlate_kernels(kernels[:, ANCHORS:], box.float())
            bias = self.adjust.bias
            assert bias is not None
            deltas = F.conv2d(deltas, self.adjust.weight.float(), bias.float())
            return torch.cat([logits.unsqueeze(1), deltas.unflatten(1, (4, ANCHORS))], 1)


class DepthwiseHead(nn.Module):
    """Two branches, for scores and for deltas, that mix the channels after the correlation."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.score = Branch(inputs, width, 2 * ANCHORS)
        self.box = Branch(inputs, width, 4 * ANCHORS)

    def kernels(self, features: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, 2 width, h - 2, w - 2)."""
        return torch.cat([self.score.exemplar(features), self.box.exemplar(features)], 1)

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        score, box = kernels.chunk(2, 1)
        classes = self.score(score, search).unflatten(1, (2, ANCHORS))
        deltas = self.box(box, search).unflatten(1, (4, ANCHORS))
        return torch.cat([classes[:, 1:] - classes[:, :1], deltas], 1)


class LevelsHead(nn.Module):
    """A head for each level of features, and weights for their answers (SiamRPN++, eq. 3).

    ``S = sum_l softmax(a)_l S_l`` for the scores, and the same with weights of their own for the
    deltas; they begin equal.

    Args:
        heads: of one kind and width.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.score_weight = nn.Parameter(torch.zeros(len(heads)))
        self.box_weight = nn.Parameter(torch.zeros(len(heads)))

    def kernels(self, features: Tensor) -> Tensor:
        """(M, L C, h, w) -> (M, ...): those of the levels, one behind the other."""
        levels = features.chunk(len(self.heads), 1)
        parts = [head.kernels(level) for head, level in self._each(levels)]
        return torch.cat(parts, 1)

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        count = len(self.heads)
        pairs = zip(kernels.chunk(count, 1), search.chunk(count, 1), strict=True)
        answers = torch.stack([head.respond(*pair) for head, pair in self._each(pairs)])
        # float32, whatever the network was converted to
        score, box = (w.float().softmax(0) for w in (self.score_weight, self.box_weight))
        weights = torch.stack([score, *[box] * 4], 1)
        # no matrix product, whose operands autocast would cast down
        return (weights[:, None, :, None, None, None] * answers).sum(0)

    def _each(self, parts: Iterable[T]) -> Iterator[tuple[Head, T]]:
        heads = (cast("Head", head) for head in self.heads)
        return zip(heads, parts, strict=True)


class Branch(nn.Module):
    """Correlates each of ``width`` channels alone, then mixes them."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.width = width
        self.exemplar = layer(inputs, width, 3)
        self.search = layer(inputs, width, 3)
        self.mix = nn.Sequential(*layer(width, width, 1), nn.Conv2d(width, outputs, 1))

    def forward(self, kernels: Tensor, search: Tensor) -> Tensor:
        features = self.search(search)
        with torch.autocast(search.device.type, enabled=False):
            response = correlate_channels(kernels.float(), features.float())
        out: Tensor = self.mix(response.to(features.dtype))
        return out.float()


Head: TypeAlias = UpChannelHead | DepthwiseHead | PixelwiseHead | BanHead
_HEADS: dict[str, Callable[[int, int], Head]] = {
    "upchannel": UpChannelHead,
    "depthwise": DepthwiseHead,
    "pixelwise": PixelwiseHead,
    "ban": BanHead,
}

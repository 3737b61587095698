"""What every Siamese network here can do, whatever its family, and the layer that heads are made
of."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from torch import Tensor, nn


class SiameseNetwork(nn.Module):
    """One backbone for exemplar and search region, and a head that correlates the two.

    Attributes:
        widths: out-channels of the backbone's convolutions.
        backbone: (N, 3, H, W) float, BGR 0..255 -> features (N, C, H', W').
    """

    widths: tuple[int, ...]
    backbone: nn.Module

    def embed(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float, BGR 0..255 -> features (N, C, H', W')."""
        out: Tensor = self.backbone(images)
        return out

    @abstractmethod
    def kernels(self, features: Tensor) -> Tensor:
        """Features (M, C, h, w) of exemplars -> (M, ...), what :meth:`respond` searches for; a
        tracker keeps it, so that a frame costs the search region alone."""

    @abstractmethod
    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Kernels (M, ...) and features (N, C, H, W), N a multiple of M -> (N, K, ...) float32; the
        family says what."""

    @abstractmethod
    def logits(self, response: Tensor) -> Tensor:
        """What :meth:`respond` gave -> (N, K, R, R) logits of the target alone."""

    def forward(self, exemplar: Tensor, search: Tensor) -> Tensor:
        """(M, 3, 127, 127) and (N, 3, S, S) float, BGR 0..255 -> as :meth:`respond`."""
        return self.respond(self.kernels(self.embed(exemplar)), self.embed(search))


def stride_of(network: nn.Module) -> int:
    """Pixels between two cells of a network's features."""
    return cast(int, cast(Any, network).backbone.stride)


def layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Of a head: a convolution without padding, its BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)
    )

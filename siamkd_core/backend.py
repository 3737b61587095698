"""What runs the network: a small protocol, and PyTorch behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.network import SiameseNetwork


class Backend(Protocol):
    """Runs a Siamese network on crops; holds no target, so trackers can share one. Crops are only
    lent: their memory is the next ones' afterwards."""

    def embed_exemplar(self, crop: NDArray[np.uint8]) -> Any:
        """(127, 127, 3) uint8 BGR -> kernels, to be handed back to :meth:`respond` as they are."""
        ...

    def respond(self, exemplar: Any, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Kernels and (N, S, S, 3) uint8 BGR -> float32: (N, R, R) logits of a siamfc, (N, 5, A, R,
        R) logit and deltas of a siamrpn."""
        ...

    def blend(self, exemplar: Any, other: Any, share: float) -> Any:
        """``(1 - share) * exemplar + share * other`` of two exemplars' kernels."""
        ...

    def describe(self) -> dict[str, str]:
        """Backend, device and precision in words, for diagnostics."""
        ...


class TorchBackend:
    """A network in PyTorch.

    Args:
        network: taken over: moved to the device, BatchNorm folded into the convolutions.
        device, precision: see :mod:`siamkd_core.device`.

    Raises:
        ConfigError: an unknown or missing device, or an unknown precision.
    """

    def __init__(
        self, network: SiameseNetwork, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        folded = fold_batch_norm(network.eval())
        self.network = folded.to(  # type: ignore[call-overload]
            device=self.device, dtype=self.dtype, memory_format=torch.channels_last
        )

    def embed_exemplar(self, crop: NDArray[np.uint8]) -> Tensor:
        return self.kernels(self._tensor(crop[None]))

    def respond(self, exemplar: Tensor, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self.response(exemplar, self._tensor(crops)).cpu().numpy(), np.float32)

    @torch.inference_mode()
    def kernels(self, crops: Tensor) -> Tensor:
        """:meth:`embed_exemplar` of (1, 3, 127, 127) BGR 0..255 on the network's device and in its
        precision; nothing waits for the device."""
        with _fastest_convolutions():
            kernels: Tensor = self.network.kernels(self.network.embed(crops))
        return kernels

    @torch.inference_mode()
    def response(self, exemplar: Tensor, crops: Tensor) -> Tensor:
        """:meth:`respond` to (N, 3, S, S) BGR 0..255, as :meth:`kernels` has them; the float32
        answer stays on the device."""
        with _fastest_convolutions():
            response: Tensor = self.network.respond(exemplar, self.network.embed(crops))
        out: Tensor = response.squeeze(1)  # a siamfc has one number a cell
        return out

    @torch.inference_mode()
    def blend(self, exemplar: Tensor, other: Tensor, share: float) -> Tensor:
        return torch.lerp(exemplar, other, share)

    def describe(self) -> dict[str, str]:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        return {
            "backend": f"PyTorch {torch.__version__}",
            "device": name,
            "precision": str(self.dtype).removeprefix("torch."),
        }

    def _tensor(self, crops: NDArray[np.uint8]) -> Tensor:
        # (N, H, W, 3) memory seen as (N, 3, H, W) is channels_last already: no copy before the cast
        return torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).to(self.dtype)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN time its algorithms at the first crop of each size: a tracker has two sizes, and
    they never change. Training in the same process keeps its own setting, which repeats exactly."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def fold_batch_norm(network: SiameseNetwork) -> SiameseNetwork:
    """Fold every BatchNorm into the convolution before it, in place; the same function, faster."""
    for layers in (part for part in network.modules() if isinstance(part, nn.Sequential)):
        for index in range(len(layers) - 1):
            convolution, normalisation = layers[index], layers[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(convolution, normalisation)
                layers[index + 1] = nn.Identity()
    return network

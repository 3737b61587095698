"""The AlexNet of SiamFC and SiamRPN, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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
        stride: pixels between two of their cells.
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
        self.channels, self.stride = e, 8
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def take(self, other: AlexNet) -> None:
        """Give the same features as one of the same widths that may have more groups, and no norm
        behind the last convolution: SiamRPN's from SiamFC's. What no group connects becomes 0, and
        the norm does nothing in evaluation mode.

        Raises:
            RuntimeError: it has fewer groups, other widths, or a norm that this one has not.
        """
        state = other.state_dict()
        last = self[-1]
        if isinstance(last, nn.Sequential) and isinstance(other[-1], nn.Conv2d):
            norm = last[1]
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
            norm.reset_parameters()
            norm.running_var.fill_(1 - NORM_EPS)
            state = {name.replace("6.", "6.0."): value for name, value in state.items()}
            state |= {f"6.1.{name}": value for name, value in norm.state_dict().items()}
        for name, ours in self.state_dict().items():
            if ours.ndim == 4 and name in state:
                state[name] = _connected(state[name], ours.shape[1])
        self.load_state_dict(state)


def _connected(weight: Tensor, inputs: int) -> Tensor:
    """(O, I / g, k, k) of a convolution of g groups -> (O, I, k, k) of one without."""
    groups = max(inputs // weight.shape[1], 1)
    (out, each), whole = (weight.shape[0] // groups, weight.shape[1]), []
    for number, part in enumerate(weight.split(out)):
        padded = part.new_zeros(len(part), groups * each, *part.shape[2:])
        padded[:, number * each : (number + 1) * each] = part
        whole.append(padded)
    return torch.cat(whole)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups),
        _norm(outputs),
        nn.ReLU(inplace=True),
    )


def _norm(channels: int) -> nn.Module:
    # momentum of the reference implementation
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=0.05)

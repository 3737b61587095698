"""A region proposal head that compares every cell of the exemplar with every cell of the search
region, for backbones that have learnt as a SiamFC.

Pixel-wise correlation is that of Alpha-Refine (Yan et al., 2021), also found in LightTrack and
NanoTrack; how it is read here is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamkd_core.network import layer
from siamkd_core.siamfc import EXEMPLAR_SIZE, RESPONSE_GAIN, Adjust, feature_size
from siamkd_core.xcorr import correlate_channels, correlate_pixels, cross_correlate

SIDE = feature_size(EXEMPLAR_SIZE)
"""Cells of an exemplar's side, of most backbones."""
AROUND = 2
"""Cells on each side of its own place in which a cell of the exemplar is looked for."""


class PixelwiseHead(nn.Module):
    """Scores and boxes from where the parts of the exemplar are found.

    A SiamFC's response at a place u is ``sum_c <z_c, x_{u + c}>`` over the cells c of the exemplar.
    Here the products are not summed but kept apart, a map for each c, shifted by c: where the
    target grows, the maps of its left cells peak further left, whatever it looks like. So the head
    learns sizes from few pairs, where one that reads the features themselves learns the objects
    that it has seen. A depth-wise correlation stands beside it, for what shape things have. Both go
    through two depth-wise separable layers to one logit and one box a cell. The response itself is
    added to the logit: the head begins near that of the SiamFC whose features it reads, but for the
    response's gain and bias, which it learns anew.

    Args:
        inputs: channels of the features, all levels together.
        width: channels of the depth-wise correlation and of the layers behind.
        levels: of the features; each has maps of its own.
        side: cells of an exemplar's side.
    """

    def __init__(self, inputs: int, width: int, levels: int = 1, side: int = SIDE) -> None:
        super().__init__()
        maps, window = levels * side**2, side + 2 * AROUND
        self.levels = levels
        self.adjust = Adjust()
        self.exemplar, self.search = layer(inputs, width, 3), layer(inputs, width, 3)
        gather = nn.Conv2d(maps, maps, window, padding=AROUND, groups=maps, bias=False)
        self.gather = nn.Sequential(gather, nn.BatchNorm2d(maps), nn.ReLU(True))
        self.mix = nn.Sequential(
            *layer(maps + width, width, 1), *_separable(width), *_separable(width)
        )
        self.answer = nn.Conv2d(width, 5, 1)
        with torch.no_grad():
            # each cell at its own place, and little of what is around it
            gather.weight *= 0.3
            for number in range(maps):
                row, column = divmod(number % side**2, side)
                gather.weight[number, 0, row + AROUND, column + AROUND] += 1
            # the response alone, and the exemplar's shape
            self.answer.weight *= 0.1
            nn.init.zeros_(self.answer.bias)  # type: ignore[arg-type]

    def kernels(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features

    def respond(self, kernels: Tensor, search: Tensor) -> Tensor:
        """Features (M, C, h, h) and (N, C, H, W) -> (N, 5, 1, H - h + 1, W - h + 1) float32: one
        anchor."""
        exemplar, wide = self.exemplar(kernels), self.search(search)
        # float32: see SiamFC.respond
        with torch.autocast(search.device.type, enabled=False):
            z, x = kernels.float(), search.float()
            response = self.adjust(RESPONSE_GAIN * cross_correlate(z, x))
            levels = zip(z.chunk(self.levels, 1), x.chunk(self.levels, 1), strict=True)
            products = torch.cat([correlate_pixels(*level) for level in levels], 1)
            products = products * (z.shape[1] // self.levels) ** -0.5
            whole = correlate_channels(exemplar.float(), wide.float()) / exemplar[0, 0].numel()
        parts = self.gather(products.to(wide.dtype)), whole.to(wide.dtype)
        answer = self.answer(self.mix(torch.cat(parts, 1))).float()
        return torch.cat([answer[:, :1] + response, answer[:, 1:]], 1).unsqueeze(2)


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        *layer(width, width, 1),
    )

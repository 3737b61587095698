"""From response maps to a displacement and a scale: the tracker's arithmetic, without a network.

Source: Bertinetto et al. 2016, section 3.1 (upsampling, cosine window, scale search), with the
parameters of the widely used PyTorch implementation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from siamkd_core.arrays import Array, Scalar, constant, cosine_window, device_of, library
from siamkd_core.siamfc import STRIDE
from siamkd_core.tracker_config import TrackerConfig


class Location(NamedTuple):
    """Where the target is in the search regions: scalars of the responses' library.

    Attributes:
        dx, dy: displacement from the centre, in pixels of the chosen search crop.
        scale: factor of the chosen scale.
        value: response logit there.
        peak: highest response logit in all scales.
    """

    dx: Scalar
    dy: Scalar
    scale: Scalar
    value: Scalar
    peak: Scalar


def scale_factors(config: TrackerConfig) -> NDArray[np.float64]:
    """(scales,) float64, ``scale_step ** k`` with k centred on 0."""
    half = config.scales // 2
    return config.scale_step ** np.arange(-half, half + 1, dtype=float)


def locate(responses: Array, config: TrackerConfig) -> Location:
    """Choose scale and place.

    Each map is upsampled (bicubic); scales other than 1 are multiplied by ``scale_penalty`` (after
    the lowest logit of all is subtracted, so that the factor lowers them whatever the sign); the
    map with the highest value wins, is normalised to sum 1 and blended with a cosine window:
    ``(1 - window) * r + window * hann``; its maximum is the place.

    Args:
        responses: (scales, R, R) float32 logits, in the order of :func:`scale_factors`; an array,
            or a tensor, whose device does it all.
        config: the tracker's parameters.
    """
    xp, device = library(responses), device_of(responses)
    big = responses.shape[-1] * config.upsample
    upsampled = upsample(responses, config.upsample)
    above = upsampled - upsampled.min()
    factors, penalties = _scales(config, device)
    # [None] and [0]: PyTorch would wait for the value of an index without dimensions
    chosen = (xp.amax(above, (1, 2)) * penalties).argmax()[None]
    shape = above[chosen][0]
    hann = cosine_window(big, 1.0, device)
    blend = (1 - config.window) * shape / (shape.sum() + 1e-16) + config.window * hann
    place = blend.argmax()
    row, column = place // big, place % big
    # the centre of upsampled cell u lies at (u + 0.5) / upsample response cells
    middle = (big - 1) / 2
    return Location(
        dx=(column - middle) / config.upsample * STRIDE,
        dy=(row - middle) / config.upsample * STRIDE,
        scale=factors[chosen][0],
        value=upsampled[chosen][0].take(place),
        peak=upsampled.max(),
    )


def upsample(responses: Array, factor: int) -> Array:
    """(N, R, R) float32 -> (N, R factor, R factor), bicubic with a = -0.75, pixel-centre aligned,
    the border replicated."""
    size = responses.shape[-1] * factor
    if isinstance(responses, torch.Tensor):
        grown = F.interpolate(responses[None], (size, size), mode="bicubic", align_corners=False)
        return grown[0]
    return np.stack([cv2.resize(r, (size, size), interpolation=cv2.INTER_CUBIC) for r in responses])


@lru_cache(maxsize=8)
def _scales(config: TrackerConfig, device: torch.device | None) -> tuple[Array, Array]:
    """(scales,) float64 each: factors, and what the responses of each are multiplied by."""
    penalties = np.full(config.scales, config.scale_penalty)
    penalties[config.scales // 2] = 1
    return constant(scale_factors(config), device), constant(penalties, device)

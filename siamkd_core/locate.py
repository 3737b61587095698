"""From response maps to a displacement and a scale: the tracker's arithmetic, without a network.

Source: Bertinetto et al. 2016, section 3.1 (upsampling, cosine window, scale search), with the
parameters of the widely used PyTorch implementation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.siamfc import STRIDE
from siamkd_core.tracker_config import TrackerConfig


class Location(NamedTuple):
    """Where the target is in the search regions.

    Attributes:
        dx, dy: displacement from the centre, in pixels of the chosen search crop.
        scale: factor of the chosen scale.
        value: response logit there.
        peak: highest response logit in all scales.
    """

    dx: float
    dy: float
    scale: float
    value: float
    peak: float


def scale_factors(config: TrackerConfig) -> NDArray[np.float64]:
    """(scales,) float64, ``scale_step ** k`` with k centred on 0."""
    half = config.scales // 2
    return config.scale_step ** np.arange(-half, half + 1, dtype=float)


def locate(responses: NDArray[np.float32], config: TrackerConfig) -> Location:
    """Choose scale and place.

    Each map is upsampled (bicubic); scales other than 1 are multiplied by ``scale_penalty`` (after
    the lowest logit of all is subtracted, so that the factor lowers them whatever the sign); the
    map with the highest value wins, is normalised to sum 1 and blended with a cosine window:
    ``(1 - window) * r + window * hann``; its maximum is the place.

    Args:
        responses: (scales, R, R) float32 logits, in the order of :func:`scale_factors`.
        config: the tracker's parameters.
    """
    count, size = len(responses), responses.shape[-1]
    big = size * config.upsample
    upsampled = np.stack(
        [cv2.resize(r, (big, big), interpolation=cv2.INTER_CUBIC) for r in responses]
    )
    above = upsampled - upsampled.min()
    penalty = np.full(count, config.scale_penalty)
    penalty[count // 2] = 1
    chosen = int((above.max(axis=(1, 2)) * penalty).argmax())
    shape = above[chosen]
    blend = (1 - config.window) * shape / (shape.sum() + 1e-16) + config.window * _hann(big)
    row, column = np.unravel_index(int(blend.argmax()), blend.shape)
    # the centre of upsampled cell u lies at (u + 0.5) / upsample response cells
    middle = (big - 1) / 2
    return Location(
        dx=float(column - middle) / config.upsample * STRIDE,
        dy=float(row - middle) / config.upsample * STRIDE,
        scale=float(scale_factors(config)[chosen]),
        value=float(upsampled[chosen, row, column]),
        peak=float(upsampled.max()),
    )


@lru_cache(maxsize=4)
def _hann(size: int) -> NDArray[np.float64]:
    window = np.outer(np.hanning(size), np.hanning(size))
    return np.asarray(window / window.sum(), float)

"""How much what was found looks like the target: the second look of the score, as a formula."""

from __future__ import annotations

import torch

from siamkd_core.arrays import Array, Scalar, library

TINY = 1e-20
"""Keeps kernels that are 0 everywhere from dividing by 0."""


def likeness(exemplar: Array, other: Array) -> Scalar:
    """Cosine similarity of the middles of two exemplars' kernels, -1 to 1.

    ``sum(a b) / sqrt(sum(a^2) sum(b^2))`` over all channels of the cells in the middle, which the
    target's box fills: without a quarter of a side, rounded down, at each border, 4 x 4 of the 6 x
    6 of a siamfc and of the 8 x 8 of a ban head. A response map tells where in its search region
    the exemplar fits best; this tells how well a crop of the target, which lies as the exemplar
    does, agrees with it cell by cell (our choice).

    Args:
        exemplar: (1, ..., h, w) kernels of :meth:`siamkd_core.backend.Backend.embed_exemplar`, an
            array or a tensor of any float type.
        other: the same of another crop.

    Returns:
        a scalar of their library, float32 or wider; 0 where one of them is 0 everywhere.
    """
    height, width = exemplar.shape[-2:]
    rows, columns = (slice(side // 4, side - side // 4) for side in (height, width))
    a, b = (kernels[..., rows, columns] for kernels in (exemplar, other))
    if library(exemplar) is torch:
        a, b = a.float(), b.float()  # half precision has too few digits for the sums
    return (a * b).sum() / ((a * a).sum() * (b * b).sum() + TINY) ** 0.5

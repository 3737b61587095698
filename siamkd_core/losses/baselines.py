"""What the method is compared with. Hinton's distillation needs no function of its own: it is the
label loss and the teacher-soft loss, balanced as ours is, at a higher temperature."""

from __future__ import annotations

from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32


def feature_matching(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two feature maps (Romero et al., "FitNets", 2015, eq. 3).

    ``L = 1 / (C H W) * sum (U_S - U_T)^2``. The mean, where the paper has half the sum, keeps the
    size of the loss independent of the width (our choice).

    Args:
        student: (N, C, H, W) features, brought to the teacher's channels by the caller's adapter (a
            1x1 convolution that learns and is thrown away); the gradient reaches them only.
        teacher: (N, C, H, W) features.

    Returns:
        (N,) float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's features {tuple(student.shape)} must have the shape of the teacher's "
            f"{tuple(teacher.shape)}; an adapter changes channels, nothing changes the geometry"
        )
    difference = at_least_float32(student) - at_least_float32(teacher.detach())
    return difference.square().flatten(1).mean(1)

"""Siamese target response: look where the teacher looks, however many channels there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32
from siamkd_core.xcorr import cross_correlate


def target_response(
    student_z: Tensor, student_x: Tensor, teacher_z: Tensor, teacher_x: Tensor
) -> Tensor:
    """Distance of the attention maps of student and teacher.

    ``L_STR = |A(phi_S(z)) - A(phi_T(z))|^2 + |A(W_S phi_S(x)) - A(W_T phi_T(x))|^2`` with
    ``A(U) = F(U) / |F(U)|_2``, F of :func:`attention`, the division of :func:`unit`, ``W phi(x)``
    of :func:`target_weighted`; the norms are sums over the positions of one sample. F and W and the
    two terms are known from a public re-implementation that describes the paper.

    Our choice is the normalisation: each map of each sample by its own Euclidean norm, as in
    attention transfer (Zagoruyko and Komodakis 2017). The maps' size grows with the width, the sum
    over the channels, and for W with its square, so without it a narrow student could only fail;
    normalised over the batch, as the re-implementation does it, a sample's loss would depend on its
    neighbours. The value lies in 0..4 (each term is ``2 - 2 cos`` of two maps that are nowhere
    negative), so weights known for another normalisation do not carry over.

    Args:
        student_z, student_x: (N, C, h, w) and (N, C, H, W) features of exemplars and search
            regions; the gradient reaches them only.
        teacher_z, teacher_x: (N, D, h, w) and (N, D, H, W), any D.

    Returns:
        (N,) float32 (float64 for float64); a common positive factor of a network's features does
        not change it.

    Raises:
        ValueError: samples or spatial sizes that differ.
    """
    _check("exemplars", student_z, teacher_z)
    _check("search regions", student_x, teacher_x)
    teacher_z, teacher_x = teacher_z.detach(), teacher_x.detach()
    return _distance(attention(student_z), attention(teacher_z)) + _distance(
        attention(target_weighted(student_z, student_x)),
        attention(target_weighted(teacher_z, teacher_x)),
    )


def attention(features: Tensor) -> Tensor:
    """``F(U) = sum_c |U_c|``: how much a network makes of each position.

    Args:
        features: (N, C, H, W) float.

    Returns:
        (N, H, W) float32 (float64 for float64).
    """
    return at_least_float32(features).abs().sum(1)


def unit(maps: Tensor) -> Tensor:
    """(N, H, W) -> (N, H, W): each map over its own Euclidean norm; a map of zeros stays one."""
    return F.normalize(maps.flatten(1)).view_as(maps)


def target_weighted(exemplar: Tensor, search: Tensor) -> Tensor:
    """``W phi(x)``: search features, each position weighed by how much it resembles the exemplar.

    See :func:`target_weights` for W. F does not see its sign, ``F(W phi(x)) = |W| F(phi(x))``: a
    position that is as unlike the target as another is like it weighs the same.

    Args:
        exemplar: (N, C, h, w) features.
        search: (N, C, H, W) features; sample n belongs to exemplar n.

    Returns:
        (N, C, H, W) float32 (float64 for float64).

    Raises:
        ValueError: another number of exemplars than of search regions, or of channels.
    """
    return target_weights(exemplar, search) * at_least_float32(search)


def target_weights(exemplar: Tensor, search: Tensor) -> Tensor:
    """W: the cross-correlation of search and exemplar features at the search features' size.

    How it is brought to that size is our choice: the search features are padded with zeros by half
    the exemplar, so each value stands where the middle of the exemplar lies. The middle of an
    exemplar of an even number of cells (SiamFC: 6) falls between cells; the mean of the neighbours
    brings it onto them without a shift. Stretching the 17x17 response to 22x22 instead would put
    its border cells, whose middle is 2.5 cells inside, onto the border.

    Args:
        exemplar: (N, C, h, w) features.
        search: (N, C, H, W) features.

    Returns:
        (N, 1, H, W) float32 (float64 for float64), of any sign.

    Raises:
        ValueError: another number of exemplars than of search regions, or of channels.
    """
    if len(exemplar) != len(search):
        raise ValueError(f"{len(exemplar)} exemplars cannot be paired with {len(search)} searches")
    h, w = exemplar.shape[-2:]
    padded = F.pad(at_least_float32(search), (w // 2, w // 2, h // 2, h // 2))
    # half precision would lose the fine shape of a sum of thousands of products
    with torch.autocast(search.device.type, enabled=False):
        response = cross_correlate(at_least_float32(exemplar), padded)
    # an even exemplar leaves one value too many, half a cell before and half a cell behind
    return F.avg_pool2d(response, (2 - h % 2, 2 - w % 2), stride=1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, H, W) twice -> (N,): squared distance of the maps of length 1."""
    return (unit(student) - unit(teacher)).square().flatten(1).sum(1)


def _check(what: str, student: Tensor, teacher: Tensor) -> None:
    if len(student) != len(teacher) or student.shape[-2:] != teacher.shape[-2:]:
        raise ValueError(
            f"the student's features of the {what} are {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}: the number of samples and height and width must be the same; "
            "a student may change channels only, not kernels, strides or padding"
        )

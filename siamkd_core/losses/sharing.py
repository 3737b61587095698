"""Knowledge sharing: students that learn from each other, while they are worth it."""

from __future__ import annotations

from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32
from siamkd_core.losses.teacher_soft import balanced_divergence


def knowledge_sharing(
    receiver: Tensor,
    provider: Tensor,
    positive: Tensor,
    temperature: float = 1.0,
    detach: bool = True,
) -> Tensor:
    """Divergence of one student's responses, the receiver's, from another's, the provider's.

    ``L_KS`` is the divergence of the teacher-soft loss, of ``D_u = tau^2 KL(p_provider(u) ||
    p_receiver(u))``, see :func:`siamkd_core.losses.teacher_soft.balanced_divergence`; the paper's
    has a regression term too, which SiamFC has nothing for (SiamRPN:
    :func:`siamkd_core.losses.rpn_soft.rpn_divergence`). The receiver's loss is
    ``L_KD + weight * sigma * L_KS`` with sigma of :func:`sharing_gate` and weight 1 for the small
    student, beta for the large one (beta = 0.5 in a public re-implementation and remembered to be
    the paper's).

    Args:
        receiver: (N, 1, R, R) logits of the student that learns.
        provider: (N, 1, R, R) logits of the student that teaches.
        positive: (N, 1, R, R) bool, the positions of the target.
        temperature: tau, above 0.
        detach: True, our choice: only the receiver gets a gradient, so the term has a direction.
            False, as the public re-implementation has it: the provider is drawn toward the
            receiver as well, also where the gate says that the receiver is the worse one.

    Returns:
        (N,) float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    target = provider.detach() if detach else provider
    return balanced_divergence(receiver, target, positive, temperature)


def sharing_gate(judged: Tensor, teacher: Tensor, margin: float, strength: float) -> Tensor:
    """How much each sample is shared.

    ``sigma = strength  where  L_judged - L_T < h,  else 0``: a student may teach while it is nearly
    as good as the teacher. The sign is the opposite of the adaptive-hard gate's. Rule and h are
    those of a public re-implementation, remembered to be the paper's; L is the loss against the
    truth, for SiamFC the label's, for SiamRPN the boxes' (see
    :func:`siamkd_core.losses.adaptive_hard.adaptive_hard`).

    Args:
        judged: (N,) hard losses of the provider, our choice: what matters is whether the one who
            teaches is good. The literal reading of the formula judges the receiver.
        teacher: (N,) hard losses of the teacher for the same samples.
        margin: h.
        strength: f(epoch), see :func:`decayed`.

    Returns:
        (N,) float32 (float64 for float64) of 0 and ``strength``, without a gradient. A loss that is
        not a number teaches nobody.
    """
    judged, teacher = at_least_float32(judged.detach()), at_least_float32(teacher.detach())
    return strength * (judged - teacher < margin).to(judged.dtype)


def decayed(decay: float, epoch: int) -> float:
    """``decay ** epoch``: the strength of the sharing in an epoch, counted from 0.

    That it falls geometrically, and 0.9 for the factor, are known from a public re-implementation.
    """
    return float(decay**epoch)

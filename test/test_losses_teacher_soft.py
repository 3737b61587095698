import math

import pytest
import torch
from loss_support import divergence_by_loops, maps, some

from siamkd_core.losses.teacher_soft import teacher_soft


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_golden(temperature):
    student, teacher = maps(3, 1, 4, 5), maps(3, 1, 4, 5, seed=1)
    positive = some(3, 1, 4, 5)
    positive[2] = False  # without a target: the other half alone
    loss = teacher_soft(student, teacher, positive, temperature)
    assert loss.dtype == torch.float64
    assert loss.tolist() == pytest.approx(
        divergence_by_loops(student, teacher, positive, temperature), rel=1e-10
    )


def test_it_is_zero_for_the_teacher_and_positive_for_anything_else():
    teacher, positive = maps(4, 1, 5, 5), some(4, 1, 5, 5)
    assert teacher_soft(teacher, teacher, positive, 2.0).tolist() == [0, 0, 0, 0]
    other = teacher + 0.01 * maps(4, 1, 5, 5, seed=1)
    assert (teacher_soft(other, teacher, positive) > 0).all()


def test_the_divergence_is_the_teachers_from_the_student():
    # a sure teacher forbids what an unsure student allows; the other way round costs little
    sure, unsure = torch.full((1, 1, 1, 2), 8.0), torch.zeros(1, 1, 1, 2)
    positive = torch.tensor([[[[True, False]]]])
    assert teacher_soft(unsure, sure, positive).item() == pytest.approx(math.log(2), abs=0.01)
    assert teacher_soft(sure, unsure, positive).item() > 3


def test_the_target_weighs_as_much_as_all_the_rest():
    positive = torch.zeros(1, 1, 17, 17, dtype=torch.bool)
    positive[0, 0, 8, 7:10] = True
    gradient = torch.autograd.functional.jacobian(
        lambda v: teacher_soft(v, torch.zeros_like(v), positive).sum(), torch.ones(1, 1, 17, 17)
    )
    assert gradient[positive].sum().item() == pytest.approx(gradient[~positive].sum().item())


def test_the_gradient_is_the_difference_of_the_probabilities():
    student, teacher = maps(2, 1, 3, 3).requires_grad_(), maps(2, 1, 3, 3, seed=1).requires_grad_()
    positive = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    positive[:, :, 0] = True
    teacher_soft(student, teacher, positive, 4.0).sum().backward()
    # tau^2 * 1/tau * (q - p), of each half the mean
    share = torch.where(positive, 0.5 / 3, 0.5 / 6)
    expected = 4.0 * (torch.sigmoid(student / 4) - torch.sigmoid(teacher / 4)) * share
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None


def test_gradcheck():
    student, teacher = maps(2, 1, 3, 3).requires_grad_(), maps(2, 1, 3, 3, seed=1)
    positive = some(2, 1, 3, 3)
    assert torch.autograd.gradcheck(lambda v: teacher_soft(v, teacher, positive, 2.0), student)


def test_the_loss_of_a_sample_does_not_depend_on_its_batch():
    student, teacher = maps(3, 1, 4, 4).float(), maps(3, 1, 4, 4, seed=1).float()
    positive = some(3, 1, 4, 4)
    alone = [
        teacher_soft(*(v[i : i + 1] for v in (student, teacher, positive))).item() for i in range(3)
    ]
    assert teacher_soft(student, teacher, positive).tolist() == pytest.approx(alone)


def test_half_precision_and_large_logits():
    student, teacher = maps(2, 1, 4, 4).bfloat16(), maps(2, 1, 4, 4, seed=1).bfloat16()
    positive = some(2, 1, 4, 4)
    loss = teacher_soft(student, teacher, positive)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, teacher_soft(student.float(), teacher.float(), positive))
    far = torch.full((1, 1, 1, 2), 200.0, requires_grad=True)
    apart = teacher_soft(far, -far.detach(), torch.tensor([[[[True, False]]]]))
    apart.sum().backward()
    assert apart.item() == pytest.approx(200) and far.grad.tolist() == [[[[0.5, 0.5]]]]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 3, 3\) and \(1, 1, 4, 4\)"):
        teacher_soft(maps(1, 1, 3, 3), maps(1, 1, 4, 4), some(1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"\(1, 1, 3, 4\) and \(1, 1, 3, 3\)"):
        teacher_soft(maps(1, 1, 3, 3), maps(1, 1, 3, 3), some(1, 1, 3, 4))
    with pytest.raises(ValueError, match="above 0"):
        teacher_soft(maps(1, 1, 3, 3), maps(1, 1, 3, 3), some(1, 1, 3, 3), 0.0)

import pytest
import torch

from siamkd_core.losses.baselines import feature_matching


def features(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)


def test_golden():
    student, teacher = features(0), features(1)
    expected = []
    for one, other in zip(student.numpy(), teacher.numpy(), strict=True):
        total = 0.0
        for index in range(2 * 4 * 5):
            total += (one.flat[index] - other.flat[index]) ** 2
        expected.append(total / (2 * 4 * 5))
    assert feature_matching(student, teacher).tolist() == pytest.approx(expected, rel=1e-10)
    assert feature_matching(teacher, teacher).tolist() == [0, 0, 0]


def test_the_gradient_reaches_the_student_only():
    student, teacher = features(0).requires_grad_(), features(1).requires_grad_()
    feature_matching(student, teacher).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() * 2 / 40)
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: feature_matching(s, teacher), student)


def test_the_loss_of_a_sample_does_not_depend_on_its_batch():
    student, teacher = features(0), features(1)
    alone = [feature_matching(student[i : i + 1], teacher[i : i + 1]).item() for i in range(3)]
    assert feature_matching(student, teacher).tolist() == pytest.approx(alone)


def test_half_precision_is_widened():
    assert feature_matching(features(0).half(), features(1).half()).dtype == torch.float32


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 1, 4, 5\).*\(3, 2, 4, 5\).*adapter"):
        feature_matching(features(0)[:, :1], features(1))

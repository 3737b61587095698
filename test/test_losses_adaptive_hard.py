import math

import pytest
import torch

from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.logistic import balanced_bce_per_map

H = 0.125
"""A margin that is exact in binary, so that the boundary can be met."""


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        (0.75, 0.75),  # worse than the teacher
        (0.5, 0.5),  # level
        (0.4375, 0.4375),  # better, by less than h
        (0.375, 0.0),  # better by exactly h
        (0.25, 0.0),  # better by more
    ],
)
def test_the_gate_shuts_where_the_student_beats_the_teacher_by_h(student, expected):
    losses = torch.tensor([student], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    loss = adaptive_hard(losses, teacher, H)
    assert loss.tolist() == [expected]
    loss.sum().backward()
    assert losses.grad.tolist() == [1.0 if expected else 0.0]
    assert teacher.grad is None


def test_the_default_margin():
    student = torch.tensor([0.4952, 0.4948], dtype=torch.float64)
    teacher = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert adaptive_hard(student, teacher).tolist() == [0.4952, 0.0]


def logistic_by_loops(logits, labels):
    values = []
    for one, label in zip(logits.tolist(), labels.tolist(), strict=True):
        sums, counts = [0.0, 0.0], [0, 0]
        for row, wanted in zip(one[0], label[0], strict=True):
            for v, y in zip(row, wanted, strict=True):
                sums[int(y)] += math.log(1 + math.exp(-(2 * y - 1) * v))
                counts[int(y)] += 1
        values.append(0.5 * sums[0] / counts[0] + 0.5 * sums[1] / counts[1])
    return values


def test_golden_for_response_maps():
    generator = torch.Generator().manual_seed(0)
    # the first student is worse, the second level, the third better
    labels = torch.zeros(3, 1, 4, 4, dtype=torch.float64)
    labels[:, :, 1:3, 1:3] = 1
    teacher = torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64) + 2 * labels
    student = teacher + torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1) * (2 * labels - 1)
    ours, theirs = (logistic_by_loops(v, labels) for v in (student, teacher))
    expected = [s if t - s < 0.005 else 0.0 for s, t in zip(ours, theirs, strict=True)]
    assert expected[0] > expected[1] > 0 and expected[2] == 0
    losses = (balanced_bce_per_map(v, labels) for v in (student, teacher))
    assert adaptive_hard(*losses).tolist() == pytest.approx(expected, rel=1e-10)


def test_a_sample_decides_for_itself():
    student, teacher = torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0.1, 0.9, 0.5])
    alone = [adaptive_hard(student[i : i + 1], teacher[i : i + 1]).item() for i in range(3)]
    assert adaptive_hard(student, teacher).tolist() == alone


def test_gradcheck_away_from_the_gate():
    student = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([0.1, 0.9, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: adaptive_hard(v.square(), teacher), student)


def test_a_loss_that_is_no_number_is_not_hidden():
    nan = torch.tensor([float("nan")])
    assert adaptive_hard(nan, torch.tensor([0.5])).isnan().all()


def test_half_precision_is_widened():
    half = torch.tensor([0.5], dtype=torch.bfloat16)
    assert adaptive_hard(half, half).dtype == torch.float32

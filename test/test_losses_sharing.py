import pytest
import torch
from loss_support import divergence_by_loops, maps, some

from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.sharing import decayed, knowledge_sharing, sharing_gate

H = 0.125
"""A margin that is exact in binary, so that the boundary can be met."""


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (0.25, 0.75),  # better than the teacher
        (0.5, 0.75),  # level
        (0.5625, 0.75),  # worse, by less than h
        (0.625, 0.0),  # worse by exactly h
        (0.75, 0.0),  # worse by more
        (float("nan"), 0.0),
    ],
)
def test_a_student_teaches_while_it_is_nearly_as_good_as_the_teacher(judged, expected):
    losses = torch.tensor([judged], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    gate = sharing_gate(losses, teacher, H, 0.75)
    assert gate.tolist() == [expected]
    assert gate.dtype == torch.float64 and not gate.requires_grad


def test_a_sample_decides_for_itself():
    judged, teacher = torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0.1, 0.9, 0.5])
    alone = [sharing_gate(judged[i : i + 1], teacher[i : i + 1], H, 0.9).item() for i in range(3)]
    gate = sharing_gate(judged, teacher, H, 0.9)
    assert gate.tolist() == alone == pytest.approx([0.0, 0.9, 0.9])


def test_its_sign_is_the_opposite_of_the_adaptive_hard_gates():
    student, teacher = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])
    assert sharing_gate(student, teacher, H, 1.0).tolist() == [0, 1]
    assert (adaptive_hard(student, teacher, H) > 0).tolist() == [True, False]


def test_the_strength_decays_geometrically():
    assert [decayed(0.5, epoch) for epoch in range(4)] == [1, 0.5, 0.25, 0.125]
    assert decayed(1.0, 30) == 1


@pytest.mark.parametrize("detach", [True, False])
def test_golden(detach):
    receiver, provider = maps(3, 1, 4, 5), maps(3, 1, 4, 5, seed=1)
    positive = some(3, 1, 4, 5)
    loss = knowledge_sharing(receiver, provider, positive, 2.0, detach)
    expected = divergence_by_loops(receiver, provider, positive, 2.0)
    assert loss.tolist() == pytest.approx(expected, rel=1e-10)


def test_only_the_receiver_learns_unless_it_is_to_be_literal():
    receiver, provider = (maps(2, 1, 3, 3, seed=s).requires_grad_() for s in (0, 1))
    positive = some(2, 1, 3, 3)
    knowledge_sharing(receiver, provider, positive).sum().backward()
    assert provider.grad is None and receiver.grad.abs().min() > 0
    directional = receiver.grad.clone()
    receiver.grad = None
    knowledge_sharing(receiver, provider, positive, detach=False).sum().backward()
    torch.testing.assert_close(receiver.grad, directional)
    assert provider.grad.abs().min() > 0


def test_gradcheck_of_both():
    receiver, provider = (maps(2, 1, 2, 3, seed=s).requires_grad_() for s in (0, 1))
    positive = some(2, 1, 2, 3)
    assert torch.autograd.gradcheck(
        lambda r, p: knowledge_sharing(r, p, positive, 2.0, detach=False), (receiver, provider)
    )


def test_the_loss_of_a_sample_does_not_depend_on_its_batch():
    every = (maps(3, 1, 4, 4), maps(3, 1, 4, 4, seed=1), some(3, 1, 4, 4))
    alone = [knowledge_sharing(*(v[i : i + 1] for v in every)).item() for i in range(3)]
    assert knowledge_sharing(*every).tolist() == pytest.approx(alone)

"""Divergence of two region proposal heads: against loops, and who feels it."""

import math

import pytest
import torch
from loss_support import maps

from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.rpn import box_smooth_l1
from siamkd_core.losses.rpn_soft import Predictions, rpn_divergence
from siamkd_core.losses.sharing import sharing_gate

BETA = 1 / 9
ANCHORS, SIDE = 3, 4


def head(seed, count=3, scale=2.0):
    return Predictions(
        maps(count, ANCHORS, SIDE, SIDE, seed=seed, scale=scale),
        maps(count, 4, ANCHORS, SIDE, SIDE, seed=seed + 50, scale=0.3),
    )


def mask(count=3):
    draw = torch.rand(count, ANCHORS, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    positive = draw < 0.2
    positive[-1] = False  # a pair without its target
    return positive


def smooth(x):
    return x * x / (2 * BETA) if abs(x) < BETA else abs(x) - BETA / 2


def by_loops(student, target, positive, temperature, box_weight):
    """By the definition, anchor by anchor, from probabilities in plain numbers."""
    values = []
    for n in range(len(positive)):
        cells, boxes = {True: [], False: []}, []
        for a in range(ANCHORS):
            for row in range(SIDE):
                for column in range(SIDE):
                    place = (n, a, row, column)
                    q, p = (
                        1 / (1 + math.exp(-float(one.logits[place]) / temperature))
                        for one in (student, target)
                    )
                    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
                    cells[bool(positive[place])].append(divergence)
                    if positive[place]:
                        moved = [
                            float(student.deltas[n, d, a, row, column])
                            - float(target.deltas[n, d, a, row, column])
                            for d in range(4)
                        ]
                        boxes.append(sum(smooth(x) for x in moved))
        halves = [sum(part) / max(len(part), 1) / 2 for part in cells.values()]
        scores = temperature**2 * sum(halves)
        values.append(scores + box_weight * sum(boxes) / max(len(boxes), 1))
    return values


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("box_weight", [0.0, 1.2])
def test_golden(temperature, box_weight):
    student, teacher, positive = head(0), head(1), mask()
    loss = rpn_divergence(student, teacher, positive, temperature, box_weight, BETA)
    assert loss.dtype == torch.float64
    assert loss.tolist() == pytest.approx(
        by_loops(student, teacher, positive, temperature, box_weight), rel=1e-10
    )
    assert positive.flatten(1).sum(1).tolist()[-1] == 0 < min(positive.flatten(1).sum(1)[:2])


def test_it_is_zero_where_both_agree_and_positive_elsewhere():
    teacher, positive = head(1), mask()
    assert rpn_divergence(teacher, teacher, positive, 2.0, 1.0, BETA).tolist() == [0, 0, 0]
    for part in range(2):
        moved = [value + 0.01 if n == part else value for n, value in enumerate(teacher)]
        loss = rpn_divergence(Predictions(*moved), teacher, positive, 1.0, 1.0, BETA)
        assert (loss[:2] > 0).all()
        # without positive anchors only the scores count
        assert (loss[2] > 0) == (part == 0)


def test_boxes_count_on_positive_anchors_only_and_scores_everywhere():
    student, teacher, positive = head(0), head(1), mask()
    leaves = [value.clone().requires_grad_() for value in student]
    rpn_divergence(Predictions(*leaves), teacher, positive, 1.0, 1.0, BETA).sum().backward()
    logits, deltas = (leaf.grad for leaf in leaves)
    assert (logits != 0).all()
    assert torch.equal(deltas != 0, positive[:, None].expand_as(deltas))


def test_the_few_positive_anchors_weigh_as_much_as_all_the_others():
    positive = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    positive[0, 0, 0, 0] = True
    flat = torch.zeros(1, 4, 1, SIDE, SIDE)
    teacher = Predictions(torch.full((1, 1, SIDE, SIDE), 2.0), flat)
    student = Predictions(torch.zeros(1, 1, SIDE, SIDE, requires_grad=True), flat)
    rpn_divergence(student, teacher, positive, 1.0, 1.0, BETA).sum().backward()
    gradient = student.logits.grad.flatten()
    assert gradient[0].item() == pytest.approx(gradient[1:].sum().item())


@pytest.mark.parametrize("detach", [True, False])
def test_the_target_feels_it_only_where_it_is_to(detach):
    receiver, provider = (
        Predictions(*(value.requires_grad_() for value in head(seed, 2))) for seed in (0, 1)
    )
    positive = mask(2)
    rpn_divergence(receiver, provider, positive, 1.0, 1.0, BETA, detach).sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in receiver)
    assert [value.grad is None for value in provider] == [detach, detach]


def test_gradcheck_of_both():
    positive = mask(2)
    inputs = [value.requires_grad_() for seed in (0, 1) for value in head(seed, 2)]
    assert torch.autograd.gradcheck(
        lambda a, b, c, d: rpn_divergence(
            Predictions(a, b), Predictions(c, d), positive, 2.0, 0.7, BETA, False
        ),
        inputs,
    )


def test_a_pair_does_not_depend_on_its_batch():
    student, teacher, positive = head(0), head(1), mask()
    together = rpn_divergence(student, teacher, positive, 1.0, 1.0, BETA)
    for n in range(3):
        row = slice(n, n + 1)
        alone = rpn_divergence(
            Predictions(*(value[row] for value in student)),
            Predictions(*(value[row] for value in teacher)),
            positive[row],
            1.0,
            1.0,
            BETA,
        )
        assert alone.item() == pytest.approx(together[n].item(), rel=1e-12)


def test_half_precision_is_reckoned_in_float32():
    student, teacher = (Predictions(*(v.bfloat16() for v in head(seed))) for seed in (0, 1))
    loss = rpn_divergence(student, teacher, mask(), 1.0, 1.0, BETA)
    assert loss.dtype == torch.float32
    whole = [Predictions(*(v.float() for v in one)) for one in (student, teacher)]
    torch.testing.assert_close(loss, rpn_divergence(*whole, mask(), 1.0, 1.0, BETA))


def test_the_three_regimes_of_the_gates_on_the_boxes_losses():
    """A student whose boxes are worse than the teacher's, level, and better by more than h."""
    positive = torch.ones(3, 1, 1, 1, dtype=torch.bool)
    truth = torch.zeros(3, 4, 1, 1, 1, dtype=torch.float64)
    off = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64).view(3, 1, 1, 1, 1)
    student = (truth + off).requires_grad_()
    ours = box_smooth_l1(student, truth, positive, BETA)
    theirs = box_smooth_l1(truth + 0.2, truth, positive, BETA)
    loss = adaptive_hard(ours, theirs, 0.005)
    assert loss.tolist() == pytest.approx([4 * smooth(0.3), 4 * smooth(0.2), 0.0])
    loss.sum().backward()
    assert (student.grad.flatten(1).abs().sum(1) > 0).tolist() == [True, True, False]
    # whom it would share with: those who are not worse by h or more
    assert sharing_gate(ours, theirs, 0.005, 0.5).tolist() == [0.0, 0.5, 0.5]
    # a pair without its target: nothing to learn from the truth, and nobody is worse
    nobody = box_smooth_l1(student, truth, torch.zeros_like(positive), BETA)
    assert adaptive_hard(nobody, nobody).tolist() == [0, 0, 0]
    assert sharing_gate(nobody, nobody, 0.005, 0.5).tolist() == [0.5, 0.5, 0.5]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="one size"):
        rpn_divergence(head(0), head(1, 2), mask(), 1.0, 1.0, BETA)
    with pytest.raises(ValueError, match="above 0"):
        rpn_divergence(head(0), head(1), mask(), 0.0, 1.0, BETA)

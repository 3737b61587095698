"""Losses of a proposal head against loops and by hand."""

import math

import pytest
import torch

from siamkd_core.losses.rpn import anchor_cross_entropy, box_smooth_l1

SHAPE = (2, 3, 4, 4)


def masks():
    draw = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    positive, negative = draw < 0.2, draw > 0.6
    positive[1] = False  # a pair without its target
    return positive, negative


def test_cross_entropy_is_that_of_two_classes():
    positive, negative = masks()
    classes = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)  # background, target
    logits = classes[:, 1] - classes[:, 0]
    found = anchor_cross_entropy(logits, positive, negative)
    for n in range(2):
        targets, backgrounds = [], []
        for a in range(3):
            for row in range(4):
                for column in range(4):
                    background, target = classes[n, :, a, row, column].exp().tolist()
                    if positive[n, a, row, column]:
                        targets.append(-math.log(target / (background + target)))
                    if negative[n, a, row, column]:
                        backgrounds.append(-math.log(background / (background + target)))
        expected = [sum(values) / max(len(values), 1) for values in (targets, backgrounds)]
        assert found[n].item() == pytest.approx(0.5 * expected[0] + 0.5 * expected[1])
    assert not targets


def test_smooth_l1_by_hand():
    positive = torch.zeros(2, 1, 1, 2, dtype=torch.bool)
    positive[0] = True
    deltas = torch.zeros(2, 4, 1, 1, 2)
    deltas[0, :, 0, 0, 0] = torch.tensor([0.05, -0.5, 0.0, 2.0])
    deltas[1] = 9.0
    first = 0.05**2 / (2 / 9) + (0.5 - 1 / 18) + (2 - 1 / 18)
    found = box_smooth_l1(deltas, torch.zeros_like(deltas), positive, 1 / 9)
    assert found.tolist() == pytest.approx([first / 2, 0.0])


def test_what_was_not_drawn_has_no_gradient():
    positive, negative = masks()
    logits = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    deltas = torch.randn(2, 4, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = anchor_cross_entropy(logits, positive, negative)
    (loss + box_smooth_l1(deltas, torch.zeros_like(deltas), positive, 0.1)).sum().backward()
    assert torch.equal(logits.grad != 0, positive | negative)
    assert torch.equal(deltas.grad != 0, positive[:, None].expand_as(deltas))
    assert torch.autograd.gradcheck(lambda v: anchor_cross_entropy(v, positive, negative), logits)
    assert anchor_cross_entropy(logits.half(), positive, negative).dtype == torch.float32

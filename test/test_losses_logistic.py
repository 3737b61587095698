import math

import pytest
import torch

from siamkd_core.losses.logistic import balanced_bce_per_map


def test_golden_by_hand():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, 0.0]]]])
    labels = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])

    def logistic(value, label):
        return math.log(1 + math.exp(-(2 * label - 1) * value))

    positive = (logistic(2, 1) + logistic(0, 1)) / 2
    negative = (logistic(-1, 0) + logistic(0.5, 0)) / 2
    assert balanced_bce_per_map(logits, labels).item() == pytest.approx((positive + negative) / 2)


def test_the_loss_of_a_map_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    logits = torch.randn(3, 1, 5, 5)
    labels = (torch.rand(3, 1, 5, 5) > 0.8).float()
    alone = [balanced_bce_per_map(logits[i : i + 1], labels[i : i + 1]).item() for i in range(3)]
    assert balanced_bce_per_map(logits, labels).tolist() == pytest.approx(alone)


def test_a_negative_map_weighs_one_half():
    assert balanced_bce_per_map(
        torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    ).item() == pytest.approx(0.5 * math.log(2))


def test_gradcheck():
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(2, 1, 3, 3) > 0.5).double()
    assert torch.autograd.gradcheck(lambda v: balanced_bce_per_map(v, labels), logits)

"""Statistics over the global batch, as a single process has them; test_train has two of them."""

import torch
from torch import nn

from siamkd_core.distributed import GlobalBatchNorm2d, predecessors, share_of_mean


def test_global_batch_norm_is_batch_norm():
    torch.manual_seed(0)
    ours, reference = GlobalBatchNorm2d(3, 1e-6, 0.05), nn.BatchNorm2d(3, 1e-6, 0.05)
    for layer in (ours, reference):
        nn.init.constant_(layer.weight, 1.7)
        nn.init.constant_(layer.bias, -0.3)
    x = torch.randn(4, 3, 5, 6) * 50 + 100
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    weight = torch.randn(4, 3, 5, 6)
    for layer, value in zip((ours, reference), inputs, strict=True):
        (layer(value) * weight).sum().backward()
        (layer(value) * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.state_dict(), reference.state_dict())
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))


def test_the_predecessor_of_the_first_row_is_the_last():
    assert predecessors(torch.tensor([1, 2, 3])).tolist() == [3, 1, 2]


def test_a_masked_mean_golden():
    values = torch.tensor([1.0, 5.0, 9.0])
    assert share_of_mean(values, torch.tensor([1.0, 0.0, 1.0])) == 5.0
    assert share_of_mean(values, torch.zeros(3)) == 0.0

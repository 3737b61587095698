import numpy as np
import pytest
import torch

from siamkd_core.arrays import constant, cosine_window, device_of, library

CPU = torch.device("cpu")


def test_a_cosine_window_is_highest_in_the_middle():
    window = cosine_window(17, None, None)
    assert window[8, 8] == pytest.approx(1) and window[0].max() == 0
    assert window[4, 8] == pytest.approx(0.5)  # 0.5 - 0.5 cos(2 pi 4 / 16)
    assert cosine_window(16, 1.0, None).sum() == pytest.approx(1)


def test_a_tensor_gets_the_arrays_constants():
    for total in (None, 1.0):
        expected, found = cosine_window(17, total, None), cosine_window(17, total, CPU)
        assert isinstance(found, torch.Tensor) and np.array_equal(found.numpy(), expected)


def test_a_constant_made_by_a_tracker_may_be_trained_with():
    with torch.inference_mode():
        made = constant(np.ones(3), CPU)
    weights = torch.ones(3, requires_grad=True)
    (weights * made).sum().backward()
    assert weights.grad is not None


def test_arrays_know_their_library():
    assert library(np.ones(1)) is np and device_of(np.ones(1)) is None
    assert library(torch.ones(1)) is torch and device_of(torch.ones(1)) == CPU

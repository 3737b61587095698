import numpy as np
import pytest
import torch

from siamkd_core.xcorr import (
    correlate_channels,
    correlate_kernels,
    correlate_pixels,
    cross_correlate,
)


def loops(z, x):
    """Cross-correlation written out in float64."""
    _, h, w = z.shape
    out = np.zeros((x.shape[1] - h + 1, x.shape[2] - w + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (x[:, i : i + h, j : j + w] * z).sum()
    return out


@pytest.mark.parametrize("exemplars, searches", [(1, 1), (1, 3), (3, 3), (2, 6)])
def test_equals_plain_loops(exemplars, searches):
    torch.manual_seed(1)
    z = torch.randn(exemplars, 4, 3, 2, dtype=torch.float64)
    x = torch.randn(searches, 4, 7, 9, dtype=torch.float64)
    out = cross_correlate(z, x)
    assert out.shape == (searches, 1, 5, 8)
    for n in range(searches):
        k = n // (searches // exemplars)
        assert out[n, 0].numpy() == pytest.approx(loops(z[k].numpy(), x[n].numpy()))


def test_gradcheck():
    torch.manual_seed(2)
    z = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cross_correlate, (z, x))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        cross_correlate(torch.zeros(2, 3, 2, 2), torch.zeros(3, 3, 4, 4))


def test_several_kernels_and_single_channels_equal_plain_loops():
    torch.manual_seed(3)
    kernels = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64)
    x = torch.randn(4, 4, 7, 9, dtype=torch.float64)
    several = correlate_kernels(kernels, x)
    alone = correlate_channels(kernels[:, 0], x)
    assert several.shape == (4, 3, 5, 8) and alone.shape == (4, 4, 5, 8)
    for n in range(4):
        for k in range(3):
            expected = loops(kernels[n // 2, k].numpy(), x[n].numpy())
            assert several[n, k].numpy() == pytest.approx(expected)
        for c in range(4):
            expected = loops(kernels[n // 2, 0, c : c + 1].numpy(), x[n, c : c + 1].numpy())
            assert alone[n, c].numpy() == pytest.approx(expected)


def test_every_pair_of_cells_equals_plain_loops():
    torch.manual_seed(4)
    z = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    x = torch.randn(4, 4, 5, 6, dtype=torch.float64)
    found = correlate_pixels(z, x)
    assert found.shape == (4, 6, 5, 6)
    for n in range(4):
        for row in range(3):
            for column in range(2):
                cell = z[n // 2, :, row : row + 1, column : column + 1].numpy()
                expected = loops(cell, x[n].numpy())
                assert found[n, 2 * row + column].numpy() == pytest.approx(expected)

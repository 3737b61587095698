import pytest
import torch

from siamkd_core.siamfc import (
    TEACHER_WIDTHS,
    AlexNet,
    SiamFC,
    count_parameters,
    feature_size,
    response_size,
)


def test_the_teacher_has_the_published_number_of_parameters():
    assert count_parameters(SiamFC(TEACHER_WIDTHS)) == 2_336_320


def test_the_number_of_parameters_at_any_width_by_hand():
    a, b, c, d, e = widths = (26, 68, 102, 102, 68)
    convolutions = (
        (3 * 121 + 1) * a
        + (a // 2 * 25 + 1) * b
        + (b * 9 + 1) * c
        + (c // 2 * 9 + 1) * d
        + (d // 2 * 9 + 1) * e
    )
    assert count_parameters(SiamFC(widths)) == convolutions + 2 * (a + b + c + d)


@pytest.mark.parametrize("size, features, response", [(127, 6, 1), (239, 20, 15), (255, 22, 17)])
def test_geometry(size, features, response):
    network = AlexNet((2, 4, 4, 4, 2)).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 2, features, features)
    assert feature_size(size) == features
    assert response_size(size) == response


def test_response_is_the_gain_times_the_correlation_of_the_features():
    torch.manual_seed(0)
    network = SiamFC((4, 8, 8, 8, 4)).eval()
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 143, 143) * 255
    with torch.no_grad():
        fz, fx = network.embed(z), network.embed(x)
        expected = torch.stack(
            [(fx[0, :, i : i + 6, j : j + 6] * fz[0]).sum() for i in range(3) for j in range(3)]
        ).view(1, 1, 3, 3)
        assert torch.allclose(network(z, x), 1e-3 * expected, rtol=1e-4)


def test_a_shift_by_the_stride_shifts_the_response_by_one_cell():
    torch.manual_seed(0)
    network = SiamFC((4, 8, 8, 8, 4)).eval()
    z, wide = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 175, 183) * 255
    with torch.no_grad():
        left, right = network(z, wide[..., :175]), network(z, wide[..., 8:])
    assert torch.allclose(left[..., 1:], right[..., :-1], atol=1e-4)


@pytest.mark.parametrize("widths", [(1, 2, 3), (3, 4, 4, 4, 4), (2, 2, 2, 2, 0)])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(ValueError, match="width"):
        SiamFC(widths)

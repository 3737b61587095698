import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_core.locate import locate, scale_factors, upsample
from siamkd_core.tracker_config import TrackerConfig

PLAIN = TrackerConfig(window=0.0, scale_penalty=1.0)


def bump(row, column, height=1.0, size=17):
    y, x = np.mgrid[:size, :size]
    return (height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)).astype(np.float32)


def test_a_peak_in_the_centre_is_no_displacement():
    found = locate(np.stack([bump(8, 8, 0.5), bump(8, 8), bump(8, 8, 0.5)]), PLAIN)
    # the upsampled map has an even side: its two middle cells lie half a cell beside the centre
    assert abs(found.dx) <= 8 / 16 / 2 and abs(found.dy) <= 8 / 16 / 2
    assert found.scale == 1.0


@pytest.mark.parametrize("row, column", [(8, 11), (4, 8), (5.5, 12.25), (11, 3)])
def test_displacement_is_the_stride_times_the_cells(row, column):
    found = locate(np.stack([bump(row, column)] * 3), PLAIN)
    assert found.dx == pytest.approx((column - 8) * 8, abs=0.6)
    assert found.dy == pytest.approx((row - 8) * 8, abs=0.6)
    assert found.peak == pytest.approx(1.0, abs=0.05)


def test_the_highest_scale_wins_whatever_the_sign_of_the_logits():
    for level in (0.0, -30.0):
        maps = np.stack([bump(8, 8, 1.0), bump(8, 8, 1.2), bump(8, 8, 1.5)]) + np.float32(level)
        assert locate(maps, PLAIN).scale == pytest.approx(1.0375)


def test_the_penalty_keeps_the_scale_unless_another_is_clearly_better():
    config = TrackerConfig(window=0.0, scale_penalty=0.9)
    little = np.stack([bump(8, 8, 1.05), bump(8, 8, 1.0), bump(8, 8, 0.5)])
    clear = np.stack([bump(8, 8, 1.2), bump(8, 8, 1.0), bump(8, 8, 0.5)])
    assert locate(little, config).scale == 1.0
    assert locate(clear, config).scale == pytest.approx(1 / 1.0375)


def test_the_window_prefers_the_nearer_of_two_equal_peaks():
    both = np.maximum(bump(8, 9), bump(8, 15))
    assert locate(np.stack([both] * 3), TrackerConfig(window=0.3)).dx < 16


def test_value_is_the_response_where_the_window_chose_and_peak_the_highest():
    both = np.maximum(bump(8, 8, 0.8), bump(1, 1, 1.0))
    found = locate(np.stack([both] * 3), TrackerConfig(window=0.5))
    assert found.value == pytest.approx(0.8, abs=0.05)
    assert found.peak == pytest.approx(1.0, abs=0.05)


def test_scale_factors():
    assert scale_factors(TrackerConfig()) == pytest.approx([1 / 1.0375, 1, 1.0375])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    gain=st.floats(0.01, 100),
    level=st.floats(-50, 50),
    window=st.floats(0, 1),
    penalty=st.floats(0.8, 1),
    scales=st.sampled_from([1, 3, 5]),
    upsample=st.sampled_from([1, 4, 16]),
)
def test_a_tensor_gives_the_same_place(seed, gain, level, window, penalty, scales, upsample):
    config = TrackerConfig(window=window, scale_penalty=penalty, scales=scales, upsample=upsample)
    noise = np.random.default_rng(seed).normal(level, gain, (scales, 17, 17)).astype(np.float32)
    expected, found = locate(noise, config), locate(torch.from_numpy(noise), config)
    assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in found)
    near = 1e-4 * max(1, np.abs(noise).max())
    assert [value.item() for value in found[:3]] == pytest.approx(expected[:3], abs=1e-9)
    assert [value.item() for value in found[3:]] == pytest.approx(expected[3:], abs=near)


def test_a_tensor_is_upsampled_as_an_array_is():
    noise = np.random.default_rng(0).normal(0, 1, (3, 17, 17)).astype(np.float32)
    found = upsample(torch.from_numpy(noise), 16)
    assert found.numpy() == pytest.approx(upsample(noise, 16), abs=1e-5)

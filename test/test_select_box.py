"""From logits and deltas to one box, against plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_core.anchors import anchor_boxes
from siamkd_core.errors import ConfigError
from siamkd_core.select_box import select_box
from siamkd_core.tracker_config import RpnTrackerConfig

SIDES = [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)]


def looped(answer, size, penalty_k, window, rate):
    """The published steps one anchor at a time; boxes from the middle of the crop."""

    def side(w, h):
        return math.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

    cells = answer.shape[-1]
    best = None
    for a, (aw, ah) in enumerate(SIDES):
        for row in range(cells):
            for column in range(cells):
                logit, dx, dy, dw, dh = answer[:, a, row, column].tolist()
                cx = dx * aw + (column - cells // 2) * 8
                cy = dy * ah + (row - cells // 2) * 8
                w, h = math.exp(dw) * aw, math.exp(dh) * ah
                score = math.exp(logit) / (1 + math.exp(logit))
                s = side(w, h) / side(*size)
                r = (size[0] / size[1]) / (w / h)
                penalty = math.exp(-(max(s, 1 / s) * max(r, 1 / r) - 1) * penalty_k)
                hann = (0.5 - 0.5 * math.cos(2 * math.pi * row / (cells - 1))) * (
                    0.5 - 0.5 * math.cos(2 * math.pi * column / (cells - 1))
                )
                ranked = penalty * score * (1 - window) + hann * window
                if best is None or ranked > best[0]:
                    q = penalty * score * rate
                    new = [(1 - q) * size[0] + q * w, (1 - q) * size[1] + q * h]
                    best = (ranked, cx, cy, *new, logit)
    return best[1:]


@pytest.mark.parametrize("search_size, penalty_k, window", [(271, 0.16, 0.4), (255, 0.055, 0.0)])
def test_equals_plain_loops(search_size, penalty_k, window):
    config = RpnTrackerConfig(search_size, window, penalty_k=penalty_k, size_rate=0.3)
    rng = np.random.default_rng(4)
    cells = (search_size - 127) // 8 + 1
    for size in ((64.0, 64.0), (110.0, 40.0), (30.0, 90.0)):
        answer = rng.normal(0, 1.5, (5, 5, cells, cells)).astype(np.float32)
        answer[1:] *= 0.3
        found = select_box(answer, size, config)
        assert found[:5] == pytest.approx(looped(answer, size, penalty_k, window, 0.3), abs=1e-3)
        assert found.peak == answer[0].max() >= found.value


def sure_of(a, row, column, deltas=(0, 0, 0, 0)):
    answer = np.zeros((5, 5, 19, 19), np.float32)
    answer[0] = -20
    answer[0, a, row, column] = 20
    answer[1:, a, row, column] = deltas
    return answer


def test_an_anchor_moves_and_reshapes_the_target():
    config = RpnTrackerConfig(window=0.0, penalty_k=0.0, size_rate=0.5)
    found = select_box(sure_of(4, 9, 12, (0.25, 0, 0, 0)), (64, 64), config)
    # three cells right and a quarter of the anchor's 32 px; half way from 64x64 to 32x96
    assert found[:4] == pytest.approx((24 + 8, 0, 48, 80), abs=1e-4)


def test_a_change_of_shape_costs():
    config = RpnTrackerConfig(window=0.0, penalty_k=0.5)
    answer = sure_of(2, 9, 9)
    answer[0, 0, 9, 9] = 21  # the flat one is surer, but the target is square
    assert select_box(answer, (64, 64), config)[2:4] == pytest.approx((64, 64))
    assert select_box(answer, (104, 32), config)[2:4] == pytest.approx((104, 32))


def test_the_window_prefers_the_middle():
    answer = sure_of(2, 9, 9)
    answer[0, 2, 0, 0] = 22
    assert select_box(answer, (64, 64), RpnTrackerConfig(window=0.3))[:2] == (0, 0)
    assert select_box(answer, (64, 64), RpnTrackerConfig(window=0.0))[:2] == (-72, -72)


def test_impossible_parameters_say_so():
    with pytest.raises(ConfigError, match="multiple of 16"):
        RpnTrackerConfig(search_size=263)
    with pytest.raises(ConfigError, match="penalty_k"):
        RpnTrackerConfig(penalty_k=-1)
    with pytest.raises(ConfigError, match="window"):
        RpnTrackerConfig(window=1.5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    gain=st.floats(0.01, 100),
    search_size=st.sampled_from([255, 271, 287]),
    w=st.floats(2, 280),
    h=st.floats(2, 280),
    window=st.floats(0, 1),
    penalty_k=st.floats(0, 1),
)
def test_a_tensor_gives_the_same_box(seed, gain, search_size, w, h, window, penalty_k):
    config = RpnTrackerConfig(search_size=search_size, window=window, penalty_k=penalty_k)
    cells = (search_size - 127) // 8 + 1
    answer = np.random.default_rng(seed).normal(0, gain, (5, 5, cells, cells)).astype(np.float32)
    expected = select_box(answer, (w, h), config)
    found = select_box(torch.from_numpy(answer), (w, h), config)
    assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in found)
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_a_tracker_leaves_anchors_that_can_be_trained_with():
    anchor_boxes.cache_clear()
    with torch.inference_mode():
        select_box(torch.zeros(5, 5, 23, 23), (64, 64), RpnTrackerConfig(search_size=303))
    assert not anchor_boxes(303).is_inference()

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


def test_an_anchor_of_the_exemplars_shape_that_is_not_moved_is_the_target_as_given():
    config = RpnTrackerConfig(window=0.0, penalty_k=0.0, size_rate=1.0)
    for shape in ((30.0, 100.0), (90.0, 20.0)):
        found = select_box(sure_of(2, 9, 12)[:, 2:3], (50, 50), config, shape)
        assert found[:4] == pytest.approx((24, 0, *shape), abs=1e-4)
    answer = sure_of(2, 9, 9, (0.5, 0, 0.1, 0))[:, 2:3]
    found = select_box(answer, (50, 50), config, (32.0, 96.0))
    assert found[:4] == pytest.approx((16, 0, 32 * math.exp(0.1), 96), abs=1e-4)


@pytest.mark.parametrize("anchors, shape", [(5, None), (1, (40.0, 70.0))])
@pytest.mark.parametrize("vote", [1, 2])
def test_the_vote_equals_plain_loops(anchors, shape, vote):
    config = RpnTrackerConfig(271, 0.3, penalty_k=0.2, size_rate=0.4, vote=vote)
    rng = np.random.default_rng(5)
    answer = rng.normal(0, 0.3, (5, anchors, 19, 19)).astype(np.float32)
    answer[0] *= 5
    size = (50.0, 60.0)
    sides = SIDES if shape is None else [shape]
    boxes, weights, best = [], [], (-1.0,)
    for a, (aw, ah) in enumerate(sides):
        for row in range(19):
            for column in range(19):
                s = 1 / (1 + math.exp(-answer[0, a, row, column]))
                _, dx, dy, dw, dh = answer[:, a, row, column].tolist()
                w, h = math.exp(dw) * aw, math.exp(dh) * ah
                pad = (w + h) / 2
                scale = math.sqrt((w + pad) * (h + pad) / ((50 + 55) * (60 + 55)))
                ratio = (w / h) / (50 / 60)
                s *= math.exp(-0.2 * (max(scale, 1 / scale) * max(ratio, 1 / ratio) - 1))
                hann = np.hanning(19)[row] * np.hanning(19)[column]
                best = max(best, (0.7 * s + 0.3 * hann, row, column, s))
                boxes.append((dx * aw + 8 * (column - 9), dy * ah + 8 * (row - 9), w, h))
                weights.append((s**2, row, column))
    _, r, c, s = best
    near = [n for n, (_, i, j) in enumerate(weights) if max(abs(i - r), abs(j - c)) <= vote]
    mean = np.average([boxes[n] for n in near], 0, [weights[n][0] for n in near])
    q = 0.4 * s
    expected = [*mean[:2], (1 - q) * 50 + q * mean[2], (1 - q) * 60 + q * mean[3]]
    for found in (answer, torch.from_numpy(answer)):
        chosen = select_box(found, size, config, shape)
        assert [float(v) for v in chosen[:4]] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("vote", [0, 1])
def test_a_correction_is_one_of_the_decoded_sizes(vote):
    config = RpnTrackerConfig(window=0.2, penalty_k=0.3, size_rate=0.5, vote=vote)
    answer = np.random.default_rng(2).normal(0, 0.5, (5, 1, 19, 19)).astype(np.float32)
    corrected = answer.copy()
    corrected[3] += math.log(0.6)
    corrected[4] += math.log(1.7)
    expected = select_box(corrected, (50, 60), config, (40.0, 70.0))
    found = select_box(answer, (50, 60), config, (40.0, 70.0), (0.6, 1.7))
    assert found == pytest.approx(expected, rel=1e-5)
    # what is seen is all of it, what the target becomes a share
    rate = (found.w - 50) / (found.seen_w - 50)
    assert 0 < rate < 0.5
    assert found.h == pytest.approx((1 - rate) * 60 + rate * found.seen_h)
    assert select_box(answer, (50, 60), config, (40.0, 70.0)).w != pytest.approx(found.w)


def test_boxes_that_cannot_be_cost_the_vote_nothing():
    """A penalty that no float holds is not divided by."""
    answer = np.full((5, 1, 19, 19), 4.0, np.float32)
    answer[4] = -4
    config = RpnTrackerConfig(penalty_k=5.0, vote=2)
    assert np.isfinite(select_box(answer, (50, 50), config, (40.0, 40.0))).all()


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
    with pytest.raises(ConfigError, match="vote must not be negative"):
        RpnTrackerConfig(vote=-1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    gain=st.floats(0.01, 100),
    search_size=st.sampled_from([255, 271, 287]),
    w=st.floats(2, 280),
    h=st.floats(2, 280),
    window=st.floats(0, 1),
    penalty_k=st.floats(0, 1),
    shape=st.sampled_from([None, (20.0, 110.0)]),
    vote=st.sampled_from([0, 2]),
)
def test_a_tensor_gives_the_same_box(seed, gain, search_size, w, h, window, penalty_k, shape, vote):
    config = RpnTrackerConfig(search_size, window, penalty_k=penalty_k, vote=vote)
    cells = (search_size - 127) // 8 + 1
    answer = np.random.default_rng(seed).normal(0, gain, (5, 5, cells, cells)).astype(np.float32)
    expected = select_box(answer, (w, h), config, shape)
    found = select_box(torch.from_numpy(answer), (w, h), config, shape)
    assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in found)
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_a_tracker_leaves_anchors_that_can_be_trained_with():
    anchor_boxes.cache_clear()
    with torch.inference_mode():
        select_box(torch.zeros(5, 5, 23, 23), (64, 64), RpnTrackerConfig(search_size=303))
    assert not anchor_boxes(303).is_inference()

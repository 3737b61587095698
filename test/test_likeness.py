"""The second look of the score: what it computes, when it is taken, and what it costs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import moving_boxes, picture, tiny_model

from siamkd_core.box import Box
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.errors import SiamkdError
from siamkd_core.likeness import likeness
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_core.tracker_config import ScoreConfig

BOXES = moving_boxes(4)


def kernels(seed, side=6):
    return np.random.default_rng(seed).normal(size=(1, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize(("side", "middle"), [(4, (1, 2)), (6, (1, 4)), (7, (1, 5)), (8, (2, 5))])
def test_golden_in_plain_loops(side, middle):
    a, b = kernels(0, side), kernels(1, side)
    product = squares = others = 0.0
    for channel in range(3):
        for row in range(middle[0], middle[1] + 1):
            for column in range(middle[0], middle[1] + 1):
                x, y = float(a[0, channel, row, column]), float(b[0, channel, row, column])
                product, squares, others = product + x * y, squares + x * x, others + y * y
    expected = product / math.sqrt(squares * others)
    assert float(likeness(a, b)) == pytest.approx(expected, rel=1e-5)
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    assert float(likeness(*tensors)) == pytest.approx(expected, rel=1e-5)
    half = likeness(*(one.bfloat16() for one in tensors))
    assert half.dtype == torch.float32 and float(half) == pytest.approx(expected, abs=0.02)


def test_the_same_is_1_whatever_its_size_and_nothing_is_like_0():
    a = kernels(0)
    assert float(likeness(a, 7 * a)) == pytest.approx(1)
    assert float(likeness(a, -a)) == pytest.approx(-1)
    assert float(likeness(a, 0 * a)) == 0
    border = a.copy()
    border[..., 1:5, 1:5] = 0
    assert float(likeness(a, a + 9 * border)) == pytest.approx(1)  # only the middle counts


@pytest.fixture
def tracker(tmp_path):
    one = load_tracker(tiny_model(tmp_path), "cpu", "float32", backend="torch")
    config = replace(one.config, exemplar_share=0.4, exemplar_score=0.0)
    card = replace(one.card, tracker=config, score=ScoreConfig(0.01, -1.0, 2.0, 0.03, 0.2))
    return Tracker(one.backend, card)


def embedded(tracker, image, box):
    side = exemplar_side(box.w, box.h)
    crop = crop_square(image, (box.cx, box.cy), side, 127, mean_colour(image))
    return tracker.backend.embed_exemplar(crop).numpy()


def test_a_track_says_how_much_its_box_looks_like_the_first(tracker):
    images = [picture(box) for box in BOXES]
    tracker.init(images[0], BOXES[0])
    first = embedded(tracker, images[0], BOXES[0])
    for image in images[1:]:
        track = tracker.update(image)
        expected = float(likeness(first, embedded(tracker, image, track.box)))
        assert track.likeness == pytest.approx(expected, rel=1e-4)
        assert tracker.alike(image, track.box) == pytest.approx(expected, rel=1e-4)
        logit = 0.01 * track.value + 2.0 * expected - 1.0
        assert track.score == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-4)
    assert tracker.alike(images[0], BOXES[0]) == pytest.approx(1)
    # without a likeness the value is judged alone
    assert tracker.score(3.0) == pytest.approx(1 / (1 + math.exp(-0.29)))


def test_a_crop_is_embedded_once_a_frame_and_only_where_it_is_needed(tracker, monkeypatch):
    images = [picture(box) for box in BOXES]
    counted = []
    embed = tracker.backend.embed_exemplar
    monkeypatch.setattr(
        tracker.backend, "embed_exemplar", lambda crop: counted.append(1) or embed(crop)
    )
    plain = replace(tracker.card, score=ScoreConfig(0.01, -1.0))
    without = Tracker(tracker.backend, plain)
    for one, learn, calls in (
        (tracker, True, 1),  # what was looked at is what is learnt
        (tracker, False, 1),
        (without, True, 1),
        (without, False, 0),
    ):
        one.init(images[0], BOXES[0])
        counted.clear()
        track = one.update(images[1], learn)
        assert len(counted) == calls
        assert math.isnan(track.likeness) == (one is without)


def test_a_likeness_that_is_no_number_costs_no_target(tracker, monkeypatch):
    images = [picture(box) for box in BOXES]
    tracker.init(images[0], BOXES[0])
    other = Tracker(tracker.backend, tracker.card)
    other.init(images[0], BOXES[0])
    with monkeypatch.context() as patch:
        patch.setattr(tracker._pipeline, "likeness", lambda *_: math.nan)
        with pytest.raises(SiamkdError, match="not a number"):
            tracker.update(images[1])
        with pytest.raises(SiamkdError, match="not a number"):
            tracker.alike(images[1], BOXES[1])
    assert tracker.learn() >= 0  # nothing was found, so there is nothing to learn
    assert tracker.update(images[2]).box == other.update(images[2]).box
    with pytest.raises(SiamkdError, match="no target"):
        Tracker(tracker.backend, tracker.card).alike(images[0], Box(1, 1, 9, 9))

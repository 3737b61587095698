"""The tracker's own arithmetic, with a backend that sees instead of a network that learned."""

from dataclasses import replace

import numpy as np
import pytest

from siamkd_core import pipeline
from siamkd_core.anchors import anchor_boxes
from siamkd_core.box import Box
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.errors import BoxError, ImageError, SiamkdError
from siamkd_core.modelfile import ModelCard, new_card
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_core.tracker_config import RpnTrackerConfig, ScoreConfig, TrackerConfig


class SeeingBackend:
    """Responds where the crop is as bright as the exemplar's centre: a detector of a bright dot."""

    def embed_exemplar(self, crop):
        return float(crop[54:74, 54:74].mean())

    def respond(self, exemplar, crops):
        cells = (np.arange(17) - 8) * 8 + 127
        return np.stack(
            [
                [
                    [crop[r - 31 : r + 32, c - 31 : c + 32].mean() / 50 - 3 for c in cells]
                    for r in cells
                ]
                for crop in crops
            ]
        ).astype(np.float32)

    def blend(self, exemplar, other, share):
        return (1 - share) * exemplar + share * other

    def describe(self):
        return {"backend": "seeing"}


CARD = ModelCard("seeing", "siamfc", (2,) * 5, 0, tracker=TrackerConfig(window=0.1))


def scene(x, y, size=(240, 320), side=20):
    image = np.full((*size, 3), 20, np.uint8)
    image[max(0, y) : y + side, max(0, x) : x + side] = 250
    return image


def tracker(card=CARD):
    return Tracker(SeeingBackend(), card)


def test_follows_a_moving_dot():
    one = tracker()
    one.init(scene(100, 100), Box(100, 100, 20, 20))
    for step in range(1, 20):
        x, y = 100 + 5 * step, 100 + 3 * step
        track = one.update(scene(x, y))
        assert track.box.cx == pytest.approx(x + 10, abs=3)
        assert track.box.cy == pytest.approx(y + 10, abs=3)
    assert set(track.seconds) == {"crop", "model", "post", "verify", "adapt"}
    assert track.score > 0.8


def test_the_score_falls_when_the_target_is_gone():
    one = tracker()
    one.init(scene(100, 100), Box(100, 100, 20, 20))
    assert one.update(scene(100, 100)).score > 0.8
    assert one.update(np.full((240, 320, 3), 20, np.uint8)).score < 0.2


def test_the_score_is_the_cards_calibration():
    one = tracker(replace(CARD, score=ScoreConfig(slope=2.0, bias=-1.0)))
    assert one.score(0.5) == pytest.approx(0.5)
    assert one.score(1.5) == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert 0 <= one.score(-1e9) < one.score(1e9) <= 1


def test_what_is_not_the_target_does_not_change_its_size(monkeypatch):
    config = TrackerConfig(window=0.1, size_score=0.5)
    one, other = tracker(replace(CARD, tracker=config)), tracker()
    for each in (one, other):
        each.init(scene(100, 100), Box(100, 100, 20, 20))
        monkeypatch.setattr(
            pipeline, "moved", lambda pose, *_: pose._replace(cx=pose.cx + 4, w=30, h=40)
        )
    for score, sizes in ((0.49, ((20, 20), (30, 40))), (0.5, ((30, 40), (30, 40)))):
        for each, size in zip((one, other), sizes, strict=True):
            monkeypatch.setattr(each, "score", lambda *_, score=score: score)
            track = each.update(scene(100, 100))
            assert track.score == score and track.box[2:] == size
            assert track.box.cx == each._require_target().pose.cx
    assert one._require_target().pose.cx == 118  # its place is followed all the same


class FadingBackend(SeeingBackend):
    """Notes every exemplar that is searched for."""

    def __init__(self):
        self.searched = []

    def respond(self, exemplar, crops):
        self.searched.append(exemplar)
        return super().respond(exemplar, crops)


def test_the_exemplar_follows_the_targets_look_but_keeps_the_first():
    config = TrackerConfig(window=0.1, exemplar_share=0.4, exemplar_rate=0.25, exemplar_score=0.6)
    backend = FadingBackend()
    one = Tracker(backend, replace(CARD, tracker=config))
    image = scene(100, 100)
    one.init(image, Box(100, 100, 20, 20))
    first = backend.embed_exemplar(crop_of(image, Box(100, 100, 20, 20)))
    recent, expected = first, [first]
    for brightness in (240, 220, 200, 60):  # the last one is too dark to be believed
        image = np.where(scene(100, 100) > 100, brightness, 20).astype(np.uint8)
        track = one.update(image)
        if track.score >= 0.6:
            recent = 0.75 * recent + 0.25 * backend.embed_exemplar(crop_of(image, track.box))
        expected.append(0.6 * first + 0.4 * recent)
    assert track.score < 0.6
    one.update(image)
    assert backend.searched == pytest.approx(expected)
    assert expected[-1] == expected[-2] != expected[0]


def crop_of(image, box):
    side = exemplar_side(box.w, box.h)
    return crop_square(image, (box.cx, box.cy), side, 127, mean_colour(image))


def test_an_exemplar_that_is_told_not_to_learn_stays():
    backend = FadingBackend()
    one = Tracker(backend, replace(CARD, tracker=TrackerConfig(window=0.1, exemplar_share=0.4)))
    one.init(scene(100, 100), Box(100, 100, 20, 20))
    for _ in range(3):
        one.update(np.where(scene(100, 100) > 100, 200, 20).astype(np.uint8), learn=False)
    assert len(set(backend.searched)) == 1


def test_the_box_comes_before_the_exemplar_learns(monkeypatch):
    config = TrackerConfig(window=0.1, exemplar_share=0.4)
    backends = FadingBackend(), FadingBackend()
    whole, parted = (Tracker(one, replace(CARD, tracker=config)) for one in backends)
    image = scene(100, 100)
    for one in (whole, parted):
        one.init(image, Box(100, 100, 20, 20))
        assert one.learn() >= 0  # nothing to learn yet
    for brightness in (240, 220, 200):
        image = np.where(scene(100, 100) > 100, brightness, 20).astype(np.uint8)
        expected, track = whole.update(image), parted.find(image)
        assert (track.box, track.score) == (expected.box, expected.score)
        assert set(expected.seconds) - set(track.seconds) == {"adapt"}
        parted.learn()
        parted.learn()  # once is enough
    assert backends[0].searched == backends[1].searched
    assert len(set(backends[1].searched)) == 3
    # a find that failed leaves nothing to learn, nor does a learning that failed
    searched = len(backends[1].searched)
    parted.find(image)
    with pytest.raises(ImageError):
        parted.find(image[..., 0])
    parted.learn()
    parted.find(np.where(scene(100, 100) > 100, 210, 20).astype(np.uint8))
    before, place = parted._target.exemplar, parted._target.pose.cx
    with monkeypatch.context() as patch:
        patch.setattr(backends[1], "embed_exemplar", lambda crop: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            parted.learn()
    parted.learn()
    assert (parted._target.exemplar, parted._target.pose.cx) == (before, place)
    assert len(set(backends[1].searched[searched:])) == 1
    # what is not asked for is not learnt, and not later either
    parted.find(np.where(scene(100, 100) > 100, 255, 20).astype(np.uint8))
    parted.init(scene(100, 100), Box(100, 100, 20, 20))
    parted.learn()
    parted.find(image)
    assert backends[1].searched[-1] == backends[1].searched[0]


def test_without_a_share_the_exemplar_is_the_first_boxs_alone():
    backend = FadingBackend()
    one = Tracker(backend, CARD)
    one.init(scene(100, 100), Box(100, 100, 20, 20))
    for _ in range(3):
        one.update(np.where(scene(100, 100) > 100, 200, 20).astype(np.uint8))
    assert len(set(backend.searched)) == 1


def test_two_trackers_on_one_backend_share_no_state():
    backend = SeeingBackend()
    a, b, alone = (Tracker(backend, CARD) for _ in range(3))
    a.init(scene(60, 60), Box(60, 60, 20, 20))
    b.init(scene(200, 150), Box(200, 150, 20, 20))
    alone.init(scene(60, 60), Box(60, 60, 20, 20))
    for step in range(1, 5):
        moved = a.update(scene(60 + 4 * step, 60))
        b.update(scene(200 - 4 * step, 150))
        assert moved.box == alone.update(scene(60 + 4 * step, 60)).box


def test_init_again_equals_a_new_tracker():
    used, new = tracker(), tracker()
    used.init(scene(60, 60), Box(60, 60, 20, 20))
    used.update(scene(70, 70))
    used.init(scene(150, 100), Box(150, 100, 20, 20))
    new.init(scene(150, 100), Box(150, 100, 20, 20))
    assert used.update(scene(154, 102)).box == new.update(scene(154, 102)).box


def test_bad_input_costs_no_target():
    one, other = tracker(), tracker()
    for t in (one, other):
        t.init(scene(100, 100), Box(100, 100, 20, 20))
    for bad in (None, scene(0, 0)[:, :, 0], scene(0, 0).astype(float), scene(0, 0)[:1]):
        with pytest.raises(ImageError):
            one.update(bad)
        with pytest.raises(ImageError):
            one.init(bad, Box(0, 0, 10, 10))
    with pytest.raises(BoxError):
        one.init(scene(100, 100), Box(float("nan"), 0, 10, 10))
    assert one.update(scene(104, 100)).box == other.update(scene(104, 100)).box


def test_a_network_that_gives_nan_costs_no_target(monkeypatch):
    one, other = tracker(), tracker()
    for t in (one, other):
        t.init(scene(100, 100), Box(100, 100, 20, 20))
    with monkeypatch.context() as patch:
        broken = np.full((3, 17, 17), np.nan, np.float32)
        patch.setattr(one.backend, "respond", lambda *_: broken, raising=False)
        with pytest.raises(SiamkdError, match="not a number"):
            one.update(scene(104, 100))
    assert one.update(scene(104, 100)).box == other.update(scene(104, 100)).box


def test_without_a_target_the_error_says_what_to_do():
    one = tracker()
    with pytest.raises(SiamkdError, match="init"):
        one.update(scene(0, 0))
    one.init(scene(100, 100), Box(100, 100, 20, 20))
    one.reset()
    assert not one.initialised
    with pytest.raises(SiamkdError, match="init"):
        one.update(scene(0, 0))


def test_the_centre_stays_in_the_image_and_the_size_bounded():
    one = tracker()
    one.init(scene(290, 100), Box(290, 100, 20, 20))
    for x in range(290, 420, 10):
        box = one.update(scene(x, 100)).box
        assert 0 <= box.cx <= 320 and 0 <= box.cy <= 240
        assert 4 <= box.w <= 320


def test_a_real_network_runs_and_names_itself(tiny_model):
    one = load_tracker(tiny_model, device="cpu")
    one.init(scene(100, 100), (100, 100, 20, 20))
    track = one.update(scene(100, 100))
    assert np.isfinite(track.box).all() and 0 <= track.score <= 1
    assert one.backend.describe()["device"].startswith("CPU")


class ReshapingBackend(SeeingBackend):
    """A region proposal head that sees: each anchor is as sure as its box is bright and its
    surroundings are dark."""

    def respond(self, exemplar, crops):
        anchors = anchor_boxes(crops.shape[1]).numpy()
        bright = crops[0].mean(2) > 100
        total = np.pad(bright.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        x, y, w, h = anchors
        left, top = np.clip(x, 0, 271).astype(int), np.clip(y, 0, 271).astype(int)
        right, low = np.clip(x + w, 0, 271).astype(int), np.clip(y + h, 0, 271).astype(int)
        inside = total[low, right] - total[top, right] - total[low, left] + total[top, left]
        overlap = inside / (w * h + bright.sum() - inside)
        answer = np.zeros((1, 5, *x.shape), np.float32)
        answer[0, 0] = 20 * (overlap - 0.5)
        return answer


RPN_CARD = replace(new_card("reshaping", "siamrpn", (2,) * 5, head=HeadConfig()), score=None)


def drawn(cx, cy, w, h):
    image = np.full((240, 320, 3), 20, np.uint8)
    image[round(cy - h / 2) : round(cy + h / 2), round(cx - w / 2) : round(cx + w / 2)] = 250
    return image


def test_a_box_of_a_siamrpn_takes_the_targets_new_aspect_ratio():
    one = Tracker(ReshapingBackend(), RPN_CARD)
    one.init(drawn(150, 120, 60, 60), Box(120, 90, 60, 60))
    for step in range(1, 30):
        grown = min(step, 12)
        track = one.update(drawn(150 + step, 120, 60 + 3 * grown, 60 - 1.5 * grown))
    assert track.box.w / track.box.h == pytest.approx(96 / 42, rel=0.15)
    assert track.box.cx == pytest.approx(150 + step, abs=8)
    assert track.score > 0.8 and track.value == pytest.approx(track.peak, abs=8)


@pytest.mark.parametrize("w, h", [(90, 20), (24, 88), (50, 40)])
def test_a_box_that_does_not_change_keeps_the_shape_it_was_given_with(w, h):
    """Of a network whose anchors have the exemplar's shape and whose deltas are 0."""

    class Still(SeeingBackend):
        def respond(self, exemplar, crops):
            answer = np.zeros((1, 5, 1, 19, 19), np.float32)
            answer[:, 0] = -20
            answer[:, 0, 0, 9, 9] = 20
            return answer

    config = RpnTrackerConfig(size_rate=1.0)
    card = replace(RPN_CARD, tracker=config, head=HeadConfig("pixelwise", 4))
    one = Tracker(Still(), card)
    one.init(drawn(150, 120, w, h), Box.from_center(150, 120, w, h))
    for _ in range(10):
        box = one.update(drawn(150, 120, w, h)).box
    assert box == pytest.approx(Box.from_center(150, 120, w, h), abs=1e-3)


class Biased(SeeingBackend):
    """Sees everything wider and lower than it is, by these factors; blind: nothing at all."""

    factors = (1.5, 0.6)
    sure = 20.0

    def respond(self, exemplar, crops):
        answer = np.zeros((1, 5, 1, 19, 19), np.float32)
        answer[:, 0] = -20
        answer[:, 0, 0, 9, 9] = self.sure
        answer[:, 3], answer[:, 4] = np.log(self.factors)[:, None, None]
        return answer


def test_a_size_that_is_seen_wrong_from_the_first_is_corrected():
    config = RpnTrackerConfig(size_rate=0.5, penalty_k=0.0)
    card = replace(RPN_CARD, tracker=config, head=HeadConfig("pixelwise", 4))
    given, picture = Box.from_center(150, 120, 60, 40), drawn(150, 120, 60, 40)

    def shapes(backend, correct):
        told = replace(card, tracker=replace(config, correct_size=correct))
        one = Tracker(backend, told)
        one.init(picture, given)
        return [one.update(picture).box for _ in range(6)]

    assert shapes(Biased(), 1.0)[-1] == pytest.approx(given, abs=1e-2)
    wrong = shapes(Biased(), 0.0)[-1]
    assert wrong.w > 1.3 * given.w and wrong.h < 0.8 * given.h
    # half of it, in the logarithm; of the rest half is taken over
    half = shapes(Biased(), 0.5)[0]
    assert half.w == pytest.approx((1 + 1.5**0.5) / 2 * given.w, rel=1e-3)
    assert half.h == pytest.approx((1 + 0.6**0.5) / 2 * given.h, rel=1e-3)
    # an absurd answer about the first image is not believed beyond three times
    absurd = Biased()
    absurd.factors = (9.0, 1.0)
    # seen 9 / 3 times as wide, of which half is taken over
    assert shapes(absurd, 1.0)[0].w == pytest.approx(2 * given.w, rel=1e-3)
    # nor one that is unsure or no number: then the sizes are taken as they are seen
    for value in (-1.0, np.nan):
        unsure = Biased()
        unsure.sure = value
        one = Tracker(unsure, replace(card, tracker=replace(config, correct_size=1.0)))
        one.init(picture, given)
        unsure.sure = 20.0
        assert one.update(picture).box.w == pytest.approx(1.25 * given.w, rel=1e-3)
    # with a score that takes a second look too: the first image is like itself whatever it shows
    unsure = Biased()
    unsure.sure = -1.0
    asking = replace(card, score=ScoreConfig(1.0, -9.0, 18.0, 1.0, 0.0))
    one = Tracker(unsure, replace(asking, tracker=replace(config, correct_size=1.0)))
    one._pipeline.likeness = lambda *_: 1.0
    one.init(picture, given)
    unsure.sure = 20.0
    assert one.update(picture).box.w == pytest.approx(1.25 * given.w, rel=1e-3)
    # an error of that look leaves the target that was there
    one = Tracker(Biased(), replace(card, tracker=replace(config, correct_size=1.0)))
    one.init(picture, given)
    before = one.update(picture).box
    one.backend.respond = None
    with pytest.raises(TypeError):
        one.init(picture, Box(10, 10, 20, 20))
    one.backend.respond = Biased().respond
    assert one.update(picture).box == pytest.approx(before, abs=0.5)


def test_the_sides_of_a_siamrpns_box_stay_bounded():
    class Growing(SeeingBackend):
        def respond(self, exemplar, crops):
            answer = np.zeros((1, 5, 5, 19, 19), np.float32)
            answer[:, 0] = 20
            answer[:, 3], answer[:, 4] = 3, -3
            return answer

    config = RpnTrackerConfig(penalty_k=0.0, size_rate=1.0)
    one = Tracker(Growing(), replace(RPN_CARD, tracker=config))
    one.init(drawn(150, 120, 60, 60), Box(120, 90, 60, 60))
    for _ in range(5):
        box = one.update(drawn(150, 120, 60, 60)).box
    assert box.w == pytest.approx(320) and box.h == pytest.approx(4)

"""A target that turns in the image: crops that turn with it, where the score is low."""

import time
from dataclasses import replace

import numpy as np
import pytest
from look_support import CARD, CONFIG, HOME, Matching, Scripted, logit, rolled, scripted

from siamkd_core.box import Box
from siamkd_core.crop import Square, crop_square, exemplar_side, mean_colour, rotation
from siamkd_core.errors import ConfigError
from siamkd_core.fallback import FallbackTracker
from siamkd_core.longterm import LongTermTracker
from siamkd_core.presence import PresenceConfig, State
from siamkd_core.rescan import reach
from siamkd_core.tracker import TURN_GAIN, Tracker
from siamkd_core.tracker_config import SearchConfig


def start(card=CARD):
    tracker = Tracker(Matching(), card)
    tracker.init(rolled(0), HOME)
    return tracker


@pytest.mark.parametrize("sense", [-1, 1])
def test_a_target_that_turns_all_the_way_round_is_followed(sense):
    """It moves as well; without turned looks its score is low from an eighth of a turn on."""
    tracker, stiff = start(), start(replace(CARD, tracker=replace(CONFIG, turn=0.0)))
    low = []
    for step in range(1, 46):
        angle = sense * 8.0 * step
        centre = 160 + 1.5 * step, 120 + 0.5 * step
        track = tracker.update(rolled(angle, centre))
        assert (track.box.cx, track.box.cy) == pytest.approx(centre, abs=6)
        assert abs((track.turned - angle + 180) % 360 - 180) <= 30
        assert track.score > 0.5
        other = stiff.update(rolled(angle, centre))
        assert other.turned == 0
        low.append(other.score < 0.2)
    assert np.mean(low[6:-6]) > 0.7


def test_the_crop_of_a_turned_square_stands_upright():
    upright = crop_square(rolled(0), (160, 120), 60, 60, np.zeros(3))
    turned = crop_square(rolled(35), (160, 120), 60, 60, np.zeros(3), rotation(np.radians(35)))
    y, x = np.mgrid[:60, :60] - 29.5
    inside = np.hypot(x, y) < 24
    difference = np.abs(upright.astype(float) - turned)[inside]
    assert difference.mean() < 4  # sampled twice
    wrong = crop_square(rolled(35), (160, 120), 60, 60, np.zeros(3), rotation(-np.radians(35)))
    assert np.abs(upright.astype(float) - wrong)[inside].mean() > 10 * difference.mean()


def test_a_sure_look_is_the_only_one():
    tracker = scripted([(logit(0.61), 0, 0)])
    assert tracker.update(rolled(0)).turned == 0 and len(tracker.backend.seen) == 1


@pytest.mark.parametrize(
    "first, second, expected",
    [
        (0.3 + TURN_GAIN - 0.01, 0.4, 0.0),  # not enough more
        (0.3 + TURN_GAIN + 0.01, 0.4, -25.0),
        (0.4, 0.3 + TURN_GAIN + 0.01, 25.0),
        (0.7, 0.8, 25.0),
        (0.8, 0.7, -25.0),
    ],
)
def test_the_better_turned_look_is_taken_where_it_scores_enough_more(first, second, expected):
    scores = (0.3, first, second)
    tracker = scripted([(logit(score), 0, 0) for score in scores])
    track = tracker.update(rolled(0))
    assert track.turned == pytest.approx(expected)
    chosen = {0.0: 0.3, -25.0: first, 25.0: second}[expected]
    assert track.score == pytest.approx(chosen)
    # what was looked at: the search region as it is, turned to either side
    side = exemplar_side(40, 40) * 255 / 127
    image = rolled(0)
    for crop, angle in zip(tracker.backend.seen, (0.0, -25.0, 25.0), strict=True):
        turned = rotation(np.radians(angle))
        expected_crop = crop_square(image, (160, 120), side, 255, mean_colour(image), turned)
        assert np.array_equal(crop, expected_crop)


def test_whoever_asks_for_one_look_gets_one():
    tracker = scripted([(logit(0.1), 0, 0)])
    assert tracker.update(rolled(0), turn=False).turned == 0
    assert len(tracker.backend.seen) == 1


def test_without_turns_a_frame_is_one_look():
    tracker = scripted([(logit(0.1), 0, 0)], turn=0.0)
    tracker.update(rolled(0))
    assert len(tracker.backend.seen) == 1


def turned_by_a_quarter(**config):
    """What was 48 wide and 24 high is turned by 90 degrees and was found one cell to the right in
    the turned crop: one cell below in the image."""
    low, high = logit(0.1), logit(0.9)
    box = Box.from_center(160, 120, 48, 24)
    answers = [(low, 0, 0), (low, 0, 0), (high, 1, 0)]
    return scripted(answers, box, turn=90.0, scale_rate=0.0, **config)


def test_place_and_box_of_a_turned_target_are_those_in_the_image():
    tracker = turned_by_a_quarter()
    track = tracker.update(rolled(0))
    cell = 8 * exemplar_side(48, 24) / 127
    assert tuple(track.box) == pytest.approx((160 - 12, 120 + cell - 24, 24, 48))
    assert track.turned == pytest.approx(90)
    # the crops are those of the upright size, turned
    tracker.backend.answers = [(logit(0.9), 0, 0)]
    tracker.update(rolled(0))
    expected = crop_square(
        rolled(0),
        (160, 120 + cell),
        exemplar_side(48, 24) * 255 / 127,
        255,
        mean_colour(rolled(0)),
        rotation(np.pi / 2),
    )
    assert np.array_equal(tracker.backend.seen[-1], expected)


def test_an_exemplar_learns_the_target_as_it_stands():
    tracker = turned_by_a_quarter(exemplar_share=0.5, exemplar_rate=1.0)
    tracker.update(rolled(0))
    target = tracker._target
    cell = 8 * exemplar_side(48, 24) / 127
    image = rolled(0)
    look = crop_square(
        image,
        (160, 120 + cell),
        exemplar_side(48, 24),
        127,
        mean_colour(image),
        rotation(np.pi / 2),
    )
    assert np.array_equal(target.recent, Matching().embed_exemplar(look))


def test_a_target_comes_back_to_its_pose():
    """Place, upright size and angle, whatever it was moved to in between."""
    tracker = turned_by_a_quarter()
    seen = tracker.update(rolled(0))
    tracker.move_to(Box(100, 50, 80, 10), -35.0)
    tracker.backend.answers = [(logit(0.9), 0, 0)]
    assert tracker.update(rolled(0)).pose == (pytest.approx((100, 50, 80, 10)), pytest.approx(-35))
    tracker.move_to(*seen.pose)
    tracker.backend.answers = [(logit(0.9), 0, 0)]
    back = tracker.update(rolled(0))
    assert tuple(back.box) == pytest.approx(tuple(seen.box)) and back.turned == seen.turned


def test_a_lost_target_is_looked_for_in_the_pose_it_was_seen_in():
    """Not in the one that a doubtful frame took it for."""
    box = Box.from_center(160, 120, 100, 16)
    low, sure = (logit(0.1), 0, 0), (logit(0.95), 0, 0)
    tracker = scripted([], box, scale_rate=0.0)
    follower = LongTermTracker(tracker, PresenceConfig(lost_after=0.35, recover_after=0.2))
    follower.init(rolled(0), box)
    # the first doubtful frame takes it for turned; the others, no longer tracked, are one look
    tracker.backend.answers = [sure, low, low, (logit(0.4), 0, 0), low, low, low]
    assert follower.find(rolled(0), 0.1).turned == 0
    turned = [follower.find(rolled(0), 0.1).turned for _ in range(3)]
    assert turned == pytest.approx([25, 25, 25]) and follower.state is State.UNCERTAIN
    follower.find(rolled(0), 0.1)
    assert follower.state is State.LOST and not tracker.backend.answers
    tracker.backend.answers = [low]
    track = follower.find(rolled(0), 0.1)  # one look, where it was seen
    assert track.turned == 0 and tuple(track.box) == pytest.approx(tuple(box))


def test_a_turned_look_for_a_lost_target_leaves_no_gap():
    """Points within reach along each axis lie within the turned square of a look."""
    box = Box(0, 0, 40, 30)
    whole = reach(box, 255)
    for degrees in (0.0, 30.0, 45.0, -100.0, 180.0):
        within = reach(box, 255, degrees)
        corners = within * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]).T
        seen = rotation(-np.radians(degrees)) @ corners
        assert np.abs(seen).max() == pytest.approx(whole)


def test_the_cpu_goes_on_at_the_angle_where_a_gpu_failed(monkeypatch):
    gpu, cpu = start(), Tracker(Matching(), CARD)
    tracker = FallbackTracker(gpu, lambda: cpu, lambda _: None)
    tracker.init(rolled(0), HOME)
    for step in range(1, 10):
        tracker.find(rolled(8.0 * step))

    def fail(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(gpu.backend, "respond", fail)
    track = tracker.find(rolled(72))
    assert tracker.tracker is cpu and track.score > 0.5 and track.turned in (50, 75)


def test_a_new_target_stands_upright():
    tracker = turned_by_a_quarter()
    tracker.update(rolled(0))
    tracker.init(rolled(0), HOME)
    tracker.backend.answers = [(logit(0.9), 0, 0)]
    track = tracker.update(rolled(0))
    assert track.turned == 0 and tuple(track.box) == pytest.approx(tuple(HOME))


def test_an_ellipse_of_any_angle_fits_its_box():
    """The box of a turned target against the outline of the ellipse, point by point."""
    box = Box.from_center(160, 120, 48, 24)
    low, high = logit(0.1), logit(0.9)
    answers = [(low, 0, 0), (low, 0, 0), (high, 0, 0)]
    tracker = scripted(answers, box, turn=30.0, scale_rate=0.0)
    track = tracker.update(rolled(0))
    t = np.linspace(0, 2 * np.pi, 100_000)
    outline = rotation(np.radians(30)) @ [24 * np.cos(t), 12 * np.sin(t)]
    assert (track.box.w, track.box.h) == pytest.approx(np.ptp(outline, axis=1), abs=1e-6)


def test_the_stages_hold_all_looks():
    class Slow(Scripted):
        def respond(self, exemplar, crops):
            time.sleep(0.02)
            return super().respond(exemplar, crops)

    tracker = Tracker(Slow(), replace(CARD, score=None))
    tracker.init(rolled(0), HOME)
    tracker.backend.answers = [(logit(0.1), 0, 0)] * 3
    before = time.perf_counter()
    track = tracker.find(rolled(0))
    assert 0.06 <= track.seconds["model"] <= sum(track.seconds.values())
    assert sum(track.seconds.values()) <= time.perf_counter() - before


def test_an_error_in_a_turned_look_leaves_the_target():
    tracker = scripted([(logit(0.1), 3, 0), (np.nan, 0, 0), (logit(0.9), 0, 0)])
    with pytest.raises(Exception, match="not a number"):
        tracker.update(rolled(0))
    assert tracker._target.pose == (160, 120, 40, 40, 0)


@pytest.mark.parametrize("values", [{"turn": -1.0}, {"turn": 91.0}, {"turn_score": 1.5}])
def test_what_no_turn_can_be_is_refused(values):
    with pytest.raises(ConfigError, match="turn"):
        SearchConfig(**values)


def test_squares_stand_upright_unless_told():
    assert Square(1.0, 2.0, 3.0).turn == 0
    assert np.array_equal(rotation(0.0), np.eye(2))
    assert rotation(np.pi / 2) @ [1, 0] == pytest.approx([0, 1])

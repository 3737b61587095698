"""A frame with a low score is looked at again where the target was last seen for sure."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from look_support import BACKGROUND, CARD, HOME, Matching, logit, noise, rolled, scripted

from siamkd_core.box import Box
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.longterm import LongTermTracker
from siamkd_core.presence import PresenceConfig, State
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import SearchConfig, TrackerConfig

CELL = 8 * exemplar_side(40, 40) / 127
IMAGE = rolled(0)
LOW, SURE = logit(0.1), logit(0.9)
# three cells away is far enough for a second look, two are not: 0.3 of 40 pixels are 12
AWAY, NEAR = 3, 2


def told(answers, **config):
    return scripted(answers, turn=0.0, revisit_score=0.5, scale_rate=0.0, **config)


def centre(track):
    return (track.box.cx, track.box.cy)


def seen_at(x, y):
    side = exemplar_side(40, 40) * 255 / 127
    return crop_square(IMAGE, (x, y), side, 255, mean_colour(IMAGE))


def hidden(step):
    """The disc stands still; in the 4th to the 16th image something a little like it, which walks
    away, is in its place."""
    image = rolled(0)
    if not 4 <= step <= 16:
        return image
    alike = cv2.addWeighted(image[88:152, 128:192], 0.35, noise(5, (64, 64), 4), 0.65, 0)
    image = BACKGROUND.copy()
    x = 128 + 9 * (step - 3)
    image[88:152, x : x + 64] = alike[:, : 320 - x]
    return image


def test_what_hid_a_target_is_not_followed_for_good():
    """Without the second look the tracker is where the copy went when the target comes back."""
    found = {}
    for revisit in (0.0, 0.6):
        config = TrackerConfig(window=0.1, revisit_score=revisit)
        tracker = Tracker(Matching(), replace(CARD, tracker=config))
        tracker.init(hidden(0), HOME)
        found[revisit] = [tracker.update(hidden(step)) for step in range(1, 22)]
    for tracks in found.values():
        assert centre(tracks[1]) == pytest.approx((160, 120), abs=4)
        assert tracks[8].score < 0.6 and tracks[8].box.cx > 190  # the copy
    assert found[0.0][-1].box.cx > 220 and found[0.0][-1].score < 0.6
    assert centre(found[0.6][-1]) == pytest.approx((160, 120), abs=4)
    assert found[0.6][-1].score > 0.8


@pytest.mark.parametrize("there, cells", [(0.5, 0), (0.49, 2 * AWAY)])
def test_the_target_is_there_if_that_is_sure(there, cells):
    tracker = told([(LOW, AWAY, 0), (LOW, AWAY, 0), (logit(there), 0, 0)])
    assert centre(tracker.update(IMAGE)) == pytest.approx((160 + AWAY * CELL, 120))
    track = tracker.update(IMAGE)
    assert centre(track) == pytest.approx((160 + cells * CELL, 120))
    assert track.score == pytest.approx(there if cells == 0 else 0.1)
    # around where it was followed to, then around where it was last sure
    crops = tracker.backend.seen[1:]
    assert np.array_equal(crops[0], seen_at(160 + AWAY * CELL, 120))
    assert np.array_equal(crops[1], seen_at(160, 120))


def test_a_frame_is_one_look_where_it_is_sure_or_near():
    tracker = told([(SURE, AWAY, 0), (LOW, NEAR, 0), (LOW, AWAY, 0)])
    for _ in range(3):
        tracker.update(IMAGE)
    assert len(tracker.backend.seen) == 3


def test_the_place_is_that_of_the_last_sure_frame():
    tracker = told([(logit(0.5), AWAY, 0), (LOW, 0, AWAY), (LOW, 0, 0), (SURE, 0, 0)])
    tracker.update(IMAGE)
    tracker.update(IMAGE)
    track = tracker.update(IMAGE)
    assert centre(track) == pytest.approx((160 + AWAY * CELL, 120))
    assert np.array_equal(tracker.backend.seen[-1], seen_at(160 + AWAY * CELL, 120))


def test_a_score_of_nothing_never_looks_again():
    tracker = scripted([(LOW, AWAY, 0)] * 3, turn=0.0, scale_rate=0.0)
    track = [tracker.update(IMAGE) for _ in range(3)][-1]
    assert len(tracker.backend.seen) == 3
    assert centre(track) == pytest.approx((160 + 3 * AWAY * CELL, 120))


def test_a_tracker_that_was_moved_does_not_look_back():
    """Who moves it knows better; a lost target's next place is not the one it was lost at."""
    tracker = told([(LOW, 0, 0)])
    tracker.move_to(Box(200, 60, 40, 40))
    track = tracker.update(IMAGE)
    assert centre(track) == pytest.approx((220, 80)) and len(tracker.backend.seen) == 1


def test_a_lost_target_is_looked_for_in_one_look_an_image():
    tracker = told([])
    follower = LongTermTracker(tracker, PresenceConfig(lost_after=0.25, recover_after=0.2))
    follower.init(IMAGE, HOME)
    # uncertain: two looks as soon as it has wandered off
    tracker.backend.answers = [(LOW, AWAY, 0), (LOW, AWAY, 0), (LOW, 0, 0), (LOW, AWAY, 0)]
    tracker.backend.answers.append((LOW, 0, 0))
    for _ in range(3):
        follower.find(IMAGE, 0.1)
    assert follower.state is State.LOST and not tracker.backend.answers
    for _ in range(4):
        tracker.backend.answers = [(LOW, AWAY, 0)]
        follower.find(IMAGE, 0.1)


def test_a_target_that_is_lost_in_images_that_fail_is_one_look_too():
    """Nothing has moved the tracker from where it wandered to."""
    tracker = told([])
    follower = LongTermTracker(tracker, PresenceConfig(lost_after=0.25, recover_after=0.2))
    follower.init(IMAGE, HOME)
    tracker.backend.answers = [(LOW, AWAY, 0), (LOW, AWAY, 0), (LOW, 0, 0)]
    follower.find(IMAGE, 0.1)
    follower.find(IMAGE, 0.1)
    follower.miss(0.1)
    assert follower.state is State.LOST
    tracker.backend.answers = [(LOW, AWAY, 0)]
    follower.find(IMAGE, 0.1)


def test_what_is_looked_at_is_the_pose_of_then():
    """Its size and its angle too; in between the target was taken for another size, upright."""
    box = Box.from_center(160, 120, 48, 24)
    tracker = scripted([], box, turn=0.0, revisit_score=0.5, scale_rate=0.0)
    tracker.move_to(box, 30.0)
    tracker.backend.answers = [(SURE, 0, 0)]
    tracker.update(IMAGE)
    tracker._target.pose = tracker._target.pose._replace(cx=200.0, w=20.0, h=60.0, turn=0.0)
    tracker.backend.answers = [(LOW, 0, 0), (SURE, 0, 0)]
    assert tracker.update(IMAGE).pose == (pytest.approx(tuple(box)), pytest.approx(30))


def test_the_turned_looks_come_first():
    """One that is sure leaves no reason to look where it was before."""
    low, turned = (LOW, AWAY, 0), (SURE, 0, 0)
    tracker = scripted([low] * 3, turn=25.0, revisit_score=0.5, scale_rate=0.0)
    tracker.update(IMAGE)  # 3 cells away, but there yet
    assert len(tracker.backend.seen) == 3
    tracker.backend.answers = [low, low, turned]
    assert tracker.update(IMAGE).turned == pytest.approx(25)
    tracker = scripted([low] * 3, turn=25.0, revisit_score=0.5, scale_rate=0.0)
    tracker.update(IMAGE)
    tracker.backend.answers = [low, low, low, (SURE, 0, 0)]
    track = tracker.update(IMAGE)
    assert centre(track) == pytest.approx((160, 120)) and track.turned == 0


def test_an_error_in_the_second_look_leaves_the_target():
    tracker = told([(LOW, AWAY, 0), (LOW, AWAY, 0), (np.nan, 0, 0)])
    tracker.update(IMAGE)
    before = tracker._target.pose, tracker._target.sure
    with pytest.raises(SiamkdError, match="not a number"):
        tracker.update(IMAGE)
    assert (tracker._target.pose, tracker._target.sure) == before


def test_both_looks_are_in_the_seconds():
    tracker = told([(LOW, AWAY, 0), (LOW, 0, 0), (LOW, 0, 0)])
    tracker.update(IMAGE)
    looks = []
    look = tracker._pipeline.look

    def counted(*args):
        found = look(*args)
        looks.extend(found)
        return found

    tracker._pipeline.look = counted
    seconds = tracker.find(IMAGE).seconds
    assert len(looks) == 2
    for stage in ("model", "post", "verify"):
        assert seconds[stage] == pytest.approx(sum(getattr(one, stage) for one in looks))


def test_what_no_score_can_be_is_refused():
    with pytest.raises(ConfigError, match=r"revisit_score must lie in 0\.\.1, got 1\.5"):
        SearchConfig(revisit_score=1.5)

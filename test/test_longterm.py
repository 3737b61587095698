"""siamkd_core.longterm: state and search, with a tracker that is told what to find."""

from __future__ import annotations

import numpy as np
import pytest

from siamkd_core.box import Box
from siamkd_core.errors import ImageError
from siamkd_core.image import Image
from siamkd_core.longterm import LongTermTracker
from siamkd_core.presence import PresenceConfig, State
from siamkd_core.tracker import Track

IMAGE = np.zeros((48, 64, 3), np.uint8)
BOX = Box(10, 10, 20, 20)
FRAME = 0.1


class Told:
    """Moves one pixel to the right in every image; reports the score it is given."""

    def __init__(self) -> None:
        self.box: Box | None = None
        self.score = 0.9
        self.broken = False
        self.learnt: list[bool] = []

    @property
    def initialised(self) -> bool:
        return self.box is not None

    def init(self, image: Image, box: Box) -> None:
        if self.broken:
            raise ImageError("broken")
        self.box = box

    def update(self, image: Image, learn: bool = True) -> Track:
        self.learnt.append(learn)
        if self.broken:
            raise ImageError("broken")
        assert self.box
        self.box = self.box._replace(x=self.box.x + 1)
        return Track(self.box, self.score, 0.0, 0.0, {})

    def move_to(self, box: Box) -> None:
        self.box = box

    def reset(self) -> None:
        self.box = None


def follow(tracker: LongTermTracker, count: int) -> list[State]:
    states = []
    for _ in range(count):
        tracker.update(IMAGE, FRAME)
        states.append(tracker.state)
    return states


def start() -> tuple[Told, LongTermTracker]:
    told = Told()
    tracker = LongTermTracker(told, PresenceConfig(lost_after=0.5, recover_after=0.15))
    tracker.init(IMAGE, BOX)
    return told, tracker


def test_a_lost_target_is_searched_where_it_was_last_seen() -> None:
    told, tracker = start()
    follow(tracker, 5)
    seen = told.box
    assert seen == Box(15, 10, 20, 20)
    told.score = 0.1
    states = follow(tracker, 8)
    assert states == [State.UNCERTAIN] * 4 + [State.LOST] * 4
    assert told.box == seen
    assert tracker.unseen == pytest.approx(0.8)
    # between uncertain and recover: still elsewhere; above recover: followed until it has lasted
    told.score = 0.95
    assert follow(tracker, 2) == [State.LOST, State.TRACKING]
    assert told.box == Box(17, 10, 20, 20)


def test_an_uncertain_target_is_followed_on() -> None:
    told, tracker = start()
    told.score = 0.1
    assert follow(tracker, 3) == [State.UNCERTAIN] * 3
    assert told.box == Box(13, 10, 20, 20)


def test_only_what_is_seen_for_sure_is_learnt_from() -> None:
    told, tracker = start()
    follow(tracker, 2)
    told.score = 0.1
    follow(tracker, 8)
    assert tracker.state is State.LOST
    told.learnt.clear()
    told.score = 0.55  # enough for an exemplar, not enough to be found again
    follow(tracker, 5)
    assert tracker.state is State.LOST
    assert told.learnt == [False] * 5
    told.score = 0.9
    assert follow(tracker, 2)[-1] is State.TRACKING
    told.learnt.clear()
    follow(tracker, 2)
    assert told.learnt == [True, True]


def test_thresholds_can_change_while_tracking() -> None:
    told, tracker = start()
    told.score = 0.4
    assert follow(tracker, 1) == [State.TRACKING]
    tracker.config = PresenceConfig(uncertain_score=0.45)
    assert follow(tracker, 1) == [State.UNCERTAIN]


def test_another_size_of_the_same_view() -> None:
    told, tracker = start()
    follow(tracker, 5)
    tracker.rescale(2.0)
    assert told.box == Box(30, 20, 40, 40)
    told.score = 0.0
    follow(tracker, 9)
    assert tracker.state is State.LOST
    assert told.box == Box(30, 20, 40, 40)


def test_an_unusable_image_changes_nothing() -> None:
    told, tracker = start()
    told.score = 0.1
    follow(tracker, 3)
    before = (tracker.state, tracker.score, tracker.unseen, told.box)
    told.broken = True
    with pytest.raises(ImageError):
        tracker.update(IMAGE, FRAME)
    with pytest.raises(ImageError):
        tracker.init(IMAGE, Box(1, 1, 5, 5))
    assert (tracker.state, tracker.score, tracker.unseen, told.box) == before


def test_reset_is_idle() -> None:
    _, tracker = start()
    assert tracker.state is State.TRACKING and tracker.score == 1.0
    tracker.reset()
    assert tracker.state is State.IDLE
    assert not tracker.initialised and tracker.score == 0.0

"""siamkd_core.longterm: state and search, with a tracker that is told what to find."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import NAN, picture

from siamkd_core.box import Box, iou
from siamkd_core.errors import ImageError
from siamkd_core.image import Image
from siamkd_core.longterm import LongTermTracker
from siamkd_core.modelfile import SHIPPED
from siamkd_core.presence import PresenceConfig, State
from siamkd_core.rescan import reach
from siamkd_core.tracker import Track, load_tracker
from siamkd_core.tracker_config import SearchConfig

IMAGE = np.zeros((48, 64, 3), np.uint8)
BOX = Box(10, 10, 20, 20)
FRAME = 0.1


class Told:
    """Moves one pixel to the right in every image; reports the score it is given."""

    config = SearchConfig()

    def __init__(self) -> None:
        self.box: Box | None = None
        self.score = 0.9
        self.broken = False
        self.learnt: list[bool] = []
        self.turned: list[bool] = []
        self.revisited: list[bool] = []

    @property
    def initialised(self) -> bool:
        return self.box is not None

    def init(self, image: Image, box: Box) -> None:
        if self.broken:
            raise ImageError("broken")
        self.box = box

    def find(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        self.learnt.append(learn)
        self.turned.append(turn)
        self.revisited.append(revisit)
        if self.broken:
            raise ImageError("broken")
        assert self.box
        self.box = self.box._replace(x=self.box.x + 1)
        return Track(self.box, self.score, 0.0, 0.0, {})

    def learn(self) -> float:
        return 0.25

    def move_to(self, box: Box, turned: float = 0.0) -> None:
        self.box = box

    def reset(self) -> None:
        self.box = None


def follow(tracker: LongTermTracker, count: int) -> list[State]:
    states = []
    for _ in range(count):
        tracker.find(IMAGE, FRAME)
        states.append(tracker.state)
    return states


def start() -> tuple[Told, LongTermTracker]:
    told = Told()
    tracker = LongTermTracker(told, PresenceConfig(lost_after=0.5, recover_after=0.15))
    tracker.init(IMAGE, BOX)
    return told, tracker


def test_a_lost_target_is_looked_for_where_it_was_last_seen_first() -> None:
    told, tracker = start()
    follow(tracker, 5)
    seen = told.box
    assert seen == Box(15, 10, 20, 20)
    told.score = 0.1
    states = follow(tracker, 5)
    assert states == [State.UNCERTAIN] * 4 + [State.LOST]
    assert told.box == seen
    assert tracker.unseen == pytest.approx(0.5)
    # above recover_score it is followed until that has lasted
    told.score = 0.95
    assert follow(tracker, 3) == [State.LOST, State.LOST, State.TRACKING]
    assert told.box == Box(18, 10, 20, 20)


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
    assert follow(tracker, 3)[-1] is State.TRACKING
    told.learnt.clear()
    follow(tracker, 2)
    assert told.learnt == [True, True]


def test_a_target_that_is_not_tracked_is_not_looked_for_turned() -> None:
    """That would be three looks an image, and three chances to take something else for it."""
    told, tracker = start()
    follow(tracker, 2)
    told.score, states = 0.1, [State.TRACKING]
    told.turned.clear()
    told.revisited.clear()
    states += follow(tracker, 8)
    assert State.UNCERTAIN in states and states[-1] is State.LOST
    # by the state before each image
    assert told.turned == [state is State.TRACKING for state in states[:-1]]
    # where it was last sure, until it is lost
    assert told.revisited == [state is not State.LOST for state in states[:-1]]


def test_a_single_high_score_is_not_learnt_from_and_no_place_to_return_to() -> None:
    told, tracker = start()
    follow(tracker, 5)
    seen = told.box
    told.learnt.clear()
    for score in (0.1, 0.95, 0.1, 0.95, 0.1, 0.95, 0.1, 0.95):
        told.score = score
        assert follow(tracker, 1) == [State.UNCERTAIN]
    assert told.learnt == [True] + [False] * 7
    told.score = 0.1
    assert follow(tracker, 1) == [State.LOST]
    assert told.box == seen


def test_thresholds_can_change_while_tracking() -> None:
    told, tracker = start()
    told.score = 0.6
    assert follow(tracker, 1) == [State.TRACKING]
    tracker.config = PresenceConfig(uncertain_score=0.65)
    assert follow(tracker, 1) == [State.UNCERTAIN]


def test_an_image_of_which_nothing_can_be_told_does_not_show_the_target() -> None:
    (told, tracker), (unseen, other) = start(), start()
    unseen.score, states = 0.0, []
    for _ in range(12):
        tracker.miss(FRAME)
        states.append(tracker.state)
    assert states == follow(other, 12) and states[-1] is State.LOST
    assert tracker.score == 0 and tracker.unseen == pytest.approx(1.2)
    assert tracker.initialised and told.box == BOX, "it is looked for from where it was"
    assert State.TRACKING in follow(tracker, 5)


def test_another_size_of_the_same_view() -> None:
    told, tracker = start()
    follow(tracker, 5)
    tracker.rescale(2.0)
    assert told.box == Box(30, 20, 40, 40)
    told.score = 0.0
    follow(tracker, 5)
    assert tracker.state is State.LOST
    assert told.box == Box(30, 20, 40, 40)


def test_an_unusable_image_changes_nothing() -> None:
    told, tracker = start()
    told.score = 0.1
    follow(tracker, 3)
    before = (tracker.state, tracker.score, tracker.unseen, told.box)
    told.broken = True
    with pytest.raises(ImageError):
        tracker.find(IMAGE, FRAME)
    with pytest.raises(ImageError):
        tracker.init(IMAGE, Box(1, 1, 5, 5))
    assert (tracker.state, tracker.score, tracker.unseen, told.box) == before


def test_reset_is_idle() -> None:
    _, tracker = start()
    assert tracker.state is State.TRACKING and tracker.score == 1.0
    tracker.reset()
    assert tracker.state is State.IDLE
    assert not tracker.initialised and tracker.score == 0.0


WIDE = np.zeros((480, 640, 3), np.uint8)
CONFIG = PresenceConfig(lost_after=0.3, recover_after=0.15)


class Seeing:
    """Finds what is there within its reach, and counts its looks."""

    config = SearchConfig()

    def __init__(self) -> None:
        self.box = Box(0.0, 0.0, 0.0, 0.0)
        self.there: dict[Box, float] = {}  # what looks like the target, with its score
        self.looks = 0

    @property
    def initialised(self) -> bool:
        return True

    def init(self, image: Image, box: Box) -> None:
        self.box = box

    def find(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        self.looks += 1
        within = reach(self.box, self.config.search_size)
        score = 0.05
        for box, value in self.there.items():
            near = max(abs(box.cx - self.box.cx), abs(box.cy - self.box.cy)) <= within
            if near and value > score:
                score, found = value, box
        if score > 0.05:
            self.box = found
        return Track(self.box, score, 0.0, 0.0, {})

    def move_to(self, box: Box, turned: float = 0.0) -> None:
        self.box = box

    def reset(self) -> None: ...


def lose(image: Image = WIDE) -> tuple[Seeing, LongTermTracker]:
    """A target of 40x40 that was last seen in the left top of the image, and is gone."""
    seeing = Seeing()
    tracker = LongTermTracker(seeing, CONFIG)
    home = Box(60, 50, 40, 40)
    seeing.there = {home: 0.9}
    tracker.init(image, home)
    tracker.find(image, FRAME)
    assert tracker.state is State.TRACKING
    seeing.there = {}
    for _ in range(3):
        tracker.find(image, FRAME)
    assert tracker.state is State.LOST
    return seeing, tracker


def images_until_found(tracker: LongTermTracker, image: Image = WIDE, limit: int = 400) -> int:
    for count in range(1, limit + 1):
        tracker.find(image, FRAME)
        if tracker.state is State.TRACKING:
            return count
    pytest.fail("not found again")


# 80 px of context square: places 60 px apart, 11 by 9 of them; a third of the looks is at home, and
# the windows before the last hold fewer places together than the last
BOUND = round(11 * 9 * 1.5 * 2)


@pytest.mark.parametrize("x", [0, 300, 600])
@pytest.mark.parametrize("y", [0, 220, 440])
def test_a_target_that_comes_back_elsewhere_is_found(x: int, y: int) -> None:
    seeing, tracker = lose()
    elsewhere = Box(x, y, 40, 40)
    seeing.there = {elsewhere: 0.8}
    assert images_until_found(tracker) <= BOUND
    assert seeing.box == elsewhere


def test_a_target_half_out_of_the_image_is_found() -> None:
    seeing, tracker = lose()
    seeing.there = {Box(620, 450, 40, 40): 0.8}
    assert images_until_found(tracker) <= BOUND


def test_an_image_without_the_target_costs_one_look() -> None:
    seeing, tracker = lose()
    for _ in range(300):
        before = seeing.looks
        tracker.find(WIDE, FRAME)
        assert seeing.looks == before + 1
    assert tracker.state is State.LOST


def test_a_target_that_comes_back_where_it_went_is_found_at_once() -> None:
    seeing, tracker = lose()
    for _ in range(50):
        tracker.find(WIDE, FRAME)
    seeing.there = {Box(65, 55, 40, 40): 0.8}
    # the third look at the latest, and 0.15 s of it
    assert images_until_found(tracker) <= 3 + 2


def test_what_is_not_alike_enough_is_not_followed() -> None:
    seeing, tracker = lose()
    alike = Box(90, 90, 40, 40)
    seeing.there = {alike: 0.55}  # enough for an uncertain target
    for _ in range(100):
        tracker.find(WIDE, FRAME)
        assert tracker.state is State.LOST
        assert seeing.box != alike
    assert tracker.unseen == pytest.approx(0.1 * 103)
    # and it hides nothing
    seeing.there[Box(600, 440, 40, 40)] = 0.8
    assert images_until_found(tracker) <= BOUND


def test_what_does_not_last_is_not_the_target_and_the_search_goes_on() -> None:
    seeing, tracker = lose()
    far = Box(600, 440, 40, 40)
    seeing.there = {far: 0.8}
    for _ in range(BOUND):
        tracker.find(WIDE, FRAME)
        if seeing.box == far:
            break
    assert seeing.box == far and tracker.state is State.LOST
    seeing.there = {}
    tracker.find(WIDE, FRAME)
    assert tracker.state is State.LOST and seeing.box != far
    seeing.there = {Box(10, 440, 40, 40): 0.8}
    assert images_until_found(tracker) <= BOUND


def test_the_search_fits_another_image_size() -> None:
    seeing, tracker = lose()
    for _ in range(20):
        tracker.find(WIDE, FRAME)
    double = np.zeros((960, 1280, 3), np.uint8)
    tracker.rescale(2.0)
    seeing.there = {Box(1200, 880, 80, 80): 0.8}
    assert images_until_found(tracker, double) <= BOUND
    assert seeing.box.w == 80


def test_thresholds_can_change_while_the_target_is_lost() -> None:
    seeing, tracker = lose()
    seeing.there = {Box(300, 220, 40, 40): 0.85}
    tracker.config = PresenceConfig(recover_score=0.9)
    for _ in range(BOUND):
        tracker.find(WIDE, FRAME)
    assert tracker.state is State.LOST
    tracker.config = CONFIG
    assert images_until_found(tracker) <= BOUND


@pytest.mark.skipif(
    not (SHIPPED / "siamfc.safetensors").exists(), reason="no trained model is here yet"
)
def test_the_shipped_model_finds_a_target_at_the_other_side_of_the_image() -> None:
    config = PresenceConfig(lost_after=0.3, recover_after=0.15)
    tracker = LongTermTracker(load_tracker("siamfc", "cpu"), config)
    before, after = Box(20, 20, 32, 32), Box(280, 170, 32, 32)
    gone = picture(NAN, 320, 240)
    tracker.init(picture(before, 320, 240), before)
    for _ in range(3):
        tracker.find(picture(before, 320, 240), FRAME)
    assert tracker.state is State.TRACKING
    for _ in range(10):
        tracker.find(gone, FRAME)
    assert tracker.state is State.LOST
    # 48 px apart, seven by six places at most
    for _ in range(7 * 6 * 3):
        track = tracker.find(picture(after, 320, 240), FRAME)
        if tracker.state is State.TRACKING:
            break
    assert tracker.state is State.TRACKING
    assert iou(np.array(track.box), np.array(after))[0] > 0.5

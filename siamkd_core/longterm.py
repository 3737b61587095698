"""A tracker that knows when its target is gone and looks for it: short-term tracker + presence.

In the terms of the VOT-LT challenge: it reports absence, and finds the target again wherever in the
image it comes back. One look an image once it is lost, so that costs no more than tracking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from siamkd_core.box import Box
from siamkd_core.image import Image
from siamkd_core.presence import Presence, PresenceConfig, State
from siamkd_core.rescan import looks, reach
from siamkd_core.tracker import Track
from siamkd_core.tracker_config import SearchConfig


class ShortTermTracker(Protocol):
    """What is used of :class:`siamkd_core.tracker.Tracker`."""

    @property
    def initialised(self) -> bool: ...

    @property
    def config(self) -> SearchConfig: ...

    def init(self, image: Image, box: Box) -> None: ...

    def find(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track: ...

    def learn(self) -> float: ...

    def move_to(self, box: Box, turned: float = 0.0) -> None: ...

    def reset(self) -> None: ...


class LongTermTracker:
    """Follows one target and judges in every image whether it is there.

    A lost target is looked for at one place an image, in the order of
    :func:`siamkd_core.rescan.looks`, in the size and at the angle it was last seen in. What scores
    ``recover_score`` there is followed; it is the target once that has lasted ``recover_after``,
    and otherwise the search goes on at the next place.

    An error in :meth:`init` or :meth:`find` leaves the target and the state as they were.

    Attributes:
        config: thresholds; may be replaced at any time.
        score: of the latest image, 0 to 1; 1 after :meth:`init`, 0 without a target.
    """

    def __init__(self, tracker: ShortTermTracker, config: PresenceConfig | None = None) -> None:
        self.config = config or PresenceConfig()
        self.score = 0.0
        self._tracker = tracker
        self._presence = Presence(self.config)
        # where the target was last seen for sure, turned back, and the degrees
        self._seen, self._turned = Box(0.0, 0.0, 0.0, 0.0), 0.0
        self._places: Iterator[Box] | None = None  # where to look next; None while not lost
        self._size = (0, 0)  # (width, height) of the image that they belong to

    @property
    def state(self) -> State:
        return self._presence.state

    @property
    def unseen(self) -> float:
        """Seconds of video since the target was last seen."""
        return self._presence.unseen

    @property
    def initialised(self) -> bool:
        return self._tracker.initialised

    def init(self, image: Image, box: Box) -> None:
        """Take a new target: tracking.

        Args:
            image: (H, W, 3) uint8 BGR.
            box: x, y, w, h in its pixels.

        Raises:
            ImageError, BoxError: cannot be tracked.
        """
        self._tracker.init(image, box)
        self._seen, self._turned, self.score, self._places = box, 0.0, 1.0, None
        self._presence = Presence(self.config)
        self._presence.start()

    def find(self, image: Image, elapsed: float) -> Track:
        """Find the target in the next image; :attr:`state` says whether the box is to be believed.
        Then :meth:`learn`, when there is time.

        Args:
            image: (H, W, 3) uint8 BGR; it must not change before :meth:`learn`.
            elapsed: seconds of video since the image before.

        Raises:
            SiamkdError, ImageError: as :meth:`siamkd_core.tracker.Tracker.find`.
        """
        # what is looked at while the target is not seen for sure may be something else, and every
        # turned look is a chance to take something else for it
        sure, lost = (self.state is state for state in (State.TRACKING, State.LOST))
        track = self._tracker.find(image, learn=sure, turn=sure, revisit=not lost)
        self._presence.config = self.config
        self.score = track.score
        state = self._presence.update(track.score, elapsed)
        if state is State.TRACKING:
            (self._seen, self._turned), self._places = track.pose, None
        elif state is State.LOST and not track.score >= self.config.recover_score:
            # what is not the target must not be followed
            self._tracker.move_to(self._next_place(image), self._turned)
        return track

    def miss(self, elapsed: float) -> None:
        """Nothing can be told of an image: as one that does not show the target.

        Args:
            elapsed: seconds of video since the image before.
        """
        self._presence.config, self.score = self.config, 0.0
        # below every threshold, one of 0 too
        self._presence.update(math.nan, elapsed)

    def learn(self) -> float:
        """As :meth:`siamkd_core.tracker.Tracker.learn`; the seconds that it took."""
        return self._tracker.learn()

    def _next_place(self, image: Image) -> Box:
        size = (image.shape[1], image.shape[0])
        if self._places is None or size != self._size:
            found_within = reach(self._seen, self._tracker.config.search_size, self._turned)
            self._places, self._size = looks(self._seen, size, found_within), size
        return next(self._places)

    def rescale(self, factor: float) -> None:
        """The next images show the same view, ``factor`` times as large.

        Raises:
            SiamkdError: no target.
        """
        self._seen, self._places = Box(*(factor * value for value in self._seen)), None
        self._tracker.move_to(self._seen, self._turned)

    def reset(self) -> None:
        """Forget the target: idle."""
        self._tracker.reset()
        self._presence.stop()
        self.score = 0.0

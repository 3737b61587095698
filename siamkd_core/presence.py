"""Is the target there? A state from the score over time, with hysteresis. No ROS in it.

    idle       no target was given
    tracking   the target is there
    uncertain  the score fell below `uncertain_score`; the box is still reported
    lost       frames below it came to `lost_after` in all; no box is reported

Between two thresholds the state stays what it was, so a score that flickers around one value does
not make the state flicker. A single high score is no return: what a tracker follows after its
target has gone resembles it now and then. An uncertain target is tracked again, and the time that
counts towards `lost_after` begins anew, once the score has stayed at or above `tracking_score` for
`recover_after`; a lost one once it has stayed at or above `recover_score`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from siamkd_core.errors import ConfigError

# A gap in the stream (a camera that restarts) is not evidence that the target is gone: one frame
# counts for at most this long.
MAX_STEP = 0.5

# Six frames of 1/30 s are 0.2 s, whatever their sum in floating point is.
ROUNDING = 1e-6


class State(str, Enum):
    """The tracking state; its value is the word used in messages."""

    IDLE = "idle"
    TRACKING = "tracking"
    UNCERTAIN = "uncertain"
    LOST = "lost"


@dataclass(frozen=True)
class PresenceConfig:
    """Thresholds on the score (0 to 1) and times in seconds.

    Raises:
        ConfigError: not 0 <= uncertain_score <= tracking_score <= recover_score <= 1, or a time
            below 0.
    """

    uncertain_score: float = 0.5
    tracking_score: float = 0.7
    recover_score: float = 0.8
    lost_after: float = 1.0
    recover_after: float = 0.2

    def __post_init__(self) -> None:
        ladder = (0.0, self.uncertain_score, self.tracking_score, self.recover_score, 1.0)
        if not all(low <= high for low, high in pairwise(ladder)):
            raise ConfigError(
                "needed: 0 <= uncertain_score <= tracking_score <= recover_score <= 1; got "
                f"{self.uncertain_score:g}, {self.tracking_score:g}, {self.recover_score:g}"
            )
        if not (self.lost_after >= 0 and self.recover_after >= 0):
            raise ConfigError(
                f"lost_after ({self.lost_after:g} s) and recover_after ({self.recover_after:g} s) "
                "must not be negative"
            )


class Presence:
    """The state of one target.

    Attributes:
        state: see the module's table.
        unseen: seconds of video since a tracked target last scored `tracking_score` or above.
    """

    def __init__(self, config: PresenceConfig | None = None) -> None:
        self.config = config or PresenceConfig()
        self.state = State.IDLE
        self.unseen: float
        # how long the score was below uncertain_score since the target was last tracked
        self._low: float
        # how long it has been at tracking_score, and at recover_score, or above; None: it is not
        self._seen: float | None
        self._high: float | None
        self._clear()

    def start(self) -> State:
        """A target was given: tracking."""
        self._clear()
        self.state = State.TRACKING
        return self.state

    def stop(self) -> State:
        """The target was taken away: idle."""
        self._clear()
        self.state = State.IDLE
        return self.state

    def update(self, score: float, elapsed: float) -> State:
        """Take one frame's score in.

        Args:
            score: 0 to 1, that the target is there. Not a number counts as 0.
            elapsed: seconds of video since the frame before.
        """
        if self.state is State.IDLE:
            return self.state
        config = self.config
        elapsed = min(max(elapsed, 0.0), MAX_STEP)
        seen = score >= config.tracking_score
        self._seen = _lasted(self._seen, seen, elapsed)
        self._high = _lasted(self._high, score >= config.recover_score, elapsed)
        if self.state is State.TRACKING:
            self._low = 0.0
        if not score >= config.uncertain_score:
            self._low += elapsed
        self.state = self._next(score)
        # what scores high before that may be anything
        self.unseen = 0.0 if seen and self.state is State.TRACKING else self.unseen + elapsed
        return self.state

    def _next(self, score: float) -> State:
        config = self.config
        if self.state is State.LOST:
            back = self._high is not None and self._high >= config.recover_after - ROUNDING
        elif self.state is State.UNCERTAIN:
            back = self._seen is not None and self._seen >= config.recover_after - ROUNDING
        else:
            back = score >= config.uncertain_score
        if back:
            return State.TRACKING
        lost = self.state is State.LOST or self._low >= config.lost_after - ROUNDING
        return State.LOST if lost else State.UNCERTAIN

    def _clear(self) -> None:
        self.unseen = self._low = 0.0
        self._seen = self._high = None


def _lasted(before: float | None, now: bool, elapsed: float) -> float | None:
    """How long something has lasted: from its first frame on, not from the one before."""
    if not now:
        return None
    return 0.0 if before is None else before + elapsed

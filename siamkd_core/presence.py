"""Is the target there? A state from the score over time, with hysteresis. No ROS in it.

    idle       no target was given
    tracking   the target is there
    uncertain  the score fell below `uncertain_score`; the box is still reported
    lost       it stayed there for `lost_after`; no box is reported

Between two thresholds the state stays what it was, so a score that flickers around one value does
not make the state flicker. A lost target comes back only on a higher score that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from siamkd_core.errors import ConfigError

# A gap in the stream (a camera that restarts) is not evidence that the target is gone: one frame
# counts for at most this long.
MAX_STEP = 0.5


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

    uncertain_score: float = 0.3
    tracking_score: float = 0.5
    recover_score: float = 0.6
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
        unseen: seconds of video since the score was last at `tracking_score` or above; a lost
            target's counts until it is back.
    """

    def __init__(self, config: PresenceConfig | None = None) -> None:
        self.config = config or PresenceConfig()
        self.state = State.IDLE
        self.unseen = 0.0
        self._low = 0.0  # how long the score has been below uncertain_score
        self._high = 0.0  # how long a lost target's score has been at recover_score or above

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
        if seen:
            self._low = 0.0
        elif not score >= config.uncertain_score:
            self._low += elapsed
        self._high = self._high + elapsed if score >= config.recover_score else 0.0
        self.state = self._next(score)
        # what scores high while the target is lost may be anything
        self.unseen = 0.0 if seen and self.state is not State.LOST else self.unseen + elapsed
        return self.state

    def _next(self, score: float) -> State:
        config = self.config
        if self.state is State.LOST:
            back = score >= config.recover_score and self._high >= config.recover_after
            return State.TRACKING if back else State.LOST
        if score >= config.tracking_score:
            return State.TRACKING
        if self.state is State.UNCERTAIN or not score >= config.uncertain_score:
            return State.LOST if self._low >= config.lost_after else State.UNCERTAIN
        return State.TRACKING

    def _clear(self) -> None:
        self.unseen = self._low = self._high = 0.0

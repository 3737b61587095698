"""The newest frame of a live source: a thread keeps up with it, so that no old frame queues up."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image
from siamkd_core.video import FrameSource

CLOSE_TIMEOUT = 2.0
"""Seconds that closing waits for the frame being read: a dead device may never give it."""


class Taken(NamedTuple):
    """A frame, (H, W, 3) uint8 BGR, and when the device gave it (``time.monotonic`` seconds)."""

    image: Image
    at: float


class NewestFrame:
    """Reads a source at its own pace and keeps the newest frame only.

    A driver queues frames that nobody fetches; a reader slower than the device would get each
    of them late.

    Args:
        source: a live one; this object closes it.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._condition = threading.Condition()
        self._taken: Taken | None = None
        self._ended = ""
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def take(self, timeout: float = 0.0) -> Taken | None:
        """The newest frame that was not taken yet; None if none comes within ``timeout`` seconds.

        Raises:
            SiamkdError: the source has ended; a live one should not.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._taken or self._ended, timeout)
            taken, self._taken = self._taken, None
            if taken is None and self._ended:
                raise SiamkdError(self._ended)
            return taken

    def close(self) -> None:
        """Stop reading and give the device back."""
        self._closing = True
        self._thread.join(CLOSE_TIMEOUT)
        self._source.close()

    def _read(self) -> None:
        ended = f"{self._source.name} gives no images any more: is it still plugged in?"
        try:
            for image in self._source:
                if self._closing:
                    break
                with self._condition:
                    self._taken = Taken(image, time.monotonic())
                    self._condition.notify()
        except Exception as error:  # said by take() instead of dying in this thread
            ended = f"{self._source.name}: {error}"
        with self._condition:
            self._ended = ended
            self._condition.notify()

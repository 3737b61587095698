"""siamkd_core.newest: a slow reader of a live source gets the newest frame, and its end is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image
from siamkd_core.newest import NewestFrame
from siamkd_core.video import FrameSource


class Device(FrameSource):
    """Gives a numbered frame whenever it is told to."""

    name, live, size = "video7", True, (4, 4)

    def __init__(self) -> None:
        self.told = threading.Semaphore(0)
        self.fails: Exception | None = None
        self.unplugged = self.closed = False
        self.given = 0

    def give(self, count: int = 1) -> None:
        before = self.given
        for _ in range(count):
            self.told.release()
        while self.given < before + count:
            time.sleep(0.001)

    def end(self) -> None:
        self.unplugged = True
        self.told.release()

    def __iter__(self) -> Iterator[Image]:
        while True:
            self.told.acquire()
            if self.fails:
                raise self.fails
            if self.unplugged:
                return
            frame = np.full((4, 4, 3), self.given, np.uint8)
            yield frame
            self.given += 1  # the reader has come back for the next one

    def close(self) -> None:
        self.closed = True


def test_only_the_newest_frame_once_and_with_its_own_time() -> None:
    device = Device()
    newest = NewestFrame(device)
    assert newest.take() is None
    before = time.monotonic()
    device.give(3)
    after = time.monotonic()
    time.sleep(0.05)
    taken = newest.take()
    assert taken and taken.image[0, 0, 0] == 2
    assert before <= taken.at <= after  # when it was read, not when it was fetched
    assert newest.take() is None
    device.end()
    newest.close()
    assert device.closed


def test_taking_waits_for_a_frame() -> None:
    device = Device()
    with closing(NewestFrame(device)) as newest:
        threading.Timer(0.1, device.give).start()
        taken = newest.take(timeout=20)
        assert taken and taken.image[0, 0, 0] == 0
        device.end()


@pytest.mark.parametrize("error", [None, RuntimeError("bus reset")])
def test_the_end_is_said_after_the_last_frame(error: Exception | None) -> None:
    device = Device()
    with closing(NewestFrame(device)) as newest:
        device.give()
        device.fails = error
        device.end()
        while not newest._ended:
            time.sleep(0.001)
        assert newest.take() is not None
        with pytest.raises(SiamkdError, match=str(error) if error else "video7.*plugged in"):
            newest.take()

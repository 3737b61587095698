"""The demo's record: every box drawn on the image whose stamp it carries."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from demo_listener import Result

from siamkd_core.box import Box
from siamkd_core.draw import LOST, TRUTH, EvenSample, contact_sheet, draw_track
from siamkd_core.image import Image
from siamkd_core.modelfile import write_atomically
from siamkd_core.video import VideoWriter

MIN_WIDTH = 640
"""Pixels; a smaller picture is enlarged, so that its text can be read."""
PATIENCE = 300
"""Images that wait for a result before the oldest is taken as passed over."""

T = TypeVar("T")


class Pairing(Generic[T]):
    """Puts images and results of equal stamps together; both must come in order of their stamps.

    An image without a result (the tracker took a newer one instead) comes out with None, as soon as
    a result for a later image shows that there will be none.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._images: deque[tuple[int, T]] = deque()
        self._results: deque[Result] = deque()

    def add_image(self, stamp: int, image: T) -> None:
        self._images.append((stamp, image))

    def add_result(self, result: Result) -> None:
        self._results.append(result)

    def take(self, finished: bool = False) -> Iterator[tuple[int, T, Result | None]]:
        """Stamp, image and result of all that is decided; with `finished`, of all that is left."""
        while self._images:
            stamp, image = self._images[0]
            while self._results and self._results[0].stamp < stamp:
                self._results.popleft()  # its image did not reach us
            decided = bool(self._results) or len(self._images) > self._patience or finished
            if not decided:
                return
            self._images.popleft()
            own = bool(self._results) and self._results[0].stamp == stamp
            yield stamp, image, self._results.popleft() if own else None


class Recorder:
    """Writes `video.mp4`, `sheet.png` and `boxes.csv` into a folder. A context manager.

    The video has one picture for every image published, at the camera's rate. Where the tracker
    passed an image over, the picture before it stays: no box is ever drawn on another's image.
    """

    def __init__(self, folder: Path, fps: float, given: Box) -> None:
        """`given` is the box that the target was given by, in the first image; pixels."""
        self.video = folder / "video.mp4"
        self.sheet = folder / "sheet.png"
        self.boxes = folder / "boxes.csv"
        self._writer = VideoWriter(self.video, fps)
        self._sample = EvenSample()
        self._rows = ["frame,stamp_ns,x,y,w,h,score"]
        self._given = given
        self._picture: Image | None = None
        self._count = 0

    def add(self, stamp: int, image: Image, result: Result | None) -> None:
        """The next image, (H, W, 3) uint8 BGR, and what the tracker said of it, if anything."""
        if self._picture is None or result is not None:
            self._picture = self._draw(image, result)
            self._sample.add(self._picture, _caption(self._count, result))
        self._writer.write(self._picture)
        if result is not None:
            box = result.box or Box(*(float("nan"),) * 4)
            values = ",".join(f"{value:.3f}" for value in (*box, result.score))
            self._rows.append(f"{self._count},{stamp},{values}")
        self._count += 1

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if self._sample.frames:
            _, data = cv2.imencode(
                ".png", contact_sheet(self._sample.frames, self._sample.captions)
            )
            write_atomically(self.sheet, data.tobytes())
            write_atomically(self.boxes, ("\n".join(self._rows) + "\n").encode())

    def _draw(self, image: Image, result: Result | None) -> Image:
        factor = -(-MIN_WIDTH // image.shape[1])
        if factor > 1:
            size = (factor * image.shape[1], factor * image.shape[0])
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        corner = f"frame {self._count}"
        if self._count == 0:
            return draw_track(
                image, _scaled(self._given, factor), label="given", colour=TRUTH, corner=corner
            )
        if result is None or result.box is None:
            return draw_track(image, None, label="no target", colour=LOST, corner=corner)
        return draw_track(image, _scaled(result.box, factor), result.score, corner=corner)


def _scaled(box: Box, factor: int) -> Box:
    return Box(*(factor * value for value in box))


def _caption(frame: int, result: Result | None) -> str:
    if frame == 0:
        return "frame 0, given"
    if result is None or result.box is None:
        return f"frame {frame}, no target"
    return f"frame {frame}, score {result.score:.2f}, {1e3 * result.latency:.0f} ms"


def image_of(message: Any) -> Image:
    """The pixels of a sensor_msgs/Image, (H, W, 3) uint8 BGR; shares the message's memory."""
    from siamkd_ros.image_decode import decode

    return decode(message)

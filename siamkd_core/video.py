"""Frames from a video file, an image folder or a webcam, and an annotated video back to disk.

Use::

    with open_source("clip.mp4") as source, VideoWriter("out.mp4", source.fps or 30.0) as writer:
        for frame in source:
            writer.write(frame)
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image, read_image
from siamkd_core.sequences import IMAGE_SUFFIXES, list_images

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

DEVICE = re.compile(r"/dev/video(\d+)")
# Containers without a frame rate report 0, nan or their time base (90000).
PLAUSIBLE_FPS = (0.1, 1000.0)


class FrameSource(ABC):
    """A finite or endless run of frames, each (H, W, 3) uint8 BGR. Also a context manager.

    Attributes:
        name: a short name for files and titles, without folder and suffix.
        fps: frames per second as the source states it; None where it does not.
        size: (width, height) of the first frame, pixels.
        live: True for a webcam; its frames cannot be read again.
        count: number of frames; None where unknown. A video container's own figure may be off by
            a few frames; a folder's includes the frames that turn out to be unreadable.
        index: 0-based position in the source of the frame given last; -1 before the first.
        skipped: how many unreadable frames were passed over since the source was opened.
    """

    name: str
    fps: float | None = None
    size: tuple[int, int]
    live: bool = False
    count: int | None = None
    index: int = -1
    skipped: int = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Image]:
        """Frames in order. A file or folder starts at its beginning, however often it is asked."""

    @abstractmethod
    def close(self) -> None:
        """Give the device or file back. Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class FolderSource(FrameSource):
    """The images of a folder, or of its `img/`, in natural order (2.png before 10.png)."""

    def __init__(self, folder: Path) -> None:
        inner = folder / "img"
        self.paths = list_images(inner if inner.is_dir() else folder)
        if not self.paths:
            raise SiamkdError(
                f"no images in {folder} or {inner}: expected files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        resolved = folder.resolve()
        self.name = resolved.parent.name if resolved.name == "img" else resolved.name
        self.count = len(self.paths)
        first = next((image for image in map(_try_read, self.paths) if image is not None), None)
        if first is None:
            raise SiamkdError(
                f"none of the {len(self.paths)} images in {self.paths[0].parent} can be decoded: "
                "check that the files are complete"
            )
        self.size = (first.shape[1], first.shape[0])

    def __iter__(self) -> Iterator[Image]:
        for index, path in enumerate(self.paths):
            image = _try_read(path)
            if image is None:
                self.skipped += 1
                continue
            self.index = index
            yield image

    def close(self) -> None:
        """Nothing is held open between two images."""


class CaptureSource(FrameSource):
    """A video file or a webcam through OpenCV."""

    def __init__(self, target: Path | int) -> None:
        self.live = isinstance(target, int)
        self.name = f"video{target}" if isinstance(target, int) else target.stem
        self._target = target
        self._capture = self._open()
        # The container's header may lie about the size (rotation), or there may be no decodable
        # frame behind it: only a frame tells.
        self._first = self._read()
        if self._first is None:
            self.close()
            raise SiamkdError(self._complaint("opens, but gives no frame"))
        self.size = (self._first.shape[1], self._first.shape[0])
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if PLAUSIBLE_FPS[0] <= fps <= PLAUSIBLE_FPS[1] else None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self.live and math.isfinite(count) and count > 0 else None
        self._fresh = not self.live

    def __iter__(self) -> Iterator[Image]:
        if self.live:
            frame = self._read()  # the frame read at opening is old by now
            self._first = None
        else:
            if not self._fresh:
                self._capture.release()
                self._capture = self._open()
                self._first = None
                self.index = -1
            self._fresh = False
            frame, self._first = self._first, None
            if frame is None:
                frame = self._read()
        while frame is not None:
            self.index += 1
            yield frame
            frame = self._read()

    def close(self) -> None:
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        target = self._target
        capture = cv2.VideoCapture(target if isinstance(target, int) else str(target))
        if not capture.isOpened():
            capture.release()
            raise SiamkdError(self._complaint("cannot be opened"))
        return capture

    def _read(self) -> Image | None:
        ok, frame = self._capture.read()
        if not ok or frame is None or frame.size == 0:
            return None
        if frame.ndim == 2:  # some cameras deliver grey
            frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
        return np.asarray(frame, dtype=np.uint8)

    def _complaint(self, what: str) -> str:
        if isinstance(self._target, int):
            return f"webcam {self._target} {what}: {_webcam_advice(self._target)}"
        return (
            f"{self._target} {what}: check that it is a complete video file and that OpenCV has a "
            "decoder for it (re-encoding to H.264 in .mp4 usually helps)"
        )


def open_source(source: str | int) -> FrameSource:
    """Open a video file, an image folder (or a sequence folder holding `img/`) or a webcam.

    Args:
        source: a path; `/dev/videoN`, or a link to one; or a webcam's number, as int or digits
            (a folder that is called `0` is `./0`).

    Raises:
        SiamkdError: nothing there, no permission, or no frame can be decoded.
    """
    if isinstance(source, int) or source.isdecimal():
        return CaptureSource(int(source))
    path = Path(source).expanduser()
    device = DEVICE.fullmatch(str(path.resolve()))
    if device:
        return CaptureSource(int(device[1]))
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise SiamkdError(f"{path} is a single image: name the folder that holds the frames")
        return CaptureSource(path)
    raise SiamkdError(
        f"{source} does not exist: give a video file, a folder of images, /dev/videoN or a "
        "webcam's number"
    )


class VideoWriter:
    """Writes BGR uint8 frames as MPEG-4 (`mp4v`) into `path`, which must end in `.mp4`.

    The first frame sets the size, padded to even width and height as the codec demands; a later
    frame of another size is resized to it. The file gets its name only when it is complete: on
    `close`, and when a `with` block ends normally or by Ctrl-C. Any other exception discards it.

    Raises:
        SiamkdError: wrong suffix, or no encoder, or the folder cannot be written.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.frames = 0
        if self.path.suffix.lower() != ".mp4":
            raise SiamkdError(f"video output {self.path}: the name must end in .mp4")
        if not PLAUSIBLE_FPS[0] <= fps <= PLAUSIBLE_FPS[1]:
            raise SiamkdError(f"video output {self.path}: {fps} frames per second is not plausible")
        self.fps = fps
        self._partial = self.path.with_name(f".{self.path.stem}.partial.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, image: Image) -> None:
        """Append one frame, (H, W, 3) uint8 BGR."""
        if self._writer is None:
            self._writer = self._open(image)
        height, width = image.shape[:2]
        # An odd size is padded by one pixel, which is cheaper and sharper than resizing.
        pad_x, pad_y = self._size[0] - width, self._size[1] - height
        if (pad_x, pad_y) in {(0, 1), (1, 0), (1, 1)}:
            image = np.pad(image, ((0, pad_y), (0, pad_x), (0, 0)), mode="edge")
        elif (pad_x, pad_y) != (0, 0):
            image = cv2.resize(image, self._size).astype(np.uint8)
        self._writer.write(np.ascontiguousarray(image))
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Without a frame, no file is left."""
        if self._writer is None:
            self.discard()  # Ctrl-C while it was opened
            return
        self._writer.release()
        self._writer = None
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Stop and leave nothing behind; an older file of that name stays."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.discard()

    def _open(self, image: Image) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        self._size = (width + width % 2, height + height % 2)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as error:
            raise SiamkdError(f"cannot write {self.path}: {error.strerror}") from error
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._partial), fourcc, self.fps, self._size)
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise SiamkdError(
                f"OpenCV cannot write the video {self.path} (codec mp4v, {self._size[0]}x"
                f"{self._size[1]}): install opencv-python-headless, whose wheels bring the codec"
            )
        return writer


def _try_read(path: Path) -> Image | None:
    try:
        return read_image(path)
    except SiamkdError:
        return None


def _webcam_advice(number: int) -> str:
    if not Path("/dev").is_dir():
        return "check that it is plugged in and not in use by another program"
    device = Path(f"/dev/video{number}")
    if not device.exists():
        present = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*"))) or "none"
        return f"there is no {device} (present: {present})"
    return (
        f"check that no other program uses {device}, that it is a capture device (many cameras "
        "have a second node for metadata) and that your user is in the group 'video'"
    )

"""``siamkd track SOURCE --box x,y,w,h --model NAME --output DIR``"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from siamkd_core.cli.tracker_options import add_tracker_arguments, load

if TYPE_CHECKING:
    from rich.progress import Progress
    from typing_extensions import Self  # in typing from Python 3.11

    from siamkd_core.box import Box
    from siamkd_core.draw import EvenSample
    from siamkd_core.image import Image
    from siamkd_core.video import FrameSource

HELP = "follow one target in a video, an image folder or a webcam; writes video and boxes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="video file, folder of images, /dev/videoN or webcam number")
    parser.add_argument("--box", help="x,y,w,h of the target in the first frame; else you draw it")
    parser.add_argument("--start", type=int, default=0, help="0-based first frame (default 0)")
    parser.add_argument("--model", required=True, help="shipped name or path of a .safetensors")
    parser.add_argument("--output", required=True, help="folder, or a video's name ending in .mp4")
    add_tracker_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from siamkd_core.draw import EvenSample, draw_track
    from siamkd_core.errors import SiamkdError
    from siamkd_core.pick import parse_box, pick_box
    from siamkd_core.video import VideoWriter, open_source

    box = parse_box(args.box) if args.box else None
    tracker = load(args, args.model)
    with open_source(args.source) as source:
        frames = frames_from(source, args.start)
        first = next(frames, None)
        if first is None:
            raise SiamkdError(f"{args.source} has no frame {args.start}, given with --start")
        box = box or pick_box(first, source.name)
        tracker.init(first, box)
        outputs = Outputs.named(args.output, source.name)
        log, sample = Log(), EvenSample()
        with (
            VideoWriter(outputs.video, source.fps or 30.0) as video,
            StopOnInterrupt() as stop,
            progress_bar(source) as progress,
        ):
            task = progress.add_task(source.name, total=source.count, note="")
            for image in chain([first], frames):
                score = 1.0
                if image is not first:
                    before = time.perf_counter()
                    track = tracker.update(image)
                    log.seconds += time.perf_counter() - before
                    log.updates += 1
                    box, score = track.box, track.score
                log.add(source.index, box, score)
                caption = f"frame {source.index}"
                shown = draw_track(image, box, score, tracker.card.name, corner=caption)
                video.write(shown)
                sample.add(shown, caption)
                note = f"score {score:.2f}  {log.fps:.0f} fps"
                progress.update(task, completed=source.index + 1, note=note)
                if stop.asked:
                    break
        write_outputs(outputs, log, sample)
        print(summary(source, outputs, log))
        # Ctrl-C is how a webcam is meant to end, and cuts a file short.
        return 130 if stop.asked and not source.live else 0


@dataclass(frozen=True)
class Outputs:
    """Paths of what is written; boxes and scores have one line for every frame of the source."""

    video: Path
    boxes: Path
    scores: Path
    sheet: Path

    @classmethod
    def named(cls, output: str, source_name: str) -> Outputs:
        """`output` is the video's path if it ends in .mp4, else the folder."""
        path = Path(output)
        stem = path.with_suffix("") if path.suffix.lower() == ".mp4" else path / source_name
        video, boxes, scores, sheet = (
            stem.with_name(stem.name + end) for end in (".mp4", ".txt", "_score.txt", "_sheet.jpg")
        )
        return cls(video, boxes, scores, sheet)


class Log:
    """Box and score of every frame, from frame 0 of the source; nan where there is none."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.updates = 0
        self.seconds = 0.0

    def add(self, index: int, box: Box, score: float) -> None:
        # Frames before the start, and those that cannot be read, still have their line.
        while len(self.rows) < index:
            self.rows.append((float("nan"),) * 5)
        self.rows.append((*box, score))

    @property
    def fps(self) -> float:
        return self.updates / self.seconds if self.seconds > 0 else 0.0

    def boxes_text(self) -> str:
        return "".join(",".join(f"{value:.4f}" for value in row[:4]) + "\n" for row in self.rows)

    def scores_text(self) -> str:
        return "".join(f"{row[4]:.6f}\n" for row in self.rows)


class StopOnInterrupt:
    """Within it, the first Ctrl-C only sets `asked`; a second one interrupts as ever."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Signals belong to the main thread; in another one there is nothing to catch.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)


def frames_from(source: FrameSource, start: int) -> Iterator[Image]:
    """The source's frames from the 0-based index `start` on."""
    for image in source:
        if source.index >= start:
            yield image


def progress_bar(source: FrameSource) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), TextColumn("frame {task.completed}")]
    ending = [] if source.count is None else [BarColumn(), TimeRemainingColumn()]
    return Progress(*columns, *ending, TextColumn("{task.fields[note]}"))


def write_outputs(outputs: Outputs, log: Log, sample: EvenSample) -> None:
    """Write boxes, scores and contact sheet beside the video."""
    import cv2

    from siamkd_core.draw import contact_sheet
    from siamkd_core.modelfile import write_atomically

    write_atomically(outputs.boxes, log.boxes_text().encode())
    write_atomically(outputs.scores, log.scores_text().encode())
    _, data = cv2.imencode(".jpg", contact_sheet(sample.frames, sample.captions))
    write_atomically(outputs.sheet, data.tobytes())


def summary(source: FrameSource, outputs: Outputs, log: Log) -> str:
    """What happened and where it is, for the terminal."""
    lines = [f"{log.updates + 1} frames, {log.fps:.1f} fps in the tracker"]
    if source.skipped:
        lines.append(f"warning: {source.skipped} unreadable frames were passed over (nan boxes)")
    lines += [f"video  {outputs.video}", f"boxes  {outputs.boxes}", f"scores {outputs.scores}"]
    return "\n".join([*lines, f"sheet  {outputs.sheet}"])

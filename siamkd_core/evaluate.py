"""One-pass evaluation: run a tracker once through every sequence and keep the boxes as text.

A result folder, which any tool that reads one box a line can use, and which resumes:

    <folder>/<sequence>.txt          x,y,w,h of every frame, pixels, 0-based; nan before the start
    <folder>/scores/<sequence>.txt   the tracker's score of every frame
    <folder>/run.json                what ran (model hash, device ...) and the time it took

The tracker starts on the first frame that has a true box and is never corrected afterwards.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from siamkd_core.box import Box, FloatArray, present
from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image, read_image
from siamkd_core.modelfile import write_atomically
from siamkd_core.sequences import Sequence, read_boxes


class Estimate(Protocol):
    """What a tracker says of one frame; `siamkd_core.tracker.Track` is one."""

    @property
    def box(self) -> Box: ...

    @property
    def score(self) -> float: ...


class Entrant(Protocol):
    """Whatever can be evaluated; `siamkd_core.tracker.Tracker` is one."""

    def init(self, image: Image, box: Box) -> object: ...

    def update(self, image: Image) -> Estimate: ...


@dataclass(frozen=True)
class SequenceRun:
    """One pass through one sequence.

    Attributes:
        boxes: (N, 4) float64 xywh; the given box at the start, nan before it.
        scores: (N,) float64 in [0, 1]; 1 at the start, nan before it.
        updates: frames tracked after the start.
        seconds: time spent in `update` over all of them; reading the images is not in it.
    """

    boxes: FloatArray
    scores: FloatArray
    updates: int
    seconds: float

    @property
    def fps(self) -> float:
        """Updates per second of time spent in `update`; nan without any."""
        return self.updates / self.seconds if self.updates and self.seconds > 0 else float("nan")


def run_sequence(
    tracker: Entrant, sequence: Sequence, on_frame: Callable[[], None] | None = None
) -> SequenceRun:
    """One pass, from the first true box to the last frame; `on_frame` is called after each.

    Raises:
        SiamkdError: no frame has a true box, the tracker refuses the first one, or an image cannot
            be read.
    """
    start = _start(sequence)
    count = len(sequence.frames)
    boxes = np.full((count, 4), np.nan)
    scores = np.full(count, np.nan)
    seconds = 0.0
    for index in range(start, count):
        image = read_image(sequence.frames[index])
        if index == start:
            given = Box(*(float(value) for value in sequence.boxes[start]))
            try:
                tracker.init(image, given)
            except SiamkdError as error:
                raise SiamkdError(f"sequence {sequence.name}, frame {index}: {error}") from error
            boxes[index], scores[index] = given, 1.0
        else:
            before = time.perf_counter()
            estimate = tracker.update(image)
            seconds += time.perf_counter() - before
            boxes[index], scores[index] = estimate.box, estimate.score
        if on_frame is not None:
            on_frame()
    return SequenceRun(boxes, scores, count - start - 1, seconds)


class ResultFolder:
    """Keeps the runs of one model; what is complete and of the same identity is not run again.

    Args:
        folder: created when the first run is saved.
        identity: everything that, if changed, makes older results stale: the model's hash, the
            tracker's parameters, device, precision. Stored beside each run.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, str]) -> None:
        self.folder = Path(folder)
        self.identity = dict(identity)

    def load(self, sequence: Sequence) -> SequenceRun | None:
        """The stored run; None if there is none, or it is partial, edited or stale."""
        record = self._records().get(sequence.name)
        boxes_file, scores_file = self._files(sequence.name)
        if not isinstance(record, dict) or not boxes_file.is_file() or not scores_file.is_file():
            return None
        if any(record.get(key) != value for key, value in self._expected(sequence).items()):
            return None
        try:
            boxes = read_boxes(boxes_file)
            scores = np.array(scores_file.read_text(encoding="utf-8").split(), dtype=np.float64)
            updates, seconds = int(record["updates"]), float(record["seconds"])
        except (SiamkdError, ValueError, KeyError, TypeError):
            return None
        if len(boxes) != len(sequence.frames) or len(scores) != len(sequence.frames):
            return None
        return SequenceRun(boxes, scores, updates, seconds)

    def save(self, sequence: Sequence, run: SequenceRun) -> SequenceRun:
        """Store a run; returns it as it will be loaded (rounded to 4 decimals).

        Raises:
            SiamkdError: the folder cannot be written.
        """
        boxes_file, scores_file = self._files(sequence.name)
        lines = [",".join(f"{value:.4f}" for value in row) for row in run.boxes]
        try:
            scores_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(scores_file, _text(f"{score:.6f}" for score in run.scores))
            write_atomically(boxes_file, _text(lines))
            records = self._records()
            # Written last, and with the hash of the boxes: whenever the writing breaks off, the
            # record does not fit the file, and the sequence is run again.
            records[sequence.name] = {
                **self._expected(sequence),
                "updates": run.updates,
                "seconds": round(run.seconds, 6),
            }
            text = json.dumps({"sequences": records}, indent=2, sort_keys=True) + "\n"
            write_atomically(self.folder / "run.json", text.encode())
        except OSError as error:
            raise SiamkdError(f"cannot write results to {self.folder}: {error.strerror}") from error
        stored = self.load(sequence)
        if stored is None:
            raise SiamkdError(
                f"{boxes_file} does not read back as written: does another process write there?"
            )
        return stored

    def models(self) -> dict[str, str]:
        """Hash of the model that ran each stored sequence; empty where a record does not say."""
        found = {}
        for name, record in self._records().items():
            identity = record.get("identity") if isinstance(record, dict) else None
            found[name] = str(identity.get("sha256", "")) if isinstance(identity, dict) else ""
        return found

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.txt", self.folder / "scores" / f"{name}.txt"

    def _expected(self, sequence: Sequence) -> dict[str, Any]:
        boxes_file, _ = self._files(sequence.name)
        return {
            "identity": self.identity,
            "frames": len(sequence.frames),
            "start": [float(value) for value in sequence.boxes[_start(sequence)]],
            "boxes_sha256": hashlib.sha256(boxes_file.read_bytes()).hexdigest(),
        }

    def _records(self) -> dict[str, Any]:
        try:
            stored = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        records = stored.get("sequences") if isinstance(stored, dict) else None
        return records if isinstance(records, dict) else {}


def choose_sequences(sequences: list[Sequence], names: list[str] | None) -> list[Sequence]:
    """Those with the names asked for, in their order in the folder; all if none are named.

    Raises:
        SiamkdError: a name that is not there; lists those that are.
    """
    if not names:
        return sequences
    known = {sequence.name for sequence in sequences}
    missing = [name for name in names if name not in known]
    if missing:
        raise SiamkdError(
            f"no sequence {', '.join(missing)}; there are: {', '.join(sorted(known))}"
        )
    return [sequence for sequence in sequences if sequence.name in names]


def _start(sequence: Sequence) -> int:
    """Index of the first frame with a true box."""
    judged = np.flatnonzero(present(sequence.boxes))
    if not len(judged):
        raise SiamkdError(
            f"sequence {sequence.name}: no frame has a true box, so none to start from"
        )
    return int(judged[0])


def _text(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()

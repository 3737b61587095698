"""The frames of a video as folder, pattern and numbers: paths are made when asked for.

TrackingNet has 14 million frames; as `Path` objects they would take some gigabytes of memory in
every worker, as `Frames` a few hundred bytes a sequence.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from siamkd_core.errors import DataError
from siamkd_core.sequences import Sequence, Still


@dataclass(frozen=True, slots=True)
class Frames(Seq[Path]):
    """Image files ``folder / pattern.format(number)``, in the order of ``numbers``.

    Attributes:
        folder: of the images.
        pattern: as of `str.format`, with one place for the number: ``{:08d}.jpg``.
        numbers: range or array of the numbers in the files' names.
    """

    folder: Path
    pattern: str
    numbers: range | array[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> Frames: ...

    def __getitem__(self, index: int | slice) -> Path | Frames:
        if isinstance(index, slice):
            return Frames(self.folder, self.pattern, self.numbers[index])
        return self.folder / self.pattern.format(self.numbers[index])

    def take(self, indices: Iterable[int]) -> Frames:
        """Those at ``indices``."""
        numbers = array("q", (self.numbers[index] for index in indices))
        return Frames(self.folder, self.pattern, numbers)


class Listing:
    """Names of files in folders; keeps those of the folder asked for last."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._names: set[str] = set()

    def __getitem__(self, folder: Path) -> set[str]:
        if folder != self._folder:
            try:
                self._names = set(os.listdir(folder))
            except OSError:
                self._names = set()
            self._folder = folder
        return self._names


def leave_out_missing(
    sequences: Iterable[Sequence], dataset: str, every_frame: bool = True
) -> list[Sequence]:
    """The sequences without the frames (and their boxes) that have no file.

    How many were left out is said in one warning; a sequence without any frame goes whole.

    Args:
        sequences: whose ``frames`` are `Frames`.
        dataset: named in the warning and the error.
        every_frame: list each folder once, about a second per million files that the system has
            listed before. Otherwise the folder is listed only where the first or the last frame is
            missing, which is two looks a sequence and does not see a hole in the middle.

    Raises:
        DataError: no frame of any sequence is there.
    """
    kept, listing, gone, where = [], Listing(), 0, ""
    first_looked_for: Path | None = None
    for sequence in sequences:
        frames = sequence.frames
        assert isinstance(frames, Frames)
        if not len(frames):
            continue
        first_looked_for = first_looked_for or frames[0]
        if not every_frame and frames[0].is_file() and frames[-1].is_file():
            kept.append(sequence)
            continue
        names = listing[frames.folder]
        there = [i for i, n in enumerate(frames.numbers) if frames.pattern.format(n) in names]
        if len(there) < len(frames):
            gone += len(frames) - len(there)
            where = where or sequence.name
            sequence = Sequence(sequence.name, frames.take(there), sequence.boxes[there])
        if there:
            kept.append(sequence)
    if not kept:
        looked_for = f"; looked for {first_looked_for} first" if first_looked_for else ""
        raise DataError(
            f"{dataset}: none of the frames that its annotations name is there{looked_for}"
        )
    _warn(gone, "frames", dataset, where)
    return kept


def leave_out_missing_stills(stills: Iterable[Still], dataset: str) -> list[Still]:
    """The stills whose image is there; each folder is listed, the others are told in one warning.

    Raises:
        DataError: none is there.
    """
    kept, listing, gone, where, first = [], Listing(), 0, "", ""
    for still in stills:
        first = first or str(still.path)
        if still.path.name in listing[still.path.parent]:
            kept.append(still)
        else:
            gone += 1
            where = where or still.path.name
    if not kept:
        raise DataError(
            f"{dataset}: none of the images that its annotations name is there"
            + (f"; looked for {first} first" if first else "")
        )
    _warn(gone, "images", dataset, where)
    return kept


def _warn(gone: int, what: str, dataset: str, where: str) -> None:
    if gone:
        warnings.warn(
            f"{dataset}: {gone} {what} that its annotations name are not there and are left out "
            f"(first in {where})",
            stacklevel=3,
        )

"""Altered copies of sequences, to be read as any sequence: shared by the tools that make such."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2

from siamkd_core.box import Box, present
from siamkd_core.errors import SiamkdError
from siamkd_core.evaluate import choose_sequences
from siamkd_core.image import Image, read_image
from siamkd_core.sequences import Sequence, read_sequences

NOWHERE = Box(*[math.nan] * 4)
Change = Callable[[int, Image, Box | None], tuple[Image, Box | None]]
"""Number of the frame from 0, the image and its target's box, None without one -> those of the
copy."""


def copies_parser(description: str) -> argparse.ArgumentParser:
    """Arguments of a tool that makes copies; it adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", help="of sequence folders, each img/ + groundtruth.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder of the copies")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    return parser


def make_copies(tool: str, args: argparse.Namespace, start: Callable[[], Change]) -> int:
    """The exit code of a tool with the arguments of :func:`copies_parser`.

    Args:
        tool: its name, for errors.
        args: what was asked for.
        start: makes what changes the images of a sequence, once for each; raises SiamkdError where
            an argument is wrong.
    """
    try:
        start()
        chosen = choose_sequences(read_sequences(args.folder), args.sequences)
        if taken := [one.name for one in chosen if (args.output / one.name).exists()]:
            raise SiamkdError(f"{args.output / taken[0]} exists: choose another --output")
        for one in chosen:
            write_copy(one, args.output / one.name, start())
            print(f"{args.output / one.name}: {len(one.frames)} images")
    except (SiamkdError, OSError) as error:
        print(f"{tool}: {error}", file=sys.stderr)
        return 2
    return 0


def write_copy(sequence: Sequence, output: Path, change: Change) -> None:
    """Write the copy, OUTPUT/img/*.jpg and groundtruth.txt; a run that breaks off leaves it with
    the ending ``.partial``, which no reader takes for a sequence of its own name.

    Raises:
        SiamkdError: an image that cannot be read or written.
        OSError: a folder that cannot be written to.
    """
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "img").mkdir(parents=True)
    lines = []
    for number, (frame, row) in enumerate(zip(sequence.frames, sequence.boxes, strict=True)):
        box = Box(*row.tolist()) if present(row[None])[0] else None
        image, now = change(number, read_image(frame), box)
        path = partial / "img" / f"{number + 1:06d}.jpg"
        if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise SiamkdError(f"{partial} cannot be written to: is the disk full?")
        lines.append(",".join(f"{value:.2f}" for value in now or NOWHERE))
    (partial / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    partial.rename(output)

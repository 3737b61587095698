"""Copies of sequences as a camera would see them that rolls: to measure what turns in the image.

    python tools/roll_sequences.py FOLDER --output ROLLED [--sequences NAME ...]
        [--degrees 60] [--period 120]

Frame k is turned about its middle by ``degrees * sin(2 pi k / period)``; what is not known beyond
its border is mirrored. Writes ROLLED/NAME/img/*.jpg and groundtruth.txt, to be read by `siamkd
tune` and `siamkd evaluate` as any sequence: a target's box is the one around the turned ellipse
in its box, which fits what is round better than the box around the turned box does; nan where its
middle has left the picture.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

from siamkd_core.box import Box, present
from siamkd_core.errors import SiamkdError
from siamkd_core.evaluate import choose_sequences
from siamkd_core.image import Image, read_image
from siamkd_core.sequences import Sequence, read_sequences

NOWHERE = Box(*[math.nan] * 4)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Sequences as a rolling camera sees them.")
    parser.add_argument("folder", help="of sequence folders, each img/ + groundtruth.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder of the copies")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--degrees", type=float, default=60.0, help="farthest to each side")
    parser.add_argument("--period", type=float, default=120.0, help="frames from there to there")
    args = parser.parse_args(argv)
    try:
        if not args.period > 0:
            raise SiamkdError(f"--period must be above 0, got {args.period:g}")
        chosen = choose_sequences(read_sequences(args.folder), args.sequences)
        if taken := [one.name for one in chosen if (args.output / one.name).exists()]:
            raise SiamkdError(f"{args.output / taken[0]} exists: choose another --output")
        for one in chosen:
            write(one, args.output / one.name, args.degrees, args.period)
            print(f"{args.output / one.name}: {len(one.frames)} images")
    except (SiamkdError, OSError) as error:
        print(f"roll_sequences: {error}", file=sys.stderr)
        return 2
    return 0


def write(sequence: Sequence, output: Path, degrees: float, period: float) -> None:
    """Write the copy; a run that breaks off leaves it with the ending ``.partial``, which no reader
    takes for a sequence of its own name.

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
        angle = degrees * math.sin(2 * math.pi * number / period)
        image, now = rolled(read_image(frame), box, angle)
        path = partial / "img" / f"{number + 1:06d}.jpg"
        if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise SiamkdError(f"{partial} cannot be written to: is the disk full?")
        lines.append(",".join(f"{value:.2f}" for value in now or NOWHERE))
    (partial / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    partial.rename(output)


def rolled(image: Image, box: Box | None, degrees: float) -> tuple[Image, Box | None]:
    """An image turned counter-clockwise about its middle, and its target's box there.

    Args:
        image: (H, W, 3) uint8.
        box: x, y, w, h in its pixels; None: no target.
        degrees: to turn by.

    Returns:
        the image, of the same size, and the box around the turned ellipse that fills the given
        one; None without a target, or where its middle is not in the image any more.
    """
    height, width = image.shape[:2]
    # pixel centres are at whole numbers for OpenCV, at halves for boxes
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )
    if box is None:
        return turned, None
    x, y = (matrix @ (box.cx - 0.5, box.cy - 0.5, 1) + 0.5).tolist()
    if not (0 <= x < width and 0 <= y < height):
        return turned, None
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    sides = math.hypot(box.w * cos, box.h * sin), math.hypot(box.w * sin, box.h * cos)
    return turned, Box.from_center(x, y, *sides)


if __name__ == "__main__":
    sys.exit(main())

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

import math
import sys

import cv2
import numpy as np
from sequence_copies import Change, copies_parser, make_copies

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image


def main(argv: list[str] | None = None) -> int:
    parser = copies_parser("Sequences as a rolling camera sees them.")
    parser.add_argument("--degrees", type=float, default=60.0, help="farthest to each side")
    parser.add_argument("--period", type=float, default=120.0, help="frames from there to there")
    args = parser.parse_args(argv)

    def roll(number: int, image: Image, box: Box | None) -> tuple[Image, Box | None]:
        angle = args.degrees * math.sin(2 * math.pi * number / args.period)
        return rolled(image, box, angle)

    def start() -> Change:
        if not args.period > 0:
            raise SiamkdError(f"--period must be above 0, got {args.period:g}")
        return roll

    return make_copies("roll_sequences", args, start)


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

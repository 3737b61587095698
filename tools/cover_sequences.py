"""Copies of sequences in which the target is hidden now and then: to measure what that costs.

    python tools/cover_sequences.py FOLDER --output COVERED [--sequences NAME ...]
        [--every 50] [--frames 12] [--seed 0]

Of every so many frames, those behind the first half are covered: with what lies directly beside the
target, in each frame anew, so the cover moves as the target does. Writes COVERED/NAME/img/*.jpg
and groundtruth.txt, to be read by `siamkd tune` and `siamkd evaluate` as any sequence: a covered
target has no box; one that cannot be covered, as it fills too much of the image, stays.
"""

from __future__ import annotations

import sys

import numpy as np
from sequence_copies import Change, copies_parser, make_copies

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image
from siamkd_core.vanish import without_target


def main(argv: list[str] | None = None) -> int:
    parser = copies_parser("Sequences whose target is hidden now and then.")
    parser.add_argument("--every", type=int, default=50, help="frames from one time to the next")
    parser.add_argument("--frames", type=int, default=12, help="that it is hidden for")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of the covers")
    args = parser.parse_args(argv)

    def start() -> Change:
        first = args.every // 2
        if not 0 < args.frames <= args.every - first:
            raise SiamkdError(
                f"--frames must lie in 1..{args.every - first}, the second half of --every "
                f"{args.every}, got {args.frames}"
            )
        if args.seed < 0:
            raise SiamkdError(f"--seed must not be negative, got {args.seed}")
        rng = np.random.default_rng(args.seed)

        def cover(number: int, image: Image, box: Box | None) -> tuple[Image, Box | None]:
            if box is None or not first <= number % args.every < first + args.frames:
                return image, box
            covered = without_target(image, box, rng)
            return (image, box) if covered is None else (covered, None)

        return cover

    return make_copies("cover_sequences", args, start)


if __name__ == "__main__":
    sys.exit(main())

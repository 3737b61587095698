"""Make a training sequence of a video that nobody labelled: a tracker's boxes, where it is sure.

    python tools/pseudo_label.py VIDEO --box x,y,w,h --output DATA/tracks/NAME [--model siamfc]
        [--every 2] [--score 0.9] [--side 384]

Writes NAME/img/*.jpg and NAME/groundtruth.txt as `siamkd train` reads them. A frame that scores
less is labelled nan (absent: no pair is made of it), and the sequence ends with the first long
doubt, since what is followed after it may be something else. Look at the result before you train on
it: `siamkd track VIDEO --box x,y,w,h --model siamfc --output look.mp4` draws the same boxes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import cv2

from siamkd_core.errors import SiamkdError
from siamkd_core.pick import parse_box
from siamkd_core.tracker import load_tracker
from siamkd_core.video import open_source

DOUBT = 10
"""Frames below the score that end the sequence."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A tracker's boxes as labels of a video.")
    parser.add_argument("video", help="video file or folder of images")
    parser.add_argument("--box", required=True, help="x,y,w,h of the target in the first frame")
    parser.add_argument("--output", type=Path, required=True, help="folder of the sequence, new")
    parser.add_argument("--model", default="siamfc", help="shipped name or path of a .safetensors")
    parser.add_argument("--every", type=int, default=2, help="keep each n-th frame")
    parser.add_argument("--score", type=float, default=0.9, help="least score of a label")
    parser.add_argument("--side", type=int, default=384, help="longest side of the images, pixels")
    args = parser.parse_args(argv)
    try:
        kept, labelled = label(args)
    except SiamkdError as error:
        print(f"pseudo_label: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {kept} images, {labelled} of them labelled")
    return 0


def label(args: argparse.Namespace) -> tuple[int, int]:
    """Write the sequence.

    Returns:
        numbers of images and of labels.

    Raises:
        SiamkdError: the folder exists, or the video, box or model cannot be used.
    """
    if args.output.exists():
        raise SiamkdError(f"{args.output} exists: choose another --output")
    if args.every < 1 or args.side < 1:
        raise SiamkdError("--every and --side must be at least 1")
    tracker, given = load_tracker(args.model), parse_box(args.box)
    # a video that breaks off must not leave half a sequence to be trained on
    partial = args.output.with_name(args.output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    lines: list[str] = []
    doubt = 0
    with open_source(args.video) as source:
        for number, image in enumerate(source):
            if number == 0:
                tracker.init(image, given)
                (partial / "img").mkdir(parents=True)
                box, sure = given, True
            else:
                track = tracker.update(image)
                box, sure = track.box, track.score >= args.score
            doubt = 0 if sure else doubt + 1
            if doubt == DOUBT:
                break
            if number % args.every:
                continue
            factor = min(args.side / max(image.shape[:2]), 1.0)
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if not cv2.imwrite(str(partial / "img" / f"{number:06d}.jpg"), small):
                raise SiamkdError(f"{partial} cannot be written to: is the disk full?")
            values = [factor * value for value in box] if sure else [float("nan")] * 4
            lines.append(",".join(f"{value:.2f}" for value in values))
    if not lines:
        raise SiamkdError(f"{args.video} has no images")
    (partial / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    partial.rename(args.output)
    return len(lines), sum("nan" not in line for line in lines)


if __name__ == "__main__":
    sys.exit(main())

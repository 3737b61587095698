"""Width over height of a target, frame by frame: the truth, and the boxes that trackers gave.

    python tools/plot_shape.py SEQUENCE NAME=BOXES [NAME=BOXES ...] --output shape.png
    python tools/plot_shape.py SEQUENCE NAME=BOXES [NAME=BOXES ...] --ratios

SEQUENCE is a folder with groundtruth.txt; BOXES is what the demo writes (boxes.csv of a folder of
the same images) or what `siamkd evaluate` writes (x,y,w,h a line). Prints for each the correlation
of the logarithm of its shape with that of the true one (nan where one never changes), and the mean
IoU of the frames it has. With --ratios also how its shape, width / height, and its size, the root
of the area, compare with the true ones where the place is right: the medians of tracked over true.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import iou, present
from siamkd_core.errors import SiamkdError
from siamkd_core.metrics import center_error
from siamkd_core.sequences import read_boxes, read_sequence

Boxes = NDArray[np.float64]
NEAR = 0.5
"""Of the true size: a centre that is no further off is in the right place."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Shape of a target over time, true and tracked.")
    parser.add_argument("sequence", type=Path, help="folder with the images and groundtruth.txt")
    parser.add_argument("boxes", nargs="+", metavar="NAME=BOXES", help="of a tracker")
    parser.add_argument(
        "--annotation",
        default="groundtruth.txt",
        metavar="FILE",
        help="the true boxes in SEQUENCE (groundtruth.txt; groundtruth_2.txt: its second target)",
    )
    parser.add_argument(
        "--ratios",
        action="store_true",
        help="print shape and size over the true ones, medians of the frames whose centre is no "
        "further off than half the true size",
    )
    parser.add_argument("--output", type=Path, help="picture")
    args = parser.parse_args(argv)
    try:
        truth = read_sequence(args.sequence, args.annotation).boxes
        found = {name: tracked(path, len(truth)) for name, path in map(named, args.boxes)}
    except SiamkdError as error:
        print(f"plot_shape: {error}", file=sys.stderr)
        return 2
    figure = plt.figure(figsize=(9, 4), dpi=110)
    axes = figure.add_subplot()
    axes.plot(shape(truth), color="black", linewidth=2, label="truth")
    for name, boxes in found.items():
        both = present(truth) & present(boxes)
        if both.sum() < 2:
            print(
                f"plot_shape: {name} has fewer than two boxes of {args.sequence}", file=sys.stderr
            )
            return 2
        related = correlation(shape(truth)[both], shape(boxes)[both])
        overlap = float(np.mean(iou(truth[both], boxes[both])))
        print(
            f"{name}: correlation of log w/h {related:.2f}, mean IoU {overlap:.3f}, "
            f"{both.sum()} frames"
        )
        if args.ratios:
            near = center_error(boxes, truth, normalised=True) <= NEAR
            print(f"{name}: {ratios(truth[near], boxes[near])}")
        frames = np.flatnonzero(present(boxes))
        axes.plot(frames, shape(boxes)[frames], linewidth=1.2, label=name)
    axes.set(yscale="log", xlabel="frame", ylabel="width / height", title=args.sequence.name)
    axes.legend()
    axes.grid(alpha=0.3)
    if args.output:
        figure.savefig(args.output, bbox_inches="tight")
    return 0


def named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not Path(path).is_file():
        raise SiamkdError(f"expected NAME=BOXES with a file of boxes, got {text}")
    return name, Path(path)


def tracked(path: Path, frames: int) -> Boxes:
    """(frames, 4) boxes; nan where the file has none."""
    boxes = np.full((frames, 4), np.nan)
    if path.suffix != ".csv":
        lines = read_boxes(path)
        if len(lines) > frames:
            raise SiamkdError(f"{path} has {len(lines)} boxes, the sequence {frames} images")
        boxes[: len(lines)] = lines
        return boxes
    try:
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["x"] and int(row["frame"]) < frames:
                    boxes[int(row["frame"])] = [float(row[key]) for key in "xywh"]
    except (ValueError, KeyError) as error:
        raise SiamkdError(f"{path} is no file of boxes: {error}") from error
    return boxes


def shape(boxes: Boxes) -> Boxes:
    return boxes[:, 2] / boxes[:, 3]


def ratios(truth: Boxes, boxes: Boxes) -> str:
    """Medians of tracked over true, in words."""
    if not len(truth):
        return "no frame with the centre in place"
    aspect = np.median(shape(boxes) / shape(truth))
    size = np.median(np.sqrt(boxes[:, 2:].prod(axis=1) / truth[:, 2:].prod(axis=1)))
    return f"aspect ratio {aspect:.2f} and size {size:.2f} of the true, {len(truth)} frames"


def correlation(one: Boxes, other: Boxes) -> float:
    """Pearson's, of the logarithms; changes of less than a thousandth are rounding."""
    first, second = (np.log(values) - np.log(values).mean() for values in (one, other))
    if min(np.ptp(first), np.ptp(second)) < 1e-3:
        return float("nan")
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


if __name__ == "__main__":
    sys.exit(main())

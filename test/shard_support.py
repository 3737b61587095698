"""A small data folder with everything that shards keep apart."""

import json
from pathlib import Path

import cv2
import numpy as np

from siamkd_core.augment import AugmentConfig
from siamkd_core.pairs import PairsConfig, SourceConfig

AUGMENT = AugmentConfig(stretch=0.1, shift=24, rotate=10, flip=0.5, colour=0.2, grey=0.2, blur=0.2)
CONFIG = PairsConfig(
    sources=(SourceConfig(("tracks/*",), 1.0, 2), SourceConfig(("stills/*",), 1.0)),
    holdout=("seq2",),
    search_size=191,
    min_side=10,
    max_share=0.5,
    augment=AUGMENT,
)
PHOTOS = PairsConfig(sources=(SourceConfig(("photos",), random_boxes=True),), search_size=191)


def smooth(seed: int) -> np.ndarray:
    """A colourful picture without sharp edges, (240, 320, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX)


def write_data(root: Path) -> Path:
    """Three sequences (the target is absent in frame 3 and covers the image in frame 5; the second
    one's is large), stills with three usable boxes and one too small, and photographs."""
    for number in range(3):
        folder = root / "tracks" / f"seq{number}"
        (folder / "img").mkdir(parents=True)
        side = 100 if number == 1 else 30
        boxes = [f"{20 + 9.25 * i},{60 + 3.5 * i},{side},{side + 10}" for i in range(7)]
        boxes[3], boxes[5] = "nan,nan,nan,nan", "0,0,319,239"
        for frame in range(7):
            cv2.imwrite(str(folder / "img" / f"{frame}.png"), smooth(10 * number + frame))
        (folder / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
    stills = root / "stills" / "set"
    stills.mkdir(parents=True)
    lines = []
    for number in range(2):
        cv2.imwrite(str(stills / f"{number}.png"), smooth(100 + number))
        boxes = [[250, 30, 60, 50], [5, 5, 4, 4], [30.5, 100.5, 90, 120], [100, 20, 20, 15]]
        lines.append(json.dumps({"file": f"{number}.png", "boxes": boxes}))
    (stills / "boxes.jsonl").write_text("\n".join(lines))
    (root / "photos").mkdir()
    for number in range(2):
        cv2.imwrite(str(root / "photos" / f"{number}.png"), smooth(200 + number))
    return root

"""Sequence folders made on the fly, and a tracker whose answers are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from siamkd_core.box import Box
from siamkd_core.image import Image

NAN = Box(*(float("nan"),) * 4)


def moving_boxes(count: int, step: float = 3.0, side: float = 24.0) -> list[Box]:
    return [Box(20 + step * index, 30 + step / 2 * index, side, side) for index in range(count)]


def picture(box: Box, width: int = 160, height: int = 120) -> Image:
    """Grey noise, the same in every frame, and a textured patch at the box."""
    image = np.random.default_rng(0).integers(90, 130, (height, width, 3), dtype=np.uint8)
    if np.isfinite(box.x):
        patch = np.random.default_rng(1).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        x, y, w, h = (round(value) for value in box)
        large = cv2.resize(patch, (w, h), interpolation=cv2.INTER_NEAREST)
        room = image[y : y + h, x : x + w]
        room[:] = large[: room.shape[0], : room.shape[1]]
    return image


def write_sequence(folder: Path, boxes: list[Box], *further: list[Box]) -> Path:
    """`img/0001.png` ... with groundtruth.txt, and groundtruth_2.txt ... for further targets."""
    (folder / "img").mkdir(parents=True)
    for number, box in enumerate(boxes, 1):
        cv2.imwrite(str(folder / "img" / f"{number:04d}.png"), picture(box))
    for number, target in enumerate((boxes, *further), 1):
        name = "groundtruth.txt" if number == 1 else f"groundtruth_{number}.txt"
        (folder / name).write_text("".join(",".join(map(str, box)) + "\n" for box in target))
    return folder


def tiny_model(folder: Path, seed: int = 0) -> Path:
    """A SiamFC of a few channels with random weights, saved as `tiny`."""
    import torch

    from siamkd_core.modelfile import ModelCard, save_model
    from siamkd_core.siamfc import SiamFC

    torch.manual_seed(seed)
    widths = (4, 8, 8, 8, 4)
    network = SiamFC(widths).eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    return save_model(network, ModelCard("tiny", "siamfc", widths, count), folder)


class FakeTracker:
    """Answers with the given boxes in turn; counts its calls; fails at update `fails_at`."""

    def __init__(self, answers: Iterable[Box], fails_at: int | None = None) -> None:
        self.answers = list(answers)
        self.fails_at = fails_at
        self.inits: list[Box] = []
        self.updates = 0

    def init(self, image: Image, box: Box) -> None:
        self.inits.append(box)
        self._next = iter(self.answers)

    def update(self, image: Image) -> SimpleNamespace:
        self.updates += 1
        if self.updates == self.fails_at:
            raise KeyboardInterrupt
        return SimpleNamespace(box=next(self._next), score=0.5)

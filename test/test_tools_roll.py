"""Sequences as a rolling camera sees them: where the target is afterwards."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import roll_sequences
from roll_sequences import rolled
from synthetic import moving_boxes, write_sequence

from siamkd_core.box import Box
from siamkd_core.sequences import read_sequence

SIZE = (120, 161)


def disc(box: Box) -> np.ndarray:
    image = np.zeros((*SIZE, 3), np.uint8)
    middle = (round(box.cx - 0.5), round(box.cy - 0.5))
    cv2.ellipse(image, middle, (round(box.w / 2), round(box.h / 2)), 0, 0, 360, (255,) * 3, -1)
    return image


def around(image: np.ndarray) -> Box:
    """The box around what is bright."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    x, y = columns.min(), rows.min()
    return Box(x, y, columns.max() + 1 - x, rows.max() + 1 - y)


@pytest.mark.parametrize("degrees", [0, 17, -45, 60, 90, 180])
def test_the_box_is_around_what_was_in_it(degrees: float) -> None:
    box = Box(60, 40, 41, 21)
    image, now = rolled(disc(box), box, degrees)
    assert image.shape == (*SIZE, 3)
    assert now == pytest.approx(around(image), abs=1.6)


def test_a_quarter_turn_is_exact_and_counter_clockwise() -> None:
    box = Box(75, 20, 11, 7)
    image = np.zeros((101, 101, 3), np.uint8)
    image[20:27, 75:86] = 255
    now, there = rolled(image, box, 90)
    assert np.array_equal(now, np.rot90(image))
    assert there == pytest.approx(Box(20, 15, 7, 11))


def test_a_target_that_leaves_the_picture_has_no_box() -> None:
    corner = Box(150, 2, 8, 8)
    assert rolled(disc(corner), corner, 90)[1] is None
    assert rolled(disc(corner), None, 20)[1] is None


def test_a_sequence_is_read_like_any_other(tmp_path: Path) -> None:
    boxes = moving_boxes(9)
    write_sequence(tmp_path / "data" / "one", boxes)
    call = [str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert roll_sequences.main([*call, "--degrees", "30", "--period", "8"]) == 0
    found = read_sequence(tmp_path / "out" / "one")
    first = cv2.imread(str(tmp_path / "data" / "one" / "img" / "0001.png"))
    assert first is not None
    # sin(0) = sin(pi) = sin(2 pi) = 0
    for number in (0, 4, 8):
        assert found.boxes[number] == pytest.approx(np.array(boxes[number]), abs=0.01)
    for number, degrees in ((2, 30), (6, -30)):
        expected = rolled(first, boxes[number], degrees)[1]
        assert found.boxes[number] == pytest.approx(np.array(expected), abs=0.01)
    assert roll_sequences.main(call) == 2  # it is there already
    assert roll_sequences.main([*call[:-1], str(tmp_path / "no"), "--period", "0"]) == 2
    assert not (tmp_path / "no").exists()

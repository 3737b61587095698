import numpy as np
import pytest

from siamkd_core.box import Box
from siamkd_core.vanish import MARGIN, without_target

RNG = np.random.default_rng(0)


def numbered(height: int, width: int) -> np.ndarray:
    """Every pixel is another colour."""
    codes = np.arange(height * width, dtype=np.int64).reshape(height, width)
    return np.stack([codes % 256, codes // 256 % 256, codes // 65536], axis=-1).astype(np.uint8)


def test_a_piece_from_right_beside_covers_the_box_and_its_margin():
    image = numbered(90, 200)
    # with its margin 44..76 by 37..57
    box = Box(48, 40, 24, 14)
    before = image.copy()
    assert MARGIN == 0.15  # 48 - 3.6, 40 - 2.1, 72 + 3.6, 54 + 2.1
    pieces = set()
    for seed in range(20):
        out = without_target(image, box, np.random.default_rng(seed))
        assert np.array_equal(image, before)
        y0, y1, x0, x1 = 37, 57, 44, 76
        changed = np.argwhere((out != image).any(axis=-1))
        assert changed.min(axis=0).tolist() == [y0, x0]
        assert changed.max(axis=0).tolist() == [y1 - 1, x1 - 1]
        inside = out[y0:y1, x0:x1]
        shifts = {
            (dx, dy)
            for dx, dy in ((-32, 0), (32, 0), (0, -20), (0, 20))
            if np.array_equal(inside, image[y0 + dy : y1 + dy, x0 + dx : x1 + dx])
        }
        assert len(shifts) == 1
        pieces |= shifts
    assert pieces == {(-32, 0), (32, 0), (0, -20), (0, 20)}


def test_only_pieces_inside_of_the_image_are_taken():
    image = numbered(60, 100)
    out = without_target(image, Box(2, 5, 30, 50), RNG)
    # 0..37 wide: what lies to the right is all there is room for
    assert np.array_equal(out[:, :37], image[:, 37:74])


@pytest.mark.parametrize(
    "box", [Box(10, 10, 70, 40), Box(-40, 5, 20, 20), Box(120, 5, 20, 20), Box(0, 0, 100, 60)]
)
def test_a_target_that_leaves_no_room_or_is_not_there_cannot_be_covered(box):
    assert without_target(numbered(60, 100), box, RNG) is None


def test_what_is_covered_stays_inside_of_the_image():
    image = numbered(60, 100)
    out = without_target(image, Box(85, 45, 30, 30), RNG)
    assert out.shape == image.shape and not np.array_equal(out, image)
    assert np.array_equal(out[:40], image[:40]) and np.array_equal(out[:, :80], image[:, :80])

"""siamkd_core.rescan: every place of the image in time, the near ones first and most often."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_core.box import Box
from siamkd_core.rescan import looks, reach


def test_reach_by_hand() -> None:
    """A square target's context square has twice its side; a crop of 255 shows 255 / 127 of that,
    and the exemplar's centre keeps half an exemplar from the crop's border."""
    assert reach(Box(0, 0, 10, 10), 255) == pytest.approx((20 * 255 / 127 - 20) / 2)
    assert reach(Box(50, 9, 10, 10), 143) == pytest.approx(20 * 16 / 127 / 2)


def test_a_small_grid_by_hand() -> None:
    """Reach 10, so places are 15 apart; the ones at the border are moved onto it."""
    home = Box(18, 8, 4, 4)  # centre 20, 10
    seen = [(box.cx, box.cy) for box in islice(looks(home, (40, 20), 10.0), 7)]
    here = (20, 10)
    assert seen == [here, (5, 10), (35, 10), here, (5, 10), (35, 10), here]


def test_a_target_that_fills_the_image_is_looked_for_where_it_was() -> None:
    home = Box(0, 0, 60, 40)
    assert set(islice(looks(home, (64, 48), reach(home, 255)), 9)) == {home}


def test_the_window_grows_and_starts_again() -> None:
    """Reach 4 in 61x61 pixels, from the middle: places 6 apart, five rings."""
    home = Box(28.5, 28.5, 4, 4)
    rings = [
        round(max(abs(box.cx - home.cx), abs(box.cy - home.cy)) / 6)
        for box in islice(looks(home, (61, 61), 4.0), 1000)
    ]
    away = [ring for ring in rings if ring]
    per_ring = [[ring] * 8 * ring for ring in range(6)]
    windows = [per_ring[1 : outer + 1] for outer in (1, 2, 3, 5)]
    once = list(chain.from_iterable(chain.from_iterable(windows)))
    assert away[: len(once) + 8] == once + per_ring[1]
    # every third look is at home
    assert rings[:300:3] == [0] * 100


boxes = st.builds(
    Box,
    st.floats(-20, 400),
    st.floats(-20, 300),
    st.floats(4, 200),
    st.floats(4, 200),
)
sizes = st.tuples(st.integers(16, 400), st.integers(16, 300))


@given(boxes, sizes, st.floats(8.0, 60.0), st.floats(0, 1), st.floats(0, 1))
def test_any_point_of_the_image_is_looked_at_in_bounded_time(
    home: Box, size: tuple[int, int], distance: float, right: float, down: float
) -> None:
    target = (right * size[0], down * size[1])
    centre = (min(max(home.cx, 0.0), size[0]), min(max(home.cy, 0.0), size[1]))
    home = Box.from_center(*centre, home.w, home.h)
    cells = np.prod([length / (1.5 * distance) + 3 for length in size])
    # the last window holds all cells, those before it together no more; a third of looks is home
    bound = int(1.5 * 2 * cells) + 10
    found = [
        box
        for box in islice(looks(home, size, distance), bound)
        if abs(box.cx - target[0]) <= distance + 1e-9 and abs(box.cy - target[1]) <= distance + 1e-9
    ]
    assert found


@given(boxes, sizes, st.floats(8.0, 60.0))
def test_places_are_in_the_image_and_keep_the_size(
    home: Box, size: tuple[int, int], distance: float
) -> None:
    for box in islice(looks(home, size, distance), 60):
        assert (box.w, box.h) == pytest.approx((home.w, home.h))
        if box != home:
            inside = [-1e-6 <= box.cx <= size[0] + 1e-6, -1e-6 <= box.cy <= size[1] + 1e-6]
            # along an axis where it is level with home, it is as far out as home
            level = [abs(box.cx - home.cx) < 1e-6, abs(box.cy - home.cy) < 1e-6]
            assert all(a or b for a, b in zip(inside, level, strict=True))


@given(boxes, sizes, st.floats(8.0, 60.0))
def test_the_same_again(home: Box, size: tuple[int, int], distance: float) -> None:
    first, second = (list(islice(looks(home, size, distance), 50)) for _ in range(2))
    assert first == second

"""siamkd_ros.picking: from clicks to a box, and the ways not to get there."""

from __future__ import annotations

import pytest

from siamkd_core.box import Box
from siamkd_ros.picking import Picking, Picture
from siamkd_ros.rejected import Rejected


def picture(stamp: int) -> Picture:
    return Picture(stamp, "camera", 640, 480, None)


@pytest.fixture
def picking() -> Picking:
    made = Picking()
    assert made.show(picture(1))
    return made


def test_the_picture_stands_still_from_the_first_corner_to_the_end_of_the_hold(
    picking: Picking,
) -> None:
    assert picking.show(picture(2))
    assert picking.click((10, 20), now=0.0) is None
    assert not picking.show(picture(3))
    assert picking.click((50, 90), now=1.0) == Box(10, 20, 40, 70)
    assert not picking.show(picture(4))
    assert picking.picture == picture(2)
    assert not picking.expire(2.0, hold=1.5, patience=10)
    assert picking.expire(2.5, hold=1.5, patience=10)
    assert picking.box is None
    assert picking.show(picture(5))


def test_a_click_too_near_keeps_the_first_corner(picking: Picking) -> None:
    picking.click((10, 20), now=0.0)
    with pytest.raises(Rejected, match="opposite corners"):
        picking.click((11, 21), now=0.1)
    assert picking.first == (10, 20)
    assert picking.click((50, 90), now=1.0)


def test_a_second_corner_that_never_comes(picking: Picking) -> None:
    picking.click((10, 20), now=0.0)
    assert not picking.expire(9.9, hold=1, patience=10)
    assert picking.expire(10, hold=1, patience=10)
    assert picking.note == "no second corner within 10 s: start again"
    assert not picking.frozen


def test_cancel(picking: Picking) -> None:
    assert not picking.cancel()
    picking.click((10, 20), now=0.0)
    assert picking.cancel()
    assert picking.click((50, 90), now=1.0) is None  # a first corner again


def test_a_box_drawn_elsewhere_is_cut_at_the_border(picking: Picking) -> None:
    assert picking.take(Box(-10, 400, 50, 200), picture(2), now=0.0) == Box(0, 400, 40, 80)
    for outside in (Box(700, 10, 50, 50), Box(10, -90, 50, 50)):
        with pytest.raises(Rejected):
            picking.take(outside, picture(3), now=0.0)
    assert picking.picture == picture(2)  # the one with the box on it stays


def test_a_box_drawn_elsewhere_is_on_its_own_picture_whatever_stands_still(
    picking: Picking,
) -> None:
    picking.click((10, 20), now=0.0)
    for stamp in (2, 3):
        picking.take(Box(10, 10, 50, 50), picture(stamp), now=0.1)
        assert picking.picture == picture(stamp)
    assert picking.first is None


def test_without_a_picture_there_is_nothing_to_draw_on() -> None:
    with pytest.raises(Rejected, match="no picture yet"):
        Picking().click((1, 1), now=0.0)
    with pytest.raises(Rejected, match="no picture yet"):
        Picking().take(Box(1, 1, 9, 9), None, now=0.0)

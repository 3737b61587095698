"""siamkd_ros.intake: what a changed stream does to the kept frames, and to boxes on them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from siamkd_ros.frame import SECOND
from siamkd_ros.inbox import Drop
from siamkd_ros.intake import Intake
from siamkd_ros.rejected import Rejected
from siamkd_ros.statistics import Statistics

NOW = 1_000 * SECOND


@pytest.fixture
def intake() -> Intake:
    return Intake(Statistics(), lambda: NOW, (10.0, 10**9))


def show(intake: Intake, seconds: float, size: tuple[int, int] = (64, 48)) -> None:
    """An image; what the guard refuses is refused."""
    sec, nanosec = divmod(round(seconds * SECOND), SECOND)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)),
        height=size[1],
        width=size[0],
        encoding="bgr8",
        is_bigendian=0,
        step=3 * size[0],
        data=bytes(3 * size[0] * size[1]),
    )
    try:
        intake.image(message)
    except Rejected as error:
        assert error.reason in ("other_size", "out_of_order")


@pytest.mark.parametrize("drawn_on", [1.0, 2.0])
def test_a_box_from_before_a_change_of_size_is_told_of_it(intake: Intake, drawn_on: float) -> None:
    show(intake, 1.0)
    for seconds in (2.0, 3.0, 4.0):  # the first two are refused: they might be flukes
        show(intake, seconds, (128, 48))
    with pytest.raises(Rejected, match=r" old; .* \(the image size changed to 128x48\)") as refusal:
        intake.ring.find(round(drawn_on * SECOND))
    assert refusal.value.reason == "box_too_old"


def test_a_box_from_before_a_jump_of_time_is_told_of_it(intake: Intake) -> None:
    for seconds in (100.0, 50.0, 50.1):
        show(intake, seconds)
    assert intake.inbox.take(0) == (
        [Drop("the image stamps jumped back (a bag that starts again?)")],
        intake.ring.find(0),
    )
    with pytest.raises(Rejected, match=r"49\.90 s ahead .* \(the image stamps jumped back"):
        intake.ring.find(100 * SECOND)
    # the image that told of the jump was refused
    with pytest.raises(Rejected, match=r" old; .* \(the image stamps jumped back"):
        intake.ring.find(50 * SECOND)


def test_a_box_on_an_image_from_before_the_first_is_told_so(intake: Intake) -> None:
    for seconds in (7.0, 8.0):
        show(intake, seconds)
    with pytest.raises(Rejected, match=r"go back 1\.00 s \(no image came before\)"):
        intake.ring.find(6 * SECOND)

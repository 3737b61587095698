"""Annotated frames and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest

from siamkd_core.box import Box
from siamkd_core.draw import PREDICTION, TRUTH, EvenSample, contact_sheet, draw_track, evenly, fit

NAN = float("nan")


def blank(width: int, height: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where the colour is, up to anti-aliasing."""
    return np.asarray(np.all(np.abs(image.astype(int) - colour) <= 12, axis=2))


@pytest.mark.parametrize("size", [(64, 48), (640, 480), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("value", [0, 255])
def test_box_is_drawn_where_it_is_on_any_background(size: tuple[int, int], value: int) -> None:
    width, height = size
    image = blank(width, height, value)
    box = Box(width / 4, height / 4, width / 2, height / 2)
    drawn = draw_track(image, box)
    assert (image == value).all()  # the input is not touched
    rows, columns = np.nonzero(has(drawn, PREDICTION))
    line = max(2, height / 60)
    assert columns.min() == pytest.approx(box.x, abs=line)
    assert columns.max() == pytest.approx(box.x + box.w, abs=line)
    assert rows.min() == pytest.approx(box.y, abs=line)
    assert rows.max() == pytest.approx(box.y + box.h, abs=line)
    # A dark rim keeps the line apart from a bright picture.
    assert (drawn[height // 2, : width // 2].max(axis=1) < 60).any() or value == 0


def test_line_grows_with_the_picture() -> None:
    def line(width: int, height: int) -> int:
        drawn = draw_track(blank(width, height), Box(width / 4, height / 4, width / 2, height / 2))
        return int(has(drawn, PREDICTION)[height // 2, : width // 2].sum())

    assert 1 <= line(320, 240) < line(1920, 1080) < line(3840, 2160)


@pytest.mark.parametrize(
    "box",
    [
        None,
        Box(NAN, NAN, NAN, NAN),
        Box(10, 10, 0, 5),
        Box(1e15, -1e15, 1e18, 1e18),
        Box(float("inf"), 0, 5, 5),
        Box(-500, -500, 20, 20),
    ],
)
def test_any_box_can_be_drawn(box: Box | None) -> None:
    assert draw_track(blank(80, 60), box, 0.5, "label", truth=box).shape == (60, 80, 3)


def test_text_stays_in_the_picture_and_truth_has_its_own_colour() -> None:
    image = blank(320, 240)
    for box in (Box(-20, -20, 60, 60), Box(300, 230, 40, 40)):
        plain, labelled = draw_track(image, box), draw_track(image, box, 0.87, "target")
        changed = (plain != labelled).any(axis=2)
        assert changed.sum() > 300
        rows, columns = np.nonzero(changed)
        # The whole plate is inside: a plate that was cut would be narrower than the text.
        assert np.ptp(columns) > 60
        assert np.ptp(rows) > 8
    both = draw_track(image, Box(50, 50, 80, 80), truth=Box(150, 120, 60, 60))
    assert has(both, TRUTH).sum() > 100
    assert has(both, PREDICTION).sum() > 100


def test_score_that_is_not_known_is_not_written() -> None:
    image, box = blank(160, 120), Box(30, 40, 50, 50)
    assert np.array_equal(draw_track(image, box, NAN), draw_track(image, box))


def test_contact_sheet_shows_evenly_chosen_frames() -> None:
    frames = [blank(64, 48, value) for value in range(100)]
    sheet = contact_sheet(frames, columns=3, tiles=5, tile_width=64)
    gap = 2
    assert sheet.shape == (2 * (48 + gap) + gap, 3 * (64 + gap) + gap, 3)
    shown = [
        int(sheet[gap + row * (48 + gap) + 24, gap + column * (64 + gap) + 32, 0])
        for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ]
    assert shown == [0, 25, 50, 74, 99]


def test_contact_sheet_captions_and_mixed_sizes() -> None:
    frames = [blank(64, 48), blank(20, 100), blank(200, 20)]
    plain = contact_sheet(frames, tile_width=120)
    captioned = contact_sheet(frames, ["a", "b" * 200, ""], tile_width=120)
    assert captioned.shape[0] > plain.shape[0]
    assert captioned.shape[1] == plain.shape[1]


def test_contact_sheet_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([])
    with pytest.raises(ValueError, match="2 captions for 1 frames"):
        contact_sheet([blank(8, 8)], ["a", "b"])
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet([blank(8, 8)], columns=0)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 64, 100, 101])
def test_even_sample_keeps_first_and_last_in_bounded_memory(count: int) -> None:
    sample = EvenSample(limit=4, width=16)
    for index in range(count):
        sample.add(blank(32, 24, index), str(index))
        assert len(sample.frames) <= 9
    kept = [int(caption) for caption in sample.captions]
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert kept == sorted(set(kept))
    assert len(kept) >= min(count, 4)
    assert len(set(np.diff(kept)[:-1])) <= 1  # even, up to the last step
    assert [int(frame[0, 0, 0]) for frame in sample.frames] == kept
    assert sample.frames[0].shape == (12, 16, 3)


def test_evenly_and_fit() -> None:
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(10, 1) == [0]
    tile = fit(blank(100, 10, 255), 40, 40)
    assert tile.shape == (40, 40, 3)
    assert tile[20, 20, 0] == 255
    assert tile[5, 20, 0] < 60

"""Sequences whose target is hidden now and then: which images, and what is left of them."""

from pathlib import Path

import cover_sequences
import numpy as np
import pytest
from synthetic import moving_boxes, write_sequence

from siamkd_core.image import read_image
from siamkd_core.sequences import read_sequence


def test_a_target_is_hidden_in_the_second_half_and_nothing_else_changes(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "one", moving_boxes(12))
    call = [str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert cover_sequences.main([*call, "--every", "6", "--frames", "2"]) == 0
    given, found = (read_sequence(tmp_path / folder / "one") for folder in ("data", "out"))
    hidden = [3, 4, 9, 10]
    assert np.flatnonzero(np.isnan(found.boxes).all(1)).tolist() == hidden
    changes = [
        np.abs(read_image(after).astype(int) - read_image(before))
        for before, after in zip(given.frames, found.frames, strict=True)
    ]
    noise = changes[0].mean()  # the copies are JPEGs
    for number, change in enumerate(changes):
        x, y, w, h = given.boxes[number].astype(int)
        inside = change[y : y + h, x : x + w].mean()
        change[max(y - h // 2, 0) : y + h + h // 2, max(x - w // 2, 0) : x + w + w // 2] = 0
        assert change.mean() < 1.2 * noise
        if number in hidden:
            assert inside > 5 * noise
        else:
            assert inside < 3 * noise
            assert found.boxes[number] == pytest.approx(given.boxes[number], abs=0.01)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["--frames", "26"], r"--frames must lie in 1..25, the second half of --every 50, got 26"),
        (["--frames", "0"], "got 0"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
    ],
)
def test_what_cannot_be_is_named(
    wrong: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "data" / "one", moving_boxes(3))
    call = [str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert cover_sequences.main([*call, *wrong]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_target_that_fills_the_image_stays(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    size = read_image(read_sequence(tmp_path / "data" / "one").frames[0]).shape[1::-1]
    whole = f"1,1,{size[0] - 2},{size[1] - 2}\n"
    (tmp_path / "data" / "one" / "groundtruth.txt").write_text(4 * whole)
    call = [str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert cover_sequences.main([*call, "--every", "2", "--frames", "1"]) == 0
    assert np.isfinite(read_sequence(tmp_path / "out" / "one").boxes).all()

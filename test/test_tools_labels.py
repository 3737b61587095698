"""Labels of an unlabelled video, and a target's shape over time."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plot_shape
import pseudo_label
import pytest

from siamkd_core.sequences import read_sequence

SIDE, STEP = 40, 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A chequered patch that moves 2 px an image over noise, 400x300."""
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 256, (300, 400, 3), np.uint8), (0, 0), 4)
    cells = rng.integers(0, 256, (8, 8, 3), np.uint8)
    patch = cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    folder = tmp_path / "clip"
    folder.mkdir()
    for n in range(30):
        image = background.copy()
        image[100 : 100 + SIDE, 120 + STEP * n : 120 + STEP * n + SIDE] = patch
        cv2.imwrite(str(folder / f"{n:03d}.png"), image)
    return folder


def test_a_tracker_labels_a_video(clip: Path, tiny_model: Any, tmp_path: Path) -> None:
    output = tmp_path / "tracks" / "mine"
    call = [str(clip), "--box", "120,100,40,40", "--model", str(tiny_model)]
    call += ["--output", str(output), "--every", "3", "--side", "200"]
    assert pseudo_label.main([*call, "--score", "0"]) == 0
    sequence = read_sequence(output)
    assert len(sequence.frames) == len(sequence.boxes) == 10
    image = cv2.imread(str(sequence.frames[0]))
    assert image is not None and image.shape == (150, 200, 3)
    assert tuple(sequence.boxes[0]) == (60, 50, 20, 20)  # at half size
    # a network of random weights is some pixels off, always by as many
    moved = np.diff([box[0] for box in sequence.boxes])[1:]
    assert moved == pytest.approx(np.full(8, 3 * STEP / 2), abs=1.5)
    assert pseudo_label.main([*call, "--score", "0"]) == 2  # it is there already
    # what cannot be is said before anything is written
    other = [*call[:-5], str(tmp_path / "other")]
    for bad in (["--every", "0"], ["--side", "0"], ["--box", "1,1,9"]):
        assert pseudo_label.main([*other, *bad]) == 2
    assert sorted(one.name for one in output.parent.iterdir()) == ["mine"]
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


def test_where_the_tracker_is_not_sure_there_is_no_label(
    clip: Path, tiny_model: Any, tmp_path: Path
) -> None:
    output = tmp_path / "unsure"
    call = [str(clip), "--box", "120,100,40,40", "--model", str(tiny_model), "--every", "1"]
    assert pseudo_label.main([*call, "--output", str(output), "--score", "1.1"]) == 0
    boxes = np.array(read_sequence(output).boxes)
    # the first box was given; the tenth doubt ends it
    assert len(boxes) == pseudo_label.DOUBT
    assert not np.isnan(boxes[0]).any() and np.isnan(boxes[1:]).all()


def test_a_shape_that_follows_and_one_that_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = tmp_path / "boat"
    (sequence / "img").mkdir(parents=True)
    truth = [(10.0, 10.0, 20.0 + n, 20.0) for n in range(6)]
    for n in range(6):
        cv2.imwrite(str(sequence / "img" / f"{n}.png"), np.zeros((60, 60, 3), np.uint8))
    lines = [",".join(map(str, box)) for box in truth]
    (sequence / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "same.txt").write_text("\n".join(lines) + "\n")
    rows = ["frame,stamp_ns,x,y,w,h,score"]
    rows += [f"{n},0,10,10,{20 + n},{20 + 3 * n},1" for n in (0, 2, 5)]
    rows.append("3,0,,,,,0.1")  # nothing found
    (tmp_path / "other.csv").write_text("\n".join(rows) + "\n")
    picture = tmp_path / "shape.png"
    call = [str(sequence), f"same={tmp_path / 'same.txt'}", f"other={tmp_path / 'other.csv'}"]
    assert plot_shape.main([*call, "--output", str(picture)]) == 0
    same, other = capsys.readouterr().out.splitlines()
    assert same == "same: correlation of log w/h 1.00, mean IoU 1.000, 6 frames"
    shapes = np.log([[1, 22 / 20, 25 / 20], [1, 22 / 26, 25 / 35]])
    related = np.corrcoef(shapes)[0, 1]
    overlap = (1 + 20 / 26 + 20 / 35) / 3  # the same width, a greater height
    wanted = f"correlation of log w/h {related:.2f}, mean IoU {overlap:.3f}, 3 frames"
    assert other == f"other: {wanted}" and related < -0.9
    assert cv2.imread(str(picture)) is not None
    # a tracker that keeps the shape follows none, though rounding moves it a little
    lines = [f"10,10,{20 + n},{20 + n + 0.004 * (n % 2)}" for n in range(6)]
    (tmp_path / "fixed.txt").write_text("\n".join(lines) + "\n")
    call = [str(sequence), f"fixed={tmp_path / 'fixed.txt'}", "--output", str(picture)]
    assert plot_shape.main(call) == 0
    assert "log w/h nan" in capsys.readouterr().out
    (tmp_path / "odd.txt").write_text("1,2,three,4\n")
    (tmp_path / "long.txt").write_text("1,2,3,4\n" * 7)
    for bad in ("gone=nowhere.txt", f"odd={tmp_path / 'odd.txt'}", f"long={tmp_path / 'long.txt'}"):
        assert plot_shape.main([str(sequence), bad, "--output", str(picture)]) == 2


def test_ratios_are_medians_of_the_frames_where_the_place_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = tmp_path / "boat"
    (sequence / "img").mkdir(parents=True)
    for n in range(5):
        cv2.imwrite(str(sequence / "img" / f"{n}.png"), np.zeros((60, 60, 3), np.uint8))
    (sequence / "groundtruth.txt").write_text("nan,nan,nan,nan\n" * 5)
    # the second target is 40 wide and 10 high, around (30, 30)
    truth = ["10,25,40,10"] * 4 + ["nan,nan,nan,nan"]
    (sequence / "groundtruth_2.txt").write_text("\n".join(truth) + "\n")
    boxes = [
        "20,20,20,20",  # 1/4 of the true shape, as large
        "10,15,40,30",  # 1/3 and the root of 3
        "30,10,40,40",  # 1/4 and 2; the centre half the true width away
        "-100,25,80,10",  # elsewhere
        "10,25,40,10",  # nobody knows
    ]
    (tmp_path / "own.txt").write_text("\n".join(boxes) + "\n")
    away = ["80,25,40,10"] * 5
    (tmp_path / "away.txt").write_text("\n".join(away) + "\n")
    call = [str(sequence), f"own={tmp_path / 'own.txt'}", f"away={tmp_path / 'away.txt'}"]
    assert plot_shape.main([*call, "--annotation", "groundtruth_2.txt", "--ratios"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "own: aspect ratio 0.25 and size 1.73 of the true, 3 frames"
    assert said[3] == "away: no frame with the centre in place"
    assert not list(tmp_path.glob("*.png"))

import json

import numpy as np
import pytest

from siamkd_core.errors import DataError
from siamkd_core.sequences import read_boxes, read_sequences, read_stills


def make(folder, lines, images=3, name="groundtruth.txt"):
    (folder / "img").mkdir(parents=True, exist_ok=True)
    for i in range(images):
        (folder / "img" / f"{i + 1:04d}.jpg").touch()
    (folder / name).write_text(lines)


def test_reads_every_target_of_every_folder(tmp_path):
    make(tmp_path / "b", "1,2,3,4\nnan,nan,nan,nan\n5 6\t7 8\n")
    make(tmp_path / "a", "1,2,3,4\n1,2,3,4\n1,2,3,4\n")
    make(tmp_path / "a", "9,9,9,9\n" * 3, name="groundtruth_2.txt")
    (tmp_path / "notes").mkdir()
    found = read_sequences(tmp_path)
    assert [s.name for s in found] == ["a", "a_2", "b"]
    assert found[1].boxes[0].tolist() == [9, 9, 9, 9]
    assert found[2].boxes[2].tolist() == [5, 6, 7, 8]
    assert np.isnan(found[2].boxes[1]).all()
    assert [p.name for p in found[0].frames] == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert [s.name for s in read_sequences(tmp_path / "b")] == ["b"]


def test_a_wrong_root_shows_what_was_expected_and_found(tmp_path):
    (tmp_path / "stray.txt").touch()
    with pytest.raises(DataError, match=r"expected <name>/img/\*\.jpg.*found stray\.txt"):
        read_sequences(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_sequences(tmp_path / "nowhere")


def test_lines_and_images_must_be_as_many(tmp_path):
    make(tmp_path / "a", "1,2,3,4\n")
    with pytest.raises(DataError, match=r"1 lines.*3 images"):
        read_sequences(tmp_path)


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,x", "", "1,2,3,4,5"])
def test_a_broken_line_is_named(tmp_path, line):
    file = tmp_path / "boxes.txt"
    file.write_text(f"1,2,3,4\n{line}\n1,2,3,4\n")
    with pytest.raises(DataError, match="line 2"):
        read_boxes(file)


def test_stills(tmp_path):
    lines = [{"file": "a.jpg", "boxes": [[1, 2, 3, 4]]}, {"file": "b.jpg", "boxes": []}]
    (tmp_path / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (still,) = read_stills(tmp_path)
    assert still.path == tmp_path / "a.jpg" and still.boxes.tolist() == [[1, 2, 3, 4]]
    (tmp_path / "boxes.jsonl").write_text('{"file": "a.jpg"}\n')
    with pytest.raises(DataError, match="line 1"):
        read_stills(tmp_path)
    with pytest.raises(DataError, match="no annotated stills"):
        read_stills(tmp_path / "none")


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "a" / "img").mkdir(parents=True)
    for number in range(1, 13):
        (tmp_path / "a" / "img" / f"{number}.jpg").touch()
    (tmp_path / "a" / "img" / "._1.jpg").touch()
    (tmp_path / "a" / "groundtruth.txt").write_text("1,2,3,4\n" * 12)
    (found,) = read_sequences(tmp_path)
    assert [int(p.stem) for p in found.frames] == list(range(1, 13))

"""Readers of tracking datasets, on miniatures, against values worked out by hand and got10k's."""

from __future__ import annotations

from pathlib import Path

import dataset_layouts as layouts
import got10k.datasets as toolkit
import numpy as np
import pytest

from siamkd_core.datasets import read_dataset_sequences
from siamkd_core.datasets.otb import FIRST_FRAME
from siamkd_core.datasets.uav123 import read_config
from siamkd_core.datasets.vot import region_box
from siamkd_core.errors import DataError
from siamkd_core.sequences import Sequence

NAN = [np.nan] * 4


def named(name: str, root: Path, split: str = "") -> dict[str, Sequence]:
    return {one.name: one for one in read_dataset_sequences(name, root, split)}


def files(sequence: Sequence) -> list[str]:
    assert all(path.is_file() for path in sequence.frames)
    assert len(sequence.frames) == len(sequence.boxes)
    return [path.name for path in sequence.frames]


def test_got10k_takes_one_off_and_absent_and_covered_frames_are_nan(tmp_path: Path) -> None:
    layouts.write_got10k(tmp_path)
    with pytest.warns(UserWarning, match=r"GOT-10k: 1 frames.*GOT-10k_Train_000002"):
        one, two = read_dataset_sequences("got10k", tmp_path, "train")
    # second frame: cover 0; third: absent
    expected = [[9, 19, 30.5, 40], NAN, NAN, [12, 22, 30.5, 40]]
    np.testing.assert_array_equal(one.boxes, expected)
    assert files(one) == ["00000001.jpg", "00000002.jpg", "00000003.jpg", "00000004.jpg"]
    assert files(two) == ["00000001.jpg", "00000002.jpg", "00000004.jpg"]
    np.testing.assert_array_equal(two.boxes, [expected[0], NAN, expected[3]])


def test_got10k_test_split_has_the_first_box_alone(tmp_path: Path) -> None:
    (one,) = read_dataset_sequences("got10k", layouts.write_got10k(tmp_path), "test")
    assert files(one) == ["00000001.jpg", "00000002.jpg", "00000003.jpg"]
    np.testing.assert_array_equal(one.boxes, [[4, 5, 7, 8], NAN, NAN])


def test_got10k_refuses_a_listed_sequence_that_is_not_there_and_short_flags(
    tmp_path: Path,
) -> None:
    layouts.write_got10k(tmp_path)
    folder = tmp_path / "val" / "GOT-10k_Val_000001"
    (folder / "cover.label").write_text("8\n8\n")
    with pytest.raises(DataError, match=r"cover\.label has 2 flags, but there are 4 boxes"):
        read_dataset_sequences("got10k", tmp_path, "val")
    (folder / "cover.label").write_text("8\n8\n8\nx\n")
    with pytest.raises(DataError, match=r"cover\.label: expected a number"):
        read_dataset_sequences("got10k", tmp_path, "val")
    (tmp_path / "val" / "list.txt").write_text("GOT-10k_Val_000009\n")
    with pytest.raises(DataError, match=r"no val/GOT-10k_Val_000009/groundtruth\.txt.*found GOT"):
        read_dataset_sequences("got10k", tmp_path, "val")


def test_lasot_splits_flags_and_broken_boxes(tmp_path: Path) -> None:
    layouts.write_lasot(tmp_path)
    (test,) = read_dataset_sequences("lasot", tmp_path, "test")
    assert test.name == "kite-15"
    # occluded, out of view, sides of -1
    expected = [[0, 0, 50, 60], NAN, NAN, NAN, [4, 4, 50, 60]]
    np.testing.assert_array_equal(test.boxes, expected)
    assert files(test) == [f"0000000{i}.jpg" for i in range(1, 6)]
    with pytest.warns(UserWarning, match=r"1 frames.*airplane-2"):
        train = named("lasot", tmp_path, "train")
    assert list(train) == ["airplane-1", "airplane-2"]
    np.testing.assert_array_equal(train["airplane-2"].boxes, expected[:4])
    assert len(files(train["airplane-2"])) == 4
    (tmp_path / "testing_set.txt").unlink()
    with pytest.warns(UserWarning, match="airplane-2"):
        assert len(read_dataset_sequences("lasot", tmp_path, "all")) == 3
    with pytest.raises(DataError, match=r"no testing_set\.txt.*found airplane, kite"):
        read_dataset_sequences("lasot", tmp_path, "test")


def test_trackingnet_frames_count_from_0_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    layouts.write_trackingnet(tmp_path)
    with pytest.warns(UserWarning, match=r"1 frames.*video10_0"):
        train = read_dataset_sequences("trackingnet", tmp_path, "train")
    assert [one.name for one in train] == ["video0_0", "video2_0", "video10_0"]
    assert files(train[0]) == [f"{i}.jpg" for i in range(12)]
    assert files(train[2]) == [f"{i}.jpg" for i in range(11)]
    np.testing.assert_array_equal(train[0].boxes[[0, 11], 0], [-2, 9])
    (test,) = read_dataset_sequences("trackingnet", tmp_path, "test")
    np.testing.assert_array_equal(test.boxes, [[7, 8, 9, 10], NAN, NAN])
    assert files(test) == ["0.jpg", "1.jpg", "2.jpg"]


def test_otb_oddities(tmp_path: Path) -> None:
    layouts.write_otb(tmp_path)
    with pytest.warns(UserWarning, match=r"1 frames.*Woman"):
        found = named("otb", tmp_path)
    assert "Human4-1" not in found and "Human4-2" in found
    assert {"Jogging-1", "Jogging-2"} < set(found)
    np.testing.assert_array_equal(found["Basketball"].boxes[0], [197, 213, 34, 81])
    assert files(found["Woman"]) == ["0001.jpg", "0003.jpg"]
    np.testing.assert_array_equal(found["Woman"].boxes[:, 0], [197, 199])
    assert files(found["BlurCar1"]) == ["0247.jpg", "0248.jpg", "0249.jpg"]
    np.testing.assert_array_equal(found["BlurCar1"].boxes[1], [249, 169, 106, 105])
    assert files(found["Board"]) == ["00001.jpg", "00002.jpg", "00003.jpg"]
    np.testing.assert_array_equal(found["Board"].boxes[2], NAN)
    david = files(found["David"])
    assert (david[0], david[-1], len(david)) == ("0300.jpg", "0770.jpg", 471)
    assert files(found["Football1"])[-1] == "0074.jpg"
    np.testing.assert_array_equal(found["Jogging-2"].boxes[1], [180, 82, 37, 114])


def test_dtb70(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"DTB70: 1 frames.*Yacht2"):
        found = named("dtb70", layouts.write_dtb70(tmp_path))
    np.testing.assert_array_equal(found["Animal1"].boxes[0], [570, 284, 84, 90])
    assert files(found["Animal1"]) == ["00001.jpg", "00002.jpg", "00003.jpg"]
    # the lines stay with the frames of their numbers
    assert files(found["Yacht2"]) == ["00002.jpg", "00003.jpg"]
    np.testing.assert_array_equal(found["Yacht2"].boxes[:, 0], [571, 572])


def test_uav123_sequences_share_a_video(tmp_path: Path) -> None:
    layouts.write_uav123(tmp_path)
    with pytest.warns(UserWarning, match=r"UAV123: 1 frames.*bike1"):
        found = named("uav123", tmp_path, "UAV123")
    assert files(found["bike1"]) == ["000001.jpg", "000003.jpg"]
    assert files(found["car1_2"]) == ["000003.jpg", "000004.jpg", "000005.jpg", "000006.jpg"]
    expected = [[2, 19, 30, 40], [3, 19, 30, 40], NAN, [5, 19, 30, 40]]
    np.testing.assert_array_equal(found["car1_2"].boxes, expected)
    assert found["car1_1"].frames[2] == found["car1_2"].frames[0]
    (long,) = read_dataset_sequences("uav123", tmp_path, "UAV20L")
    assert (long.name, len(files(long))) == ("car1", 6)
    (tmp_path / "anno" / "UAV123" / "car1_1.txt").write_text("1,2,3,4\n")
    with pytest.raises(DataError, match=r"1 lines.*car1_1 the frames 1 to 3 of car1"):
        read_dataset_sequences("uav123", tmp_path, "UAV123")
    with pytest.raises(DataError, match=r"no sequences of UAV123_10fps: expected seqUAV123_10fps"):
        read_config(tmp_path / "configSeqs.m", "UAV123_10fps")


def test_vot_regions_and_both_layouts(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"VOT: 1 frames.*ants1"):
        found = named("vot", layouts.write_vot(tmp_path))
    ants = found["ants1"]
    assert files(ants) == [f"0000000{i}.jpg" for i in range(1, 7)]
    assert ants.frames[0].parent.name == "color"
    # the diamond has half the area of the 20x20 square around it, so sides of 20 / sqrt(2)
    side = 200**0.5
    expected = [10 - side / 2, 10 - side / 2, side, side]
    np.testing.assert_allclose(ants.boxes[0], expected)
    np.testing.assert_array_equal(ants.boxes[1:], [[1.5, 2, 3, 4], NAN, [5, 6, 7, 8], NAN, NAN])
    assert files(found["bag"]) == ["00000001.jpg", "00000002.jpg"]
    assert found["bag"].frames[0].parent.name == "bag"
    # without list.txt, and with the sequence's own word on where its frames are
    (tmp_path / "list.txt").unlink()
    (tmp_path / "ants1" / "color").rename(tmp_path / "ants1" / "rgb")
    (tmp_path / "ants1" / "sequence").write_text("fps=30\nchannels.color=rgb/%08d.jpg\n")
    with pytest.warns(UserWarning, match="ants1"):
        again = named("vot", tmp_path)
    assert sorted(again) == ["ants1", "bag"] and len(files(again["ants1"])) == 6


def test_a_polygon_keeps_its_area_and_centre() -> None:
    # right triangle with legs 6 and 4: area 12, enclosed by 24, mean of corners (2, 4 / 3)
    x, y, w, h = region_box("0,0,6,0,0,4")
    assert w * h == pytest.approx(12) and w / h == pytest.approx(6 / 4)
    assert (x + w / 2, y + h / 2) == pytest.approx((2, 4 / 3))


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,x", "1,2,3,4,5", "", "1,2,3,4,5,6,7"])
def test_a_broken_region_is_named(tmp_path: Path, line: str) -> None:
    layouts.write_vot(tmp_path)
    (tmp_path / "bag" / "groundtruth.txt").write_text(f"1,2,3,4\n{line}\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"bag/groundtruth\.txt, line 2: expected x,y,w,h"):
        read_dataset_sequences("vot", tmp_path)


def one_less(boxes: np.ndarray) -> np.ndarray:
    return boxes - [1, 1, 0, 0]


def test_agrees_with_the_got10k_toolkit_on_got10k(tmp_path: Path) -> None:
    ours = read_dataset_sequences("got10k", layouts.write_got10k(tmp_path), "val")
    theirs = toolkit.GOT10k(str(tmp_path), "val", return_meta=True)
    assert [one.name for one in ours] == theirs.seq_names
    for sequence, (images, boxes, meta) in zip(ours, theirs, strict=True):
        judged = meta["cover"] > 0
        assert [str(path) for path in sequence.frames] == images
        np.testing.assert_array_equal(sequence.boxes[judged], one_less(boxes)[judged])
        assert np.isnan(sequence.boxes[~judged]).all()


@pytest.mark.filterwarnings("ignore:OTB. 1 frames")
def test_agrees_with_the_got10k_toolkit_on_otb(tmp_path: Path) -> None:
    ours = named("otb", layouts.write_otb(tmp_path))
    theirs = toolkit.OTB(str(tmp_path), 2015, download=False)
    pairs = {"Jogging-1": "Jogging.1", "Jogging-2": "Jogging.2", "Human4-2": "Human4"}
    pairs |= {name: name for name in ("Basketball", "David", "Football1", "BlurCar1", "Board")}
    assert len(ours) == len(theirs) == len(pairs) + 1
    assert {"David", "BlurCar1"} < set(FIRST_FRAME)
    for name, other in pairs.items():
        images, boxes = theirs[other]
        assert [str(path) for path in ours[name].frames] == images
        there = (boxes[:, 2:] > 0).all(axis=1)
        np.testing.assert_array_equal(ours[name].boxes[there], one_less(boxes)[there])


def test_agrees_with_the_got10k_toolkit_on_uav123(tmp_path: Path) -> None:
    # the toolkit has the true frame ranges built in
    rows = [("bird1_1", "bird1", 1, 253), ("bird1_2", "bird1", 775, 1477)]
    layouts.write(tmp_path / "configSeqs.m", layouts.matlab_config({"seqUAV123": rows}))
    for name, video, start, end in rows:
        lines = [f"{i},20,30,40" if i % 50 else "NaN,NaN,NaN,NaN" for i in range(start, end + 1)]
        layouts.write(tmp_path / "anno" / "UAV123" / f"{name}.txt", "\n".join(lines) + "\n")
        folder = tmp_path / "data_seq" / "UAV123" / video
        layouts.touch(folder, "{:06d}.jpg", range(start, end + 1))
    layouts.write(tmp_path / "ReadMe.txt")
    ours = named("uav123", tmp_path, "UAV123")
    theirs = toolkit.UAV123(str(tmp_path), "UAV123")
    for name, *_ in rows:
        images, boxes = theirs[name]
        assert [str(path) for path in ours[name].frames] == images
        np.testing.assert_array_equal(ours[name].boxes, one_less(boxes))


@pytest.mark.filterwarnings("ignore:DTB70. 1 frames")
def test_agrees_with_the_got10k_toolkit_on_dtb70(tmp_path: Path) -> None:
    ours = named("dtb70", layouts.write_dtb70(tmp_path))["Animal1"]
    images, boxes = toolkit.DTB70(str(tmp_path))["Animal1"]
    assert [str(path) for path in ours.frames] == images
    np.testing.assert_array_equal(ours.boxes, one_less(boxes))


@pytest.mark.filterwarnings("ignore:VOT. 1 frames")
def test_agrees_with_the_got10k_toolkit_on_vot_polygons(tmp_path: Path) -> None:
    ours = named("vot", layouts.write_vot(tmp_path))["bag"]
    images, boxes = toolkit.VOT(str(tmp_path), 2017, anno_type="rect", download=False)["bag"]
    assert [str(path) for path in ours.frames] == images
    # the toolkit counts pixels: one more than the edges are apart, around the same centre
    np.testing.assert_allclose(ours.boxes[:, 2:], boxes[:, 2:] - 1)
    centres = [box[:, :2] + box[:, 2:] / 2 for box in (ours.boxes, boxes)]
    np.testing.assert_allclose(centres[0], centres[1])

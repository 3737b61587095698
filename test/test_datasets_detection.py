"""Readers of detection datasets, on miniatures, against values worked out by hand and got10k's."""

from __future__ import annotations

from pathlib import Path

import dataset_layouts as layouts
import got10k.datasets as toolkit
import numpy as np
import pytest

from siamkd_core.datasets import read_dataset, read_dataset_sequences
from siamkd_core.errors import DataError
from siamkd_core.sequences import Still

NAN = [np.nan] * 4


def read_stills(name: str, root: Path, split: str) -> list[Still]:
    found = [one for one in read_dataset(name, root, split) if isinstance(one, Still)]
    assert all(still.path.is_file() for still in found)
    return found


def test_imagenet_vid_tracks(tmp_path: Path) -> None:
    layouts.write_imagenet_vid(tmp_path)
    with pytest.warns(UserWarning, match=r"ImageNet VID: 1 frames.*00001000_0"):
        (track,) = read_dataset_sequences("imagenet_vid", tmp_path, "train")
    assert track.name == "ILSVRC2015_train_00001000_0"
    # xmax and ymax are the last pixels, 0-based: 0..9 is 10 wide, 5..24 is 20 high
    expected = [[0, 5, 10, 20], [1, 5, 10, 20], NAN, [3, 5, 10, 20]]
    np.testing.assert_array_equal(track.boxes, expected)
    assert [path.name for path in track.frames] == [f"00000{i}.JPEG" for i in range(4)]
    assert all(path.is_file() for path in track.frames)
    (val,) = read_dataset_sequences("imagenet_vid", tmp_path, "val")
    assert val.name == "ILSVRC2015_val_00000000_7"
    np.testing.assert_array_equal(val.boxes, [[10, 20, 20, 30]] * 2)


@pytest.mark.filterwarnings("ignore:ImageNet VID. 1 frames")
def test_agrees_with_the_got10k_toolkit_on_imagenet_vid(tmp_path: Path) -> None:
    root = layouts.write_imagenet_vid(tmp_path / "ILSVRC2015")
    (ours,) = read_dataset_sequences("imagenet_vid", root, "train")
    theirs = toolkit.ImageNetVID(str(root), "train", cache_dir=str(tmp_path / "cache"))
    assert theirs.seq_names == ["ILSVRC2015_train_00001000.0"]
    images, boxes = theirs[0]
    there = np.isfinite(ours.boxes[:, 0])
    paths = [str(path) for path, here in zip(ours.frames, there, strict=True) if here]
    assert paths == images[:-1]  # the toolkit does not look whether a file is there
    np.testing.assert_array_equal(ours.boxes[there], boxes[:-1])


def test_imagenet_det_images(tmp_path: Path) -> None:
    layouts.write_imagenet_det(tmp_path)
    with pytest.warns(UserWarning, match=r"ImageNet DET: 1 images.*00060660"):
        nested, flat = read_stills("imagenet_det", tmp_path, "train")
    assert nested.path.parts[-3:] == ("ILSVRC2013_train", "n00007846", "n00007846_103856.JPEG")
    np.testing.assert_array_equal(nested.boxes, [[0, 0, 500, 333], [10, 20, 1, 1]])
    np.testing.assert_array_equal(flat.boxes, [[5, 6, 10, 20]])
    (val,) = read_stills("imagenet_det", tmp_path, "val")
    np.testing.assert_array_equal(val.boxes, [[2, 3, 10, 10]])


@pytest.mark.parametrize(
    "text", ["<annotation><object>", "<a><object><name>x</name></object></a>", "<a/", ""]
)
def test_a_broken_xml_file_is_named(tmp_path: Path, text: str) -> None:
    layouts.write_imagenet_det(tmp_path)
    (tmp_path / "Annotations/DET/val/ILSVRC2012_val_00000001.xml").write_text(text)
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000001\.xml"):
        read_dataset("imagenet_det", tmp_path, "val")


@pytest.mark.parametrize("images", [".", "images"])
def test_coco_leaves_out_crowds_and_what_has_no_area(tmp_path: Path, images: str) -> None:
    layouts.write_coco(tmp_path)
    (tmp_path / images).mkdir(exist_ok=True)
    (tmp_path / "train2017").rename(tmp_path / images / "train2017")
    with pytest.warns(UserWarning, match=r"COCO: 1 images.*000000000030\.jpg"):
        (still,) = read_stills("coco", tmp_path, "train2017")
    assert still.path.name == "000000000009.jpg"
    expected = [[1.08, 187.69, 611.59, 285.84], [311.73, 4.31, 319.28, 228.68]]
    np.testing.assert_array_equal(still.boxes, expected)


@pytest.mark.parametrize("text", ["[]", "{", '{"annotations": [{"bbox": [1, 2, 3, 4]}]}'])
def test_a_file_that_is_no_coco_annotation_is_named(tmp_path: Path, text: str) -> None:
    layouts.write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(DataError, match=r"instances_train2017\.json is no COCO annotation"):
        read_dataset("coco", tmp_path, "train2017")


@pytest.mark.parametrize("split", ["train", "val"])
def test_youtube_bb_segments(tmp_path: Path, split: str) -> None:
    layouts.write_youtube_bb(tmp_path)
    with pytest.warns(UserWarning, match=r"YouTube-BB: 2 frames"):
        one, two = read_dataset_sequences("youtube_bb", tmp_path, split)
    assert (one.name, two.name) == ("-AbC_1_5_0", "-AbC_1_5_1")
    # in the order of time, without the frame at 2000 ms, in pixels of a 200x100 image
    names = [f"-AbC_1_{time}_5_0.jpg" for time in (1000, 3000, 4000)]
    assert [path.name for path in one.frames] == names
    assert all(path.is_file() for path in one.frames)
    np.testing.assert_allclose(one.boxes, [[20, 20, 80, 40], NAN, [40, 20, 80, 40]])
    np.testing.assert_array_equal(two.boxes, [[0, 0, 200, 100]])


@pytest.mark.filterwarnings("ignore:YouTube-BB. 2 frames")
def test_youtube_bb_segments_without_a_readable_image_are_left_out(tmp_path: Path) -> None:
    layouts.write_youtube_bb(tmp_path)
    folder = tmp_path / "yt_bb_detection_train" / "5"
    (folder / "-AbC_1_1000_5_1.jpg").write_bytes(b"no image")
    (folder / "-AbC_1_1000_5_0.jpg").write_bytes(b"")
    (one,) = read_dataset_sequences("youtube_bb", tmp_path, "train")
    assert one.name == "-AbC_1_5_0"
    np.testing.assert_allclose(one.boxes[2], [40, 20, 80, 40])
    for file in folder.iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"no image in .* can be read"):
        read_dataset("youtube_bb", tmp_path, "train")


def test_a_broken_line_of_the_csv_is_shown(tmp_path: Path) -> None:
    layouts.write_youtube_bb(tmp_path)
    with open(tmp_path / "yt_bb_detection_train.csv", "a") as file:
        file.write("\nabc,1000,5,cat,0,present,0.1,0.5,0.2\n")
    with pytest.raises(DataError, match=r"expected 10 columns.*got 'abc,1000.*9 columns"):
        read_dataset("youtube_bb", tmp_path, "train")

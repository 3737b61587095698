"""The list of datasets, what all readers share, and where recipes and commands name them."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import dataset_layouts as layouts
import numpy as np
import pytest
from synthetic import moving_boxes, picture, tiny_model

from siamkd_core.augment import AugmentConfig
from siamkd_core.cli import main
from siamkd_core.config import from_mapping
from siamkd_core.datasets import DATASETS, read_dataset
from siamkd_core.datasets.frames import Frames
from siamkd_core.errors import ConfigError, DataError
from siamkd_core.pairs import PairDataset, PairsConfig, SourceConfig, find_sources
from siamkd_core.sequences import Sequence, read_boxes
from siamkd_core.tune import anchored

# dataset, split, a file or folder that is then removed, what is expected, what is found
WRONG = [
    ("got10k", "train", "train/list.txt", r"\{train,val,test\}/list\.txt", "found GOT-10k_Train"),
    ("lasot", "test", "testing_set.txt", "<class>/<class>-<n>", "found airplane, kite"),
    ("trackingnet", "train", "TRAIN_2/frames", "frames/<sequence>/0.jpg", "found anno in TRAIN_2"),
    ("imagenet_vid", "val", "Data/VID/val", "{Annotations,Data}/VID/val", "found train in Data"),
    ("youtube_bb", "val", "yt_bb_detection_validation.csv", "<youtube_id>_<tim", "found yt_bb_det"),
    ("coco", "train2017", "train2017", "annotations/instances_<split>.json", "found annotations"),
    ("imagenet_det", "train", "Annotations", "{Annotations,Data}/DET/train/<set>", "found Data"),
    ("otb", "", "Woman/img", "groundtruth_rect.txt (or .1.txt, .2.txt)", "found groundtruth_rect"),
    ("uav123", "UAV123", "configSeqs.m", "anno/{UAV123,UAV20L}", "found ReadMe.txt, anno, data_s"),
    ("dtb70", "", "Animal1/img", "<Sequence>/img/00001.jpg", "found groundtruth_rect.txt in An"),
    ("vot", "", "bag/groundtruth.txt", "<sequence>/groundtruth.txt and", "found 00000001.jpg"),
    ("folders", "", "walk/img", "<name>/img/*.jpg", "found walk"),
]


def writer(name: str) -> Callable[[Path], Path]:
    found: Callable[[Path], Path] = getattr(layouts, f"write_{name}")
    return found


@pytest.mark.filterwarnings("ignore:.*are left out")
@pytest.mark.parametrize(("name", "split", "removed", "expected", "found"), WRONG)
def test_a_wrong_layout_shows_what_was_expected_and_found(
    tmp_path: Path, name: str, split: str, removed: str, expected: str, found: str
) -> None:
    root = writer(name)(tmp_path / "data")
    assert read_dataset(name, root, split)
    (root / removed).rename(tmp_path / "away")
    with pytest.raises(DataError) as caught:
        read_dataset(name, root, split)
    message = str(caught.value)
    assert str(root) in message and "\n" not in message
    assert expected.replace("\\", "") in message.partition("expected ")[2]
    assert found in message


@pytest.mark.parametrize("name", DATASETS)
def test_a_root_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "stray.txt").touch()
    split = DATASETS[name].splits[0] if DATASETS[name].splits else ""
    with pytest.raises(DataError, match=r"expected .*found stray\.txt"):
        read_dataset(name, tmp_path, split)
    with pytest.raises(DataError, match="it does not exist"):
        read_dataset(name, tmp_path / "nowhere", split)


def test_every_dataset_has_its_wrong_layout_tested() -> None:
    assert {row[0] for row in WRONG} == set(DATASETS)


def test_unknown_names_and_splits_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset 'got'; there are: folders, got10k, lasot"):
        read_dataset("got", tmp_path)
    with pytest.raises(DataError, match=r"got10k has no split 'dev'.*train, val, test"):
        read_dataset("got10k", tmp_path, "dev")
    with pytest.raises(DataError, match=r"several splits, name one: train, val, test"):
        read_dataset("got10k", tmp_path)
    with pytest.raises(DataError, match=r"otb has no split 'train'; there are: none"):
        read_dataset("otb", tmp_path, "train")


def test_annotations_without_any_image_are_an_error(tmp_path: Path) -> None:
    root = layouts.write_got10k(tmp_path)
    for image in root.glob("val/*/*.jpg"):
        image.unlink()
    with pytest.raises(DataError, match=r"GOT-10k: none of the frames.*000001/00000001\.jpg"):
        read_dataset("got10k", root, "val")
    root = layouts.write_coco(tmp_path / "coco")
    for image in root.glob("train2017/*.jpg"):
        image.unlink()
    with pytest.raises(DataError, match=r"COCO: none of the images.*000000000009\.jpg"):
        read_dataset("coco", root, "train2017")


def test_frames_are_made_when_asked_for() -> None:
    frames = Frames(Path("a"), "{:03d}.jpg", range(8, 12))
    names = ["008.jpg", "009.jpg", "010.jpg", "011.jpg"]
    assert list(frames) == [Path("a", name) for name in names]
    assert len(frames) == 4 and frames[-1] == Path("a/011.jpg")
    assert list(frames[1:3]) == [Path("a/009.jpg"), Path("a/010.jpg")]
    assert list(frames.take([0, 3])) == [Path("a/008.jpg"), Path("a/011.jpg")]
    assert list(frames.take([0, 2, 3])[1:]) == [Path("a/010.jpg"), Path("a/011.jpg")]
    assert pickle.loads(pickle.dumps(frames)) == frames
    with pytest.raises(IndexError):
        frames[4]
    (sequence,) = anchored(Sequence("s", frames, np.ones((4, 4))), 4, 2)
    assert isinstance(sequence.frames, Frames) and len(sequence.frames) == 2


def write_real_otb(root: Path, count: int = 6) -> Path:
    """Two OTB sequences with images, the target at `moving_boxes`."""
    for name in ("Boy", "Deer"):
        (root / name / "img").mkdir(parents=True)
        lines = []
        for number, box in enumerate(moving_boxes(count), 1):
            cv2.imwrite(str(root / name / "img" / f"{number:04d}.jpg"), picture(box))
            lines.append(",".join(map(str, (box.x + 1, box.y + 1, box.w, box.h))))
        (root / name / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return root


def test_a_recipe_names_dataset_and_split(tmp_path: Path) -> None:
    """And gives the pairs that the same images and boxes give in our own form."""
    root = write_real_otb(tmp_path / "tracking" / "OTB")
    for name in ("Boy", "Deer"):
        shutil.copytree(root / name / "img", tmp_path / "own" / name / "img")
        lines = "".join(",".join(map(str, box)) + "\n" for box in moving_boxes(6))
        (tmp_path / "own" / name / "groundtruth.txt").write_text(lines)
    values = {"folders": ["tracking/OTB*"], "dataset": "otb", "max_gap": 3}
    source = from_mapping(SourceConfig, values, "recipe")
    config = PairsConfig(sources=(source,), augment=AugmentConfig())
    own = PairsConfig(sources=(SourceConfig(("own/*",), max_gap=3),))
    found, same = find_sources(tmp_path, config), find_sources(tmp_path, own)
    names = [item.name for item in found[0].items if isinstance(item, Sequence)]
    assert names == ["Boy", "Deer"]
    for whole in (config, own):
        held = replace(whole, holdout=("Deer",))
        assert [item.name for item in find_sources(tmp_path, held)[0].items] == ["Boy"]
        kept = find_sources(tmp_path, held, held_out=True)
        assert [item.name for source in kept for item in source.items] == ["Deer"]
    pairs, expected = PairDataset(found, config, 8), PairDataset(same, own, 8)
    for number in range(8):
        assert np.array_equal(pairs[number]["search"], expected[number]["search"])
        assert np.array_equal(pairs[number]["exemplar"], expected[number]["exemplar"])
    write_real_otb(tmp_path / "tracking" / "OTB_more")
    assert len(find_sources(tmp_path, config)[0].items) == 4
    with pytest.raises(DataError, match=r"finds no folder of otb in"):
        find_sources(tmp_path, PairsConfig(sources=(SourceConfig(("x*",), dataset="otb"),)))
    with pytest.raises(DataError, match=r"is no OTB folder"):
        find_sources(tmp_path, PairsConfig(sources=(SourceConfig(("track*",), dataset="otb"),)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "otb100"}, "no dataset 'otb100'; there are: folders"),
        ({"dataset": "lasot"}, "name one: train, test, all"),
        ({"dataset": "otb", "random_boxes": True}, "random_boxes is for folders"),
    ],
)
def test_a_recipe_with_another_name_is_refused_before_anything_runs(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(SourceConfig, {"folders": ["a"], **values}, "recipe")


def test_evaluate_reads_a_dataset_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, model = write_real_otb(tmp_path / "OTB"), tiny_model(tmp_path / "model")
    options = ["--device", "cpu", "--precision", "float32", "--threads", "1"]
    argv = ["evaluate", str(root), "--model", str(model), "--output", str(tmp_path / "out")]
    assert main([*argv, *options, "--dataset", "otb", "--sequences", "Deer"]) == 0
    boxes = read_boxes(tmp_path / "out" / "tiny" / "Deer.txt")
    assert tuple(boxes[0]) == moving_boxes(1)[0]
    assert "--dataset otb" in (tmp_path / "out" / "tiny.md").read_text()
    assert "say nothing" not in capsys.readouterr().out
    (root / "Boy" / "groundtruth_rect.txt").write_text("21,31,24,24\n" + "0,0,0,0\n" * 5)
    assert main([*argv, *options, "--dataset", "otb"]) == 0
    assert "1 sequences have only one true box" in " ".join(capsys.readouterr().out.split())
    assert main([*argv, *options, "--dataset", "lasot"]) == 2
    assert "name one: train, test, all" in capsys.readouterr().err
    coco = layouts.write_coco(tmp_path / "coco")
    (coco / "train2017" / "000000000030.jpg").touch()
    argv[1] = str(coco)
    assert main([*argv, *options, "--dataset", "coco", "--split", "train2017"]) == 2
    assert "holds stills (coco); expected videos" in capsys.readouterr().err

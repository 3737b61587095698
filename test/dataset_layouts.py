"""Miniatures of published datasets, each written exactly as its archives are laid out.

Images are empty files unless a test reads them: listing never opens one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def touch(folder: Path, pattern: str, numbers: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / pattern.format(number)).touch()


def write_got10k(root: Path) -> Path:
    """train and val of 4 frames (train's second lacks its third image), test of 3."""
    labels = {"absence.label": "0\n0\n1\n0\n", "cover.label": "8\n0\n0\n5\n"}
    labels["cut_by_image.label"] = "0\n0\n0\n0\n"
    meta = "[METAINFO]\nurl: x\nbegin: 00:00:01\nanno_fps: 10Hz\nresolution: (200, 100)\n"
    for split, title in (("train", "Train"), ("val", "Val")):
        names = [f"GOT-10k_{title}_00000{number}" for number in (1, 2)]
        write(root / split / "list.txt", "\n".join(names) + "\n")
        for name in names:
            folder = root / split / name
            touch(folder, "{:08d}.jpg", range(1, 5))
            lines = [f"{10 + i}.0000,{20 + i}.0000,30.5000,40.0000" for i in range(4)]
            write(folder / "groundtruth.txt", "\n".join(lines) + "\n")
            write(folder / "meta_info.ini", meta)
            for file, text in labels.items():
                write(folder / file, text)
    (root / "train" / "GOT-10k_Train_000002" / "00000003.jpg").unlink()
    write(root / "test" / "list.txt", "GOT-10k_Test_000001\n")
    folder = root / "test" / "GOT-10k_Test_000001"
    touch(folder, "{:08d}.jpg", range(1, 4))
    write(folder / "groundtruth.txt", "5.0000,6.0000,7.0000,8.0000\n")
    return root


def write_lasot(root: Path) -> Path:
    """Two for training, of which airplane-2 lacks its last image, and kite-15 for test."""
    write(root / "testing_set.txt", "kite-15\n")
    for name in ("airplane-1", "airplane-2", "kite-15"):
        folder = root / name.split("-")[0] / name
        touch(folder / "img", "{:08d}.jpg", range(1, 6))
        write(folder / "groundtruth.txt", "1,1,50,60\n2,2,50,60\n3,3,50,60\n2,2,-1,-1\n5,5,50,60\n")
        write(folder / "full_occlusion.txt", "0,1,0,0,0")
        write(folder / "out_of_view.txt", "0,0,1,0,0\n")
        write(folder / "nlp.txt", "white airplane landing\n")
    (root / "airplane" / "airplane-2" / "img" / "00000005.jpg").unlink()
    return root


def write_trackingnet(root: Path) -> Path:
    """Chunks 0, 2 and 10 of one sequence each; that of chunk 10 lacks its last image."""
    for chunk in (0, 2, 10):
        folder = root / f"TRAIN_{chunk}"
        lines = [f"{i - 2:.2f},102.00,245.00,174.00" for i in range(12)]
        write(folder / "anno" / f"video{chunk}_0.txt", "\n".join(lines) + "\n")
        touch(folder / "frames" / f"video{chunk}_0", "{}.jpg", range(12))
    (root / "TRAIN_10" / "frames" / "video10_0" / "11.jpg").unlink()
    write(root / "TEST" / "anno" / "0-6LB4FqxoE_0.txt", "7.00,8.00,9.00,10.00\n")
    touch(root / "TEST" / "frames" / "0-6LB4FqxoE_0", "{}.jpg", range(3))
    return root


def write_otb(root: Path) -> Path:
    """Every oddity of OTB-100; Woman lacks its second image."""
    plain = {"Basketball": ",", "Woman": "\t"}
    for name, separator in plain.items():
        touch(root / name / "img", "{:04d}.jpg", range(1, 4))
        lines = [separator.join(map(str, (198 + i, 214, 34, 81))) for i in range(3)]
        write(root / name / "groundtruth_rect.txt", "\r\n".join(lines) + "\r\n")
    (root / "Woman" / "img" / "0002.jpg").unlink()
    touch(root / "David" / "img", "{:04d}.jpg", range(1, 771))
    write(root / "David" / "groundtruth_rect.txt", "129,80,64,78\n" * 471)
    touch(root / "Football1" / "img", "{:04d}.jpg", range(1, 82))
    write(root / "Football1" / "groundtruth_rect.txt", "153,105,26,43\n" * 74)
    touch(root / "BlurCar1" / "img", "{:04d}.jpg", range(247, 250))
    text = "250\t168\t106\t105\n250 170 106 105\n251\t171\t106\t105\n"
    write(root / "BlurCar1" / "groundtruth_rect.txt", text)
    touch(root / "Board" / "img", "{:05d}.jpg", range(1, 4))
    write(root / "Board" / "groundtruth_rect.txt", "57,156,198,173\n58,156,198,173\n0,0,0,0\n")
    for name in ("Jogging", "Human4"):
        touch(root / name / "img", "{:04d}.jpg", range(1, 3))
    write(root / "Jogging" / "groundtruth_rect.1.txt", "111,98,25,101\n112,98,25,101\n")
    write(root / "Jogging" / "groundtruth_rect.2.txt", "180,83,37,114\n181,83,37,114\n\n")
    write(root / "Human4" / "groundtruth_rect.1.txt", "\n")
    write(root / "Human4" / "groundtruth_rect.2.txt", "99,237,27,82\n99,238,27,82\n")
    return root


def write_dtb70(root: Path) -> Path:
    """Two sequences; Yacht2 lacks its first image."""
    for name in ("Animal1", "Yacht2"):
        touch(root / name / "img", "{:05d}.jpg", range(1, 4))
        write(root / name / "groundtruth_rect.txt", "571,285,84,90\n572,285,84,90\n573,285,84,90\n")
    (root / "Yacht2" / "img" / "00001.jpg").unlink()
    return root


def matlab_config(sequences: dict[str, list[tuple[str, str, int, int]]]) -> str:
    """configSeqs.m: per variable name, video, start and end of each sequence."""
    text = "function seqs=configSeqs\n\n"
    for variable, rows in sequences.items():
        entries = [
            f"struct('name','{name}','path','D:\\data_seq\\UAV123\\{video}\\','startFrame',{start},"
            f"'endFrame',{end},'nz',6,'ext','jpg','init_rect',[0,0,0,0])"
            for name, video, start, end in rows
        ]
        text += f"{variable} = {{" + ",...\n    ".join(entries) + "};\n\n"
    return text + "seqs = seqUAV123; %seqUAV123, seqUAV20L\n"


def write_uav123(root: Path) -> Path:
    """car1_1 and car1_2 share a video; bike1 lacks its second image; UAV20L has the whole car1."""
    short = [("bike1", "bike1", 1, 3), ("car1_1", "car1", 1, 3), ("car1_2", "car1", 3, 6)]
    text = matlab_config({"seqUAV123": short, "seqUAV20L": [("car1", "car1", 1, 6)]})
    write(root / "configSeqs.m", text)
    for name, _, start, end in short:
        lines = ["NaN,NaN,NaN,NaN" if i == 5 else f"{i},20,30,40" for i in range(start, end + 1)]
        write(root / "anno" / "UAV123" / f"{name}.txt", "\n".join(lines) + "\n")
    write(root / "anno" / "UAV20L" / "car1.txt", "7,8,9,10\n" * 6)
    touch(root / "data_seq" / "UAV123" / "bike1", "{:06d}.jpg", (1, 3))
    touch(root / "data_seq" / "UAV123" / "car1", "{:06d}.jpg", range(1, 7))
    write(root / "ReadMe.txt", "NaN: occluded or outside")
    return root


DIAMOND = "10,0,20,10,10,20,0,10"


def write_vot(root: Path) -> Path:
    """ants1 laid out as VOT2018 and later (it lacks its last image), bag as before."""
    write(root / "list.txt", "ants1\nbag\n")
    lines = [DIAMOND, "1.5,2,3,4", "nan,nan,nan,nan", "m5,6,7,8,0,56", "1", "0,0,0,0", "1,2,3,4"]
    write(root / "ants1" / "groundtruth.txt", "\n".join(lines) + "\n\n")
    write(root / "ants1" / "sequence", "channels.color=color/%08d.jpg\nformat=default\nfps=30\n")
    write(root / "ants1" / "occlusion.tag", "0\n1\n")
    touch(root / "ants1" / "color", "{:08d}.jpg", range(1, 7))
    write(root / "bag" / "groundtruth.txt", f"{DIAMOND}\n30,10,70,40,55,60,15,30\n")
    write(root / "bag" / "occlusion.label", "0\n1\n")
    touch(root / "bag", "{:08d}.jpg", range(1, 3))
    return root


def annotation_xml(*things: tuple[int | None, tuple[int, int, int, int]]) -> str:
    """An ILSVRC annotation with track and xmin, ymin, xmax, ymax of each object."""
    text = "<annotation>\n\t<size>\n\t\t<width>200</width>\n\t\t<height>100</height>\n\t</size>\n"
    for track, (x0, y0, x1, y1) in things:
        text += "\t<object>\n"
        if track is not None:
            text += f"\t\t<trackid>{track}</trackid>\n"
        text += f"\t\t<name>n02691156</name>\n\t\t<bndbox>\n\t\t\t<xmax>{x1}</xmax>\n"
        text += f"\t\t\t<xmin>{x0}</xmin>\n\t\t\t<ymax>{y1}</ymax>\n\t\t\t<ymin>{y0}</ymin>\n"
        text += "\t\t</bndbox>\n\t\t<occluded>1</occluded>\n\t\t<generated>0</generated>\n"
        text += "\t</object>\n"
    return text + "</annotation>\n"


VID_VIDEO = Path("train", "ILSVRC2015_VID_train_0000", "ILSVRC2015_train_00001000")


def write_imagenet_vid(root: Path) -> Path:
    """Track 0 in frames 0, 1, 3 and 4 (no image), track 1 in one frame only; a val video."""
    boxes = {0: [(0, (0, 5, 9, 24)), (1, (1, 1, 2, 2))], 1: [(0, (1, 5, 10, 24))], 2: []}
    boxes |= {3: [(0, (3, 5, 12, 24))], 4: [(0, (4, 5, 13, 24))]}
    for number, things in boxes.items():
        file = root / "Annotations" / "VID" / VID_VIDEO / f"{number:06d}.xml"
        write(file, annotation_xml(*things))
    touch(root / "Data" / "VID" / VID_VIDEO, "{:06d}.JPEG", range(4))
    video = Path("val", "ILSVRC2015_val_00000000")
    for number in (0, 1):
        file = root / "Annotations" / "VID" / video / f"{number:06d}.xml"
        write(file, annotation_xml((7, (10, 20, 29, 49))))
    touch(root / "Data" / "VID" / video, "{:06d}.JPEG", range(2))
    return root


def write_imagenet_det(root: Path) -> Path:
    """Images in nested and flat sets; one without objects, one whose image is missing."""
    train = {
        "ILSVRC2013_train/n00007846/n00007846_103856": [(0, 0, 499, 332), (10, 20, 10, 20)],
        "ILSVRC2014_train_0000/ILSVRC2014_train_00000001": [(5, 6, 14, 25)],
        "ILSVRC2014_train_0000/ILSVRC2014_train_00000002": [],
        "ILSVRC2014_train_0006/ILSVRC2014_train_00060660": [(1, 1, 9, 9)],
    }
    files = {f"train/{name}": boxes for name, boxes in train.items()}
    files["val/ILSVRC2012_val_00000001"] = [(2, 3, 11, 12)]
    for name, boxes in files.items():
        things = [(None, box) for box in boxes]
        write(root / "Annotations" / "DET" / f"{name}.xml", annotation_xml(*things))
        if not name.endswith("60660"):
            write(root / "Data" / "DET" / f"{name}.JPEG")
    return root


def write_coco(root: Path) -> Path:
    """Image 9 with two objects, a crowd and an empty box, 25 without any, 30 without its file."""
    crowd = {"counts": [1, 2], "size": [2, 2]}
    rows = [
        {"image_id": 9, "bbox": [1.08, 187.69, 611.59, 285.84], "iscrowd": 0, "id": 1},
        {"image_id": 9, "bbox": [0, 0, 10, 10], "iscrowd": 1, "id": 2, "segmentation": crowd},
        {"image_id": 30, "bbox": [1, 2, 3, 4], "iscrowd": 0, "id": 3},
        {"image_id": 9, "bbox": [311.73, 4.31, 319.28, 228.68], "iscrowd": 0, "id": 4},
        {"image_id": 9, "bbox": [311.73, 4.31, 0, 228.68], "iscrowd": 0, "id": 5},
    ]
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640} for i in (9, 25, 30)]
    content = {"info": {}, "images": images, "annotations": rows, "categories": []}
    write(root / "annotations" / "instances_train2017.json", json.dumps(content))
    touch(root / "train2017", "{:012d}.jpg", (9, 25))
    return root


def write_youtube_bb(root: Path) -> Path:
    """Two segments of one video, interleaved and out of order; absent rows; a missing frame."""
    rows = [
        "-AbC_1,3000,5,cat,0,absent,-1.0,-1.0,-1.0,-1.0",
        "-AbC_1,1000,5,cat,0,present,0.1,0.5,0.2,0.6",
        "-AbC_1,1000,5,cat,1,present,0,1,0,1",
        "-AbC_1,2000,5,cat,0,present,0.15,0.55,0.2,0.6",
        "-AbC_1,4000,5,cat,0,present,0.2,0.6,0.2,0.6",
        "gone,1000,0,person,0,present,0.2,0.6,0.2,0.6",
    ]
    for stem in ("yt_bb_detection_train", "yt_bb_detection_validation"):
        write(root / f"{stem}.csv", "\n".join(rows) + "\n")
        folder = root / stem / "5"
        folder.mkdir(parents=True)
        for name in ("1000_5_0", "3000_5_0", "4000_5_0", "1000_5_1"):
            cv2.imwrite(str(folder / f"-AbC_1_{name}.jpg"), np.zeros((100, 200, 3), np.uint8))
    return root


def write_folders(root: Path) -> Path:
    touch(root / "walk" / "img", "{:04d}.jpg", range(1, 3))
    write(root / "walk" / "groundtruth.txt", "1,2,3,4\nnan,nan,nan,nan\n")
    return root

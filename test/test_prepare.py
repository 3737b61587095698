"""Cutting shards: the same bytes however the run went, and nothing fatal but a full disk."""

import hashlib
import json
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from shard_support import CONFIG, PHOTOS, write_data

pytest.importorskip("webdataset", reason="siamkd prepare needs webdataset")

from siamkd_core.augment import AugmentConfig, random_linear, reach
from siamkd_core.box import Box
from siamkd_core.crop import crop_square, exemplar_side
from siamkd_core.cut import cut_target
from siamkd_core.errors import ConfigError, DataError
from siamkd_core.pairs import PairDataset, SourceConfig, find_sources
from siamkd_core.prepare import prepare
from siamkd_core.shard_plan import PrepareConfig
from siamkd_core.shards import read_index
from siamkd_core.views import View

SMALL = PrepareConfig(shard_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "whole"
    prepare(CONFIG, data, folder, SMALL)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_summary_counts_what_there_is(data, tmp_path):
    calls = []
    done = prepare(CONFIG, data, tmp_path, SMALL, 0, lambda *call: calls.append(call))
    # 3 sequences of 5 small boxes, and 2 stills of 3; the large box of each sequence is left out
    assert (done.crops, done.written, done.too_large, done.unreadable) == (21, 21, 3, 0)
    # 12 targets of two sequences, 6 of stills, 6 of the held-out sequence, by 4
    assert done.shards == 3 + 2 + 2
    assert done.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    assert calls[0] == (0, 24) and calls[-1] == (24, 24)
    again = prepare(CONFIG, data, tmp_path, SMALL)
    assert (again.crops, again.written) == (21, 0)


def test_any_number_of_workers_writes_the_same_bytes(data, shards, tmp_path):
    prepare(CONFIG, data, tmp_path, SMALL, workers=2)
    assert hashes(tmp_path) == hashes(shards)


def test_a_killed_run_goes_on_to_the_same_bytes(data, shards, tmp_path):
    here = Path(__file__).parent
    script = f"""
        import os, signal, sys
        sys.path[:0] = {[str(here), str(here.parent)]}
        from shard_support import CONFIG
        from siamkd_core import cut
        from siamkd_core.prepare import prepare
        from siamkd_core.shard_plan import PrepareConfig
        original, left = cut.cut_target, iter(range(9))

        def cut_target(*args):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        cut.cut_target = cut_target
        prepare(CONFIG, {str(data)!r}, {str(tmp_path)!r}, PrepareConfig(shard_size=4))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=200)
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    assert len(before) == 2 and len(list(tmp_path.glob("*.part"))) == 1
    with pytest.raises(DataError, match="not finished; run siamkd prepare again"):
        find_sources(tmp_path, CONFIG)
    done = prepare(CONFIG, data, tmp_path, SMALL)
    assert hashes(tmp_path) == hashes(shards)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert done.written < done.crops == 21


def test_a_full_disk_ends_with_advice_and_keeps_what_is_finished(data, shards, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(done, total):
        if done > 4:  # in the second shard
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(DataError, match=r"no room to write .*_00000004\.tar.*run siamkd"):
            prepare(CONFIG, data, tmp_path, SMALL, 0, fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.glob("*.tar")] == ["00_train_00000000.tar"]
    assert not list(tmp_path.glob("*.part"))
    prepare(CONFIG, data, tmp_path, SMALL)
    assert hashes(tmp_path) == hashes(shards)


def test_broken_images_are_named_and_skipped(tmp_path):
    data = write_data(tmp_path / "data")
    (data / "tracks" / "seq0" / "img" / "2.png").write_bytes(b"no image")
    (data / "stills" / "set" / "1.png").unlink()
    done = prepare(CONFIG, data, tmp_path / "shards")
    assert (done.crops, done.unreadable) == (21 - 1 - 3, 2)
    listed = (tmp_path / "shards" / "unreadable.txt").read_text().split()
    assert listed == ["stills/set/1.png", "tracks/seq0/img/2.png"]
    raw = PairDataset(find_sources(data, CONFIG), CONFIG, 40)
    stored = PairDataset(find_sources(tmp_path / "shards", CONFIG), CONFIG, 40)
    for number in range(40):
        a, b = raw.detail(number), stored.detail(number)
        assert (a.exemplar.name, a.exemplar.frames) == (b.exemplar.name, b.exemplar.frames)


def test_a_folder_of_other_things_is_left_alone(data, shards, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        prepare(CONFIG, data, tmp_path)
    with pytest.raises(DataError, match=r"another plan \(changed: min_side, quality\)"):
        prepare(replace(CONFIG, min_side=11), data, shards, replace(SMALL, quality=80))
    with pytest.raises(DataError, match="where the images are"):
        prepare(CONFIG, shards, tmp_path / "new")
    with pytest.raises(ConfigError):
        PrepareConfig(quality=0)


def test_other_annotations_are_another_plan(tmp_path):
    data = write_data(tmp_path / "data")
    prepare(CONFIG, data, tmp_path / "shards")
    boxes = data / "tracks" / "seq0" / "groundtruth.txt"
    boxes.write_text(boxes.read_text().replace("20.0,60.0", "21.0,60.0"))
    with pytest.raises(DataError, match="annotations_sha256"):
        prepare(CONFIG, data, tmp_path / "shards")


def test_the_shards_are_webdatasets_and_the_table_points_into_them(shards):
    import webdataset

    index = read_index(shards)
    assert index["__kind__"] == "wids-shard-index-v1"
    listed = iter([(s["url"], s["nsamples"]) for s in index["shardlist"]])
    (source,) = find_sources(shards, replace(CONFIG, holdout=("seq2",)))[:1]
    targets = {t.name: t for t in source.items}
    seen = 0
    for url, count in listed:
        samples = list(webdataset.WebDataset(str(shards / url), shardshuffle=False))
        assert len(samples) == count
        for sample in samples:
            facts = json.loads(sample["json"])
            if facts["track"] not in targets:
                continue
            view = targets[facts["track"]].view(facts["frame"])
            image = cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR)
            assert np.array_equal(view.image, image)
            assert view.box == pytest.approx(facts["box"], abs=1e-3)
            assert facts["source"] == "tracks/*"
            assert facts["file"] == f"tracks/{facts['track']}/img/{facts['frame']}.png"
            seen += 1
    assert seen == 10


@pytest.mark.parametrize("box", [Box(100.3, 80.7, 20, 31), Box(60.2, 50.9, 150, 120)])
def test_a_crop_holds_every_pixel_that_the_augmentation_asks_for(box):
    config = AugmentConfig(stretch=0.2, shift=30, rotate=25)
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    view = View(image, box, np.array([10.0, 20.0, 30.0]))
    size = 191
    crop, inside, scale = cut_target(view, reach(config, size))
    assert (inside.w, inside.h) == pytest.approx((box.w * scale, box.h * scale))
    rng = np.random.default_rng(1)
    for corner in [(-30, -30), (30, -30), (-30, 30), (30, 30)] * 8:
        linear = random_linear(config, rng, False)
        side = exemplar_side(inside.w, inside.h) * size / 127
        moved = -(linear @ corner) * side / size
        centre = (inside.cx + moved[0], inside.cy + moved[1])
        one, other = (
            crop_square(crop, centre, side, size, np.full(3, colour), linear)
            for colour in (0.0, 255.0)
        )
        assert np.array_equal(one, other)


def test_a_small_target_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    view = View(image, Box(100.25, 80.5, 20, 30), np.zeros(3))
    crop, inside, scale = cut_target(view, 100.0)
    left, top = round(100.25 - inside.x), round(80.5 - inside.y)
    assert scale == 1 and (left + inside.x, top + inside.y) == (100.25, 80.5)
    assert np.array_equal(crop, image[top : top + len(crop), left : left + len(crop)])


def test_photographs_get_their_random_boxes_once(data, tmp_path):
    how = PrepareConfig(random_boxes=5)
    assert prepare(PHOTOS, data, tmp_path, how).crops == 10
    assert read_index(tmp_path)["siamkd"]["random_boxes"] == 5
    pairs = PairDataset(find_sources(tmp_path, PHOTOS), PHOTOS, 60)
    drawn = {(d.exemplar.name, d.exemplar.frames) for d in map(pairs.detail, range(60))}
    assert drawn == {(f"{n}.png", (box, box)) for n in range(2) for box in range(5)}


def test_the_command_prints_what_it_made(data, tmp_path, capsys):
    import yaml

    from siamkd_core.cli import main
    from siamkd_core.config import to_mapping

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"pairs": to_mapping(CONFIG)}))
    shards = str(tmp_path / "shards")
    command = ["prepare", str(recipe), "--data", str(data), "--output", shards, "--workers", "0"]
    assert main(command) == 0
    said = capsys.readouterr().out
    size = sum(path.stat().st_size for path in Path(shards).glob("*.tar"))
    assert f"21 crops in 3 shards, {size} bytes, {size / 21:.0f} bytes per crop" in said
    assert "crops per second" in said and "3 boxes were left out" in said
    sheet = tmp_path / "sheets" / "one.png"
    command = ["inspect", str(recipe), "--data", shards, "--output", str(sheet), "--pairs", "2"]
    assert main(command) == 0
    assert cv2.imread(str(sheet)) is not None
    assert main([*command[:-3], str(tmp_path / "sheet.gif")]) == 2


def test_pairs_of_a_distillation_have_the_labels_of_its_teachers_family(data, tmp_path):
    import yaml

    from siamkd_core.cli import main
    from siamkd_core.config import to_mapping

    pairs = to_mapping(replace(CONFIG, search_size=239))
    sheets = {}
    for teacher, student in (
        ("siamfc", {"widths": [2, 2, 2, 2, 2]}),
        ("dstrpn", {"widths": [2, 2, 2, 2, 2], "head": {"kind": "pixelwise", "width": 2}}),
    ):
        recipe, sheet = tmp_path / f"{teacher}.yaml", tmp_path / f"{teacher}.png"
        values = {"teacher": teacher, "students": [{"name": "small", **student}], "pairs": pairs}
        recipe.write_text(yaml.safe_dump({**values, "sharing": {"variant": "none"}}))
        command = ["inspect", str(recipe), "--data", str(data), "--output", str(sheet)]
        assert main([*command, "--pairs", "2"]) == 0
        sheets[teacher] = cv2.imread(str(sheet))
    # the same pairs, and a siamrpn's anchors are positive elsewhere than a siamfc's circle
    assert sheets["siamfc"].shape == sheets["dstrpn"].shape
    assert (sheets["siamfc"] != sheets["dstrpn"]).any()


def test_pairs_of_a_head_have_the_labels_of_its_anchors(data, tmp_path):
    import yaml

    from siamkd_core.cli import main
    from siamkd_core.config import to_mapping

    sheets = {}
    for kind in ("upchannel", "depthwise", "pixelwise"):
        recipe, sheet = tmp_path / f"{kind}.yaml", tmp_path / f"{kind}.png"
        values = {"architecture": "siamrpn", "head": {"kind": kind, "width": 2}}
        pairs = to_mapping(replace(CONFIG, search_size=239))
        recipe.write_text(yaml.safe_dump({**values, "pairs": pairs}))
        command = ["inspect", str(recipe), "--data", str(data), "--output", str(sheet)]
        assert main([*command, "--pairs", "4"]) == 0
        sheets[kind] = cv2.imread(str(sheet))
    assert (sheets["upchannel"] == sheets["depthwise"]).all()
    assert (sheets["pixelwise"] != sheets["depthwise"]).any()


def test_a_source_that_finds_nothing_is_refused_before_anything_is_written(data, tmp_path):
    config = replace(CONFIG, sources=(SourceConfig(("nothing/*",)),))
    with pytest.raises(DataError, match="nothing"):
        prepare(config, data, tmp_path)
    assert not list(tmp_path.iterdir())

"""tools/measure_latency.py: what it calls out of order, re-stamped and lost."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from latency_report import machine, report
from latency_run import Run, median_p99
from patch_scene import CLIP_FRAMES, SIDE, place, write_clip

from siamkd_core.image import read_image

MS = 1_000_000


def run(published: list[int], results: list[tuple[int, int]]) -> Run:
    return Run(
        (640, 480), 30.0, [n * MS for n in published], [(s * MS, a * MS) for s, a in results]
    )


def test_a_faultless_run() -> None:
    fine = run([10, 20, 30, 40, 50], [(20, 25), (30, 37), (40, 43)])
    assert fine.latencies == pytest.approx([0.005, 0.007, 0.003])
    assert (fine.out_of_order, fine.restamped, fine.share) == (0, 0, 1.0)


def test_faults_are_seen() -> None:
    assert run([10, 20, 30], [(10, 11), (30, 31), (20, 32)]).out_of_order == 1
    assert run([10, 20, 30], [(10, 11), (10, 12)]).out_of_order == 1
    assert run([10, 20, 30], [(10, 11), (21, 22)]).restamped == 1
    assert run([10, 20, 30, 40], [(10, 11), (40, 41)]).share == 0.5


def test_the_networks_time_is_taken_off_frame_by_frame() -> None:
    one = run([10, 20, 30], [(10, 30), (20, 30), (30, 90)])
    one.network = {10 * MS: 0.015, 30 * MS: 0.050}
    assert one.beyond == pytest.approx([0.005, 0.010])
    assert median_p99([0.001, 0.002, 0.003]) == pytest.approx((2.0, 2.98))


def test_page_faults_are_those_between_the_results() -> None:
    one = run([10, 20, 30, 40, 50], [(20, 25), (40, 43)])
    one.faults = {10 * MS: 0, 20 * MS: 1000, 40 * MS: 1500, 50 * MS: 9000}
    assert one.faults_per_image == 250  # of two images, one of which had no result
    one.faults = {20 * MS: 1000}
    assert math.isnan(one.faults_per_image)


def test_the_report_has_the_ratio() -> None:
    bare = run([10, 20, 30], [(10, 12), (20, 22), (30, 32)])
    tracker = run([10, 20, 30], [(10, 30), (20, 40), (30, 50)])
    tracker.network = {n * MS: 0.016 for n in (10, 20, 30)}
    tracker.faults = {n * MS: 70 * n for n in (10, 20, 30)}
    text = report("the command", "the transport", [(bare, tracker)])
    row = next(line for line in text.splitlines() if line.startswith("| 640x480, 30 Hz | 2.0"))
    assert row.split(" | ")[1:5] == ["2.0 / 2.0", "20.0 / 20.0", "4.0 / 4.0", "2.0 / 2.0"]
    assert "`the command`" in text and text.count("| 700 |") == 1


def test_the_clip_shows_the_target_where_it_says(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", 320, 240)
    files = sorted(folder.iterdir())
    assert len(files) == CLIP_FRAMES
    patches = []
    for n in (0, 17, 40):
        x, y = place(n, 320, 240)
        patches.append(read_image(files[n])[y : y + SIDE, x : x + SIDE])
    assert patches[0].shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(patches[0], patches[1])
    np.testing.assert_array_equal(patches[0], patches[2])


def test_the_machine_is_named() -> None:
    assert "cores, load average" in machine()

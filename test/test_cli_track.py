"""`siamkd track`, as a user runs it, with a small untrained model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import moving_boxes, picture, tiny_model, write_sequence

from siamkd_core.cli import main
from siamkd_core.sequences import read_boxes
from siamkd_core.video import VideoWriter, open_source

FRAMES = 8
BOX = "20,30,24,24"


def options(model: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--device", "cpu", "--precision", "float32", "--threads", "1"]
    return ["--model", str(model), "--output", str(output), *fixed, *more]


def track(source: Path, model: Path, output: Path, *more: str) -> int:
    return main(["track", str(source), *options(model, output, *more)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 25) as writer:
        for box in moving_boxes(FRAMES):
            writer.write(picture(box))
    return path


def test_video(clip: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert track(clip, model, output, "--box", BOX) == 0
    assert "8 frames" in capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == [
        "clip.mp4",
        "clip.txt",
        "clip_score.txt",
        "clip_sheet.jpg",
    ]
    boxes = read_boxes(output / "clip.txt")
    assert boxes.shape == (FRAMES, 4)
    assert tuple(boxes[0]) == (20, 30, 24, 24)
    scores = np.loadtxt(output / "clip_score.txt")
    assert scores.shape == (FRAMES,)
    assert ((scores >= 0) & (scores <= 1)).all()
    with open_source(str(output / "clip.mp4")) as source:
        assert len(list(source)) == FRAMES
        assert source.fps == pytest.approx(25)


def test_named_video_and_late_start(clip: Path, model: Path, tmp_path: Path) -> None:
    video = tmp_path / "new" / "mine.v2.mp4"
    assert track(clip, model, video, "--box", BOX, "--start", "3") == 0
    boxes = read_boxes(video.with_name("mine.v2.txt"))
    assert np.isnan(boxes[:3]).all()
    assert np.isfinite(boxes[3:]).all()
    assert len(boxes) == FRAMES
    with open_source(str(video)) as source:
        assert len(list(source)) == FRAMES - 3


def test_folder_with_a_broken_frame_keeps_a_line_per_frame(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sequence(tmp_path / "patch", moving_boxes(FRAMES))
    (folder / "img" / "0004.png").write_bytes(b"broken")
    assert track(folder, model, tmp_path / "out", "--box", BOX) == 0
    assert "1 unreadable frame" in capsys.readouterr().out
    boxes = read_boxes(tmp_path / "out" / "patch.txt")
    assert np.flatnonzero(np.isnan(boxes[:, 0])).tolist() == [3]
    assert len(boxes) == FRAMES


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--box", "1,2,3"], "x,y,w,h"),
        (["--box", "900,900,20,20"], "outside"),
        (["--box", BOX, "--start", "8"], "no frame 8"),
        ([], "--box"),
    ],
)
def test_mistakes_leave_nothing_behind(
    clip: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert track(clip, model, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_finishes_the_files(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(moving_boxes(1)[0]))
    for number in range(1, 20000):
        os.link(folder / "0.png", folder / f"{number}.png")
    output = tmp_path / "out"
    code = "import sys; from siamkd_core.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = ["track", str(folder), *options(model, output, "--box", BOX)]
    process = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE)
    try:
        partial = output / ".endless.partial.mp4"
        deadline = time.monotonic() + 120
        while not (partial.exists() and partial.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < deadline, "no video after two minutes"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    boxes = read_boxes(output / "endless.txt")
    with open_source(str(output / "endless.mp4")) as source:
        assert 0 < len(list(source)) == len(boxes) < 20000
    assert len(np.loadtxt(output / "endless_score.txt", ndmin=1)) == len(boxes)
    assert (output / "endless_sheet.jpg").is_file()

"""Frame sources and the video writer, on files made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamkd_core.errors import SiamkdError
from siamkd_core.sequences import natural_key
from siamkd_core.video import VideoWriter, open_source


def grey(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames 1, 2, 3, 10, 11 without leading zeros, their value ten times their number."""
    path = tmp_path / "clip"
    path.mkdir()
    for number in (1, 2, 3, 10, 11):
        cv2.imwrite(str(path / f"frame{number}.png"), grey(10 * number))
    (path / "readme.txt").write_text("not an image")
    (path / ".hidden.png").write_bytes(b"")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 25) as writer:
        for index in range(12):
            writer.write(grey(20 * index))
    return path


def test_folder_comes_in_natural_order(folder: Path) -> None:
    with open_source(str(folder)) as source:
        assert [int(frame[0, 0, 0]) for frame in source] == [10, 20, 30, 100, 110]
        assert (source.name, source.size, source.count) == ("clip", (64, 48), 5)
        assert (source.fps, source.live, source.skipped, source.index) == (None, False, 0, 4)


def test_sequence_folder_means_its_images(tmp_path: Path, folder: Path) -> None:
    sequence = tmp_path / "couple"
    sequence.mkdir()
    folder.rename(sequence / "img")
    for given in (sequence, sequence / "img"):
        source = open_source(str(given))
        assert (source.name, len(list(source))) == ("couple", 5)


def test_unreadable_frames_are_skipped_counted_and_keep_the_index(folder: Path) -> None:
    (folder / "frame2.png").write_bytes(b"\x89PNG broken")
    (folder / "frame1.png").write_bytes(b"")
    source = open_source(str(folder))
    seen = [(source.index, int(frame[0, 0, 0])) for frame in source]
    assert seen == [(2, 30), (3, 100), (4, 110)]
    assert source.skipped == 2
    assert source.count == 5


def test_video_file(clip: Path) -> None:
    with open_source(str(clip)) as source:
        assert (source.name, source.size, source.live, source.count) == (
            "clip",
            (64, 48),
            False,
            12,
        )
        assert source.fps == pytest.approx(25)
        for _ in range(2):  # a second pass starts at the beginning again
            values = [int(frame.mean()) for frame in source]
            assert values == pytest.approx([20 * index for index in range(12)], abs=6)
            assert source.index == 11


def test_video_interrupted_pass_starts_again(clip: Path) -> None:
    source = open_source(str(clip))
    next(iter(source))
    assert len(list(source)) == 12
    source.close()
    source.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "no images in"),
        (lambda path: path.write_text("no video"), "cannot be opened"),
        (lambda path: path.write_bytes(b""), "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_says_so(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(SiamkdError, match=message) as caught:
        open_source(str(path))
    assert "thing" in str(caught.value)


def test_folder_of_broken_images_and_a_single_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(SiamkdError, match="can be decoded"):
        open_source(str(tmp_path))
    with pytest.raises(SiamkdError, match="single image"):
        open_source(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("source", [87, "87", "/dev/video87"])
def test_a_webcam_that_is_not_there_is_named(source: str | int) -> None:
    with pytest.raises(SiamkdError, match=r"webcam 87 cannot be opened"):
        open_source(source)


def test_natural_key_orders_by_value() -> None:
    names = ["img10", "img9b", "img09", "img", "2", "10", "b", "a1b20", "a1b3", "²"]
    assert sorted(names, key=natural_key) == [
        "2", "10", "a1b3", "a1b20", "b", "img", "img09", "img9b", "img10", "²",
    ]  # fmt: skip


def test_writer_pads_odd_sizes_and_resizes_strangers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "odd.mp4"
    with VideoWriter(path, 30) as writer:
        writer.write(grey(50, 63, 47))
        writer.write(grey(90, 200, 100))
    with open_source(str(path)) as source:
        frames = list(source)
    assert source.size == (64, 48)
    assert [int(frame.mean()) for frame in frames] == pytest.approx([50, 90], abs=6)


def test_writer_names_the_file_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, 30)
    writer.write(grey(1))
    assert not path.exists()
    writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_writer_keeps_the_older_file_after_an_error_and_the_new_one_after_ctrl_c(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("older")
    with pytest.raises(RuntimeError), VideoWriter(path, 30) as writer:
        writer.write(grey(1))
        raise RuntimeError
    assert path.read_text() == "older"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 30) as writer:
        writer.write(grey(1))
        raise KeyboardInterrupt
    assert open_source(str(path)).size == (64, 48)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 30):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps"), [("out.gif", 30), ("out.mp4", 0), ("out.mp4", float("nan"))]
)
def test_writer_refuses(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(SiamkdError, match=r"out\."):
        VideoWriter(tmp_path / name, fps)


def test_writer_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = VideoWriter(tmp_path / "file" / "out.mp4", 30)
    with pytest.raises(SiamkdError, match="cannot write"):
        writer.write(grey(1))


def test_an_interrupt_while_the_file_is_opened_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        cv2,
        "VideoWriter",
        type(
            "Opening", (), {"fourcc": staticmethod(cv2.VideoWriter.fourcc), "__init__": interrupted}
        ),
    )
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(np.zeros((20, 20, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []

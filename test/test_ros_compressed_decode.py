"""siamkd_ros.compressed_decode: JPEG and PNG as they come, and everything else refused in words."""

from __future__ import annotations

import array
import struct
import tracemalloc
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_ros.compressed_decode import check_compressed, decode_compressed
from siamkd_ros.rejected import Rejected

COLOUR = np.zeros((60, 80, 3), np.uint8)
COLOUR[:, :40] = (255, 0, 0)  # blue at the left, as OpenCV orders channels
COLOUR[:, 40:] = (0, 0, 255)
JPEG = cv2.imencode(".jpg", COLOUR)[1].tobytes()
PNG = cv2.imencode(".png", COLOUR)[1].tobytes()


def message(data: Any, kind: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=kind, data=data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (JPEG, "jpeg"),
        (JPEG, "bgr8; jpeg compressed bgr8"),  # as image_transport writes it
        (JPEG, ""),
        (PNG, "rgb8; png compressed "),
    ],
)
def test_the_picture_in_bgr_whatever_the_format_says(data: bytes, kind: str) -> None:
    assert check_compressed(message(data, kind)) == (80, 60)
    image = decode_compressed(message(data, kind))
    assert (image.shape, image.dtype) == ((60, 80, 3), np.uint8)
    assert np.abs(image.astype(int) - COLOUR)[:, 5:35].max() < 10
    assert np.abs(image.astype(int) - COLOUR)[:, 45:75].max() < 10


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_grey_becomes_bgr(extension: str) -> None:
    grey = np.full((60, 80), 77, np.uint8)
    image = decode_compressed(message(cv2.imencode(extension, grey)[1].tobytes()))
    assert image.shape == (60, 80, 3)
    assert np.abs(image.astype(int) - 77).max() < 3


def test_transparency_is_dropped_and_16_bits_become_8() -> None:
    clear = np.dstack([COLOUR, np.zeros((60, 80), np.uint8)])
    image = decode_compressed(message(cv2.imencode(".png", clear)[1].tobytes()))
    assert (image == COLOUR).all()
    deep = np.full((60, 80, 3), 0x4080, np.uint16)
    image = decode_compressed(message(cv2.imencode(".png", deep)[1].tobytes()))
    assert image.dtype == np.uint8
    assert (image == 0x40).all()


def test_an_exif_rotation_leaves_the_pixels_where_the_camera_put_them() -> None:
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    image = decode_compressed(message(turned))
    assert image.shape == (60, 80, 3)


# Webcams pad, some to the end of a buffer that is large enough for any picture.
PADDING = {
    "100 zeros": bytes(100),
    "2000 zeros": bytes(2000),
    "a megabyte of zeros": bytes(1 << 20),
    "5000 ones": b"\xff" * 5000,
    "ones, then zeros": b"\xff" * 3001 + bytes(3002),
    "a note, then zeros": b"made by a camera" + bytes(9000),
}


@pytest.mark.parametrize("padding", PADDING)
def test_padding_of_any_length_is_passed_over(padding: str) -> None:
    for source in (JPEG, PNG):
        padded = message(source + PADDING[padding])
        assert check_compressed(padded) == (80, 60)
        np.testing.assert_array_equal(decode_compressed(padded), decode_compressed(message(source)))


@pytest.mark.parametrize("padding", PADDING)
def test_padding_does_not_hide_that_the_end_is_missing(padding: str) -> None:
    for cut in (JPEG[:-1], JPEG[:-2], JPEG[:-200], JPEG[:3], PNG[:-40], PNG[:8]):
        with pytest.raises(Rejected, match="has no end") as refused:
            check_compressed(message(cut + PADDING[padding]))
        assert refused.value.reason == "truncated"


def with_segments(size: int) -> bytes:
    """The JPEG with so many bytes more in its header, as a camera's own notes."""
    note = b"\xff\xe9" + struct.pack(">H", 60_002) + bytes(60_000)
    return JPEG[:2] + size // 60_000 * note + JPEG[2:]


@pytest.mark.parametrize("size", [60_000, 600_000])
def test_a_header_of_any_length_is_read(size: int) -> None:
    assert check_compressed(message(with_segments(size))) == (80, 60)


@pytest.mark.parametrize("padding", [0, 1 << 22])
def test_to_check_an_image_takes_no_copy_of_it(padding: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    large = cv2.imencode(".jpg", noise)[1].tobytes()
    assert len(large) > 1 << 20
    checked = message(array.array("B", large + bytes(padding)))
    check_compressed(message(JPEG))  # what Pillow loads once
    tracemalloc.start()
    try:
        assert check_compressed(checked) == (1600, 1200)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    empty = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + empty + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"", "jpeg", "encoding"),
        (b"GIF89a" + bytes(100), "gif", "encoding"),
        (bytes(12) + PNG, "16UC1; compressedDepth png", "encoding"),
        (JPEG[:-200], "jpeg", "truncated"),
        (PNG[:-40], "png", "truncated"),
        (b"\xff\xd8\xff" + bytes(50) + b"\xff\xd9", "jpeg", "encoding"),
        (cv2.imencode(".png", COLOUR[:1])[1].tobytes(), "png", "too_small"),
        (huge_png(), "png", "too_large"),
    ],
)
def test_refused_with_the_reason(data: bytes, kind: str, reason: str) -> None:
    for use in (check_compressed, decode_compressed):
        with pytest.raises(Rejected) as refused:
            use(message(data, kind))
        assert refused.value.reason == reason


@settings(max_examples=300, deadline=None)
@given(
    source=st.sampled_from([JPEG, PNG]),
    place=st.integers(0, 600),
    junk=st.binary(min_size=1, max_size=8),
)
def test_damage_anywhere_gives_a_picture_of_the_promised_size_or_a_refusal(
    source: bytes, place: int, junk: bytes
) -> None:
    place %= len(source)
    damaged = message(source[:place] + junk + source[place + len(junk) :])
    try:
        image = decode_compressed(damaged)
    except Rejected:
        return
    width, height = check_compressed(damaged)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)

"""siamkd_ros.image_decode: right pixels from a well-formed message, a reason for any other."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_ros.image_decode import _cv_bridge, check, decode
from siamkd_ros.rejected import Rejected

BGR = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


def message(encoding: str, pixels: np.ndarray[Any, Any], pad: int = 0) -> SimpleNamespace:
    """A message as a camera driver with `pad` bytes of row padding would fill it."""
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=99)
    return SimpleNamespace(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
    )


def with_alpha(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])


@pytest.mark.parametrize("pad", [0, 1, 2, 13])
@pytest.mark.parametrize(
    ("encoding", "stored", "expected"),
    [
        ("bgr8", BGR, BGR),
        ("rgb8", BGR[..., ::-1], BGR),
        ("bgra8", with_alpha(BGR), BGR),
        ("rgba8", with_alpha(BGR[..., ::-1]), BGR),
        ("mono8", BGR[..., 0], np.repeat(BGR[..., :1], 3, axis=2)),
        ("8UC1", BGR[..., 0], np.repeat(BGR[..., :1], 3, axis=2)),
        ("8UC3", BGR, BGR),
        ("8UC4", with_alpha(BGR), BGR),
    ],
)
def test_every_own_encoding_with_and_without_row_padding(
    encoding: str, stored: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], pad: int
) -> None:
    image = decode(message(encoding, stored, pad))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_bgr8_is_a_view_that_outlives_its_message() -> None:
    source = message("bgr8", BGR, pad=3)
    image = decode(source)
    assert np.shares_memory(image, np.frombuffer(source.data, np.uint8))
    del source
    np.testing.assert_array_equal(image, BGR)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 0}, "zero_size"),
        ({"height": 0}, "zero_size"),
        ({"height": 1}, "too_small"),
        ({"width": 1}, "too_small"),
        ({"encoding": ""}, "encoding"),
        ({"encoding": "BGR8"}, "encoding"),
        ({"encoding": "8UC0"}, "encoding"),
        ({"encoding": "8UC2"}, "encoding"),
        ({"encoding": "16UC1"}, "encoding"),
        ({"encoding": "x" * 10_000}, "encoding"),
        ({"encoding": "bgra8"}, "step"),
        ({"step": 20}, "step"),
        ({"step": 0}, "step"),
        ({"width": 8}, "step"),
        ({"width": 2**32 - 1}, "step"),
        ({"step": 22}, "length"),
        ({"height": 6}, "length"),
        ({"height": 4}, "length"),
        ({"height": 2**32 - 1, "step": 2**32 - 1}, "length"),
        ({"data": array.array("B")}, "length"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    broken = message("bgr8", BGR)
    for name, value in changes.items():
        setattr(broken, name, value)
    for reader in (check, decode):
        with pytest.raises(Rejected) as refusal:
            reader(broken)
        assert refusal.value.reason == reason
        assert len(str(refusal.value)) < 300


@settings(max_examples=500, deadline=None)
@given(
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    step=st.integers(0, 40),
    length=st.integers(0, 400),
    encoding=st.sampled_from(["bgr8", "rgb8", "bgra8", "rgba8", "mono8", "16UC1", "yuv422", "?"]),
)
def test_any_combination_of_fields_gives_a_whole_image_or_a_refusal(
    height: int, width: int, step: int, length: int, encoding: str
) -> None:
    data = array.array("B", bytes(length))
    fields = SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=0, step=step, data=data
    )
    try:
        image = decode(fields)
    except Rejected:
        return
    assert image.shape == (height, width, 3)
    assert image.sum() == 0  # reads every byte: one outside the buffer would show under a sanitizer


def test_other_encodings_are_refused_with_the_name_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    _cv_bridge.cache_clear()
    with pytest.raises(Rejected, match=r"mono16.*cv_bridge") as refusal:
        decode(message("mono16", np.zeros((4, 6), np.uint16).view(np.uint8)))
    assert refusal.value.reason == "encoding"


class FakeBridge:
    """Stands for cv_bridge: notes what it is given."""

    seen: Any = None

    def imgmsg_to_cv2(self, source: Any, desired_encoding: str) -> np.ndarray[Any, Any]:
        assert desired_encoding == "bgr8"
        if source.encoding == "uyvy":
            raise TypeError("odd width")
        FakeBridge.seen = source
        return np.zeros((source.height, source.width, 3), np.uint8)


@pytest.fixture
def cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("cv_bridge")
    module.CvBridge = FakeBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    _cv_bridge.cache_clear()
    yield
    _cv_bridge.cache_clear()


@pytest.mark.usefixtures("cv_bridge")
def test_cv_bridge_sees_only_checked_messages_without_padding() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 6, 2)
    image = decode(message("yuv422", pixels, pad=5))
    assert image.shape == (4, 6, 3)
    assert FakeBridge.seen.step == 12
    assert bytes(FakeBridge.seen.data) == pixels.tobytes()


@pytest.mark.usefixtures("cv_bridge")
@pytest.mark.parametrize(
    ("encoding", "bigendian", "step", "reason"),
    [
        ("uyvy", 0, 24, "encoding"),  # cv_bridge raises
        ("32FC1", 0, 24, "encoding"),
        ("mono16", 1, 24, "big_endian"),
        ("mono16", 0, 11, "step"),
        ("bayer_rggb16", 0, 13, "length"),
        ("nonsense", 0, 24, "encoding"),
    ],
)
def test_the_same_checks_stand_before_cv_bridge(
    encoding: str, bigendian: int, step: int, reason: str
) -> None:
    source = message(encoding, np.zeros((4, 24), np.uint8))
    source.width, source.is_bigendian, source.step = 6, bigendian, step
    with pytest.raises(Rejected) as refusal:
        decode(source)
    assert refusal.value.reason == reason

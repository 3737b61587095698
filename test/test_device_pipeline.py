"""The path that stays on the device: the same boxes as OpenCV's, and one wait a frame."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from siamkd_core import device_pipeline
from siamkd_core.backend import TorchBackend
from siamkd_core.box import Box
from siamkd_core.device_pipeline import DevicePipeline
from siamkd_core.errors import SiamkdError
from siamkd_core.fallback import FallbackTracker
from siamkd_core.modelfile import ModelCard, load_model, new_card
from siamkd_core.pipeline import HostPipeline, Sought
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import ScoreConfig, TrackerConfig

WIDTHS = (4, 8, 8, 8, 4)
KINDS = ["siamfc", "upchannel", "depthwise", "pixelwise", "ban"]
VERIFYING = ScoreConfig(0.1, 0.0, 1.0)
BOX = Box(60.0, 50.0, 40.0, 30.0)
ANSWER = [1.0, 2.0, 3.0, 1.01, 1.01, 5.0, 5.0, 1.02, 1.02, 82.0, 68.0, 40.4, 30.3, 0.7]
"""Finite, found, where the target is, and how much that looks like it."""
ADAPTING = {"exemplar_share": 0.4, "exemplar_score": 0.0}


def model(kind: str) -> tuple[Any, ModelCard]:
    """A small network with random weights and answers of a trained one's size, which learns from
    every frame."""
    torch.manual_seed(0)
    if kind == "siamfc":
        network, card = SiamFC(WIDTHS), new_card("tiny", "siamfc", WIDTHS)
    else:
        head, coarse = HeadConfig(kind, 6), kind == "ban"
        widths, backbone = ((4,) * 9 + (5,), "mobilenet_v3") if coarse else (WIDTHS, "alexnet")
        network = SiamRPN(widths, head, backbone)
        card = new_card("tiny", "siamrpn", widths, backbone, head)
        with torch.no_grad():
            for name, weights in network.head.named_parameters():
                weights.mul_(0.2 if "exemplar" in name or "mix" in name or "answer" in name else 1)
    voting = (
        {"vote": 2, "correct_size": 0.5 * (kind == "ban")} if kind in ("pixelwise", "ban") else {}
    )
    tracker = replace(card.tracker, **ADAPTING, **voting)
    return network.eval(), replace(card, tracker=tracker)


def frames(count: int = 12, size: tuple[int, int] = (180, 240)) -> list[np.ndarray]:
    """A patch that moves and grows over blurred noise."""
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), np.uint8), (0, 0), 2)
    patch = cv2.GaussianBlur(rng.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 3)
    made = []
    for n in range(count):
        image, (w, h) = background.copy(), (40 + n, 30 + n)
        image[50 + n : 50 + n + h, 60 + 3 * n : 60 + 3 * n + w] = cv2.resize(patch, (w, h))
        made.append(image)
    return made


def pair(network: Any, card: ModelCard, precision: str = "float32") -> tuple[Tracker, Tracker]:
    """One through OpenCV, one that stays on the device, here the CPU."""
    backend = TorchBackend(network, "cpu", precision)
    device = DevicePipeline(backend, card.tracker, card.head)
    return Tracker(backend, card), Tracker(backend, card, device)


def assert_same_boxes(one: Tracker, other: Tracker, images: list[np.ndarray]) -> None:
    for image in images:
        expected, found = one.update(image), other.update(image)
        assert np.asarray(found.box) == pytest.approx(np.asarray(expected.box), abs=0.05)
        assert found.value == pytest.approx(expected.value, rel=0.02, abs=0.02)
        assert found.peak == pytest.approx(expected.peak, rel=0.02, abs=0.02)
        assert found.score == pytest.approx(expected.score, abs=0.02)
        assert found.likeness == pytest.approx(expected.likeness, abs=0.02, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_boxes_as_through_opencv(kind: str) -> None:
    host, device = pair(*model(kind))
    images = frames()
    for tracker in (host, device):
        tracker.init(images[0], BOX)
    assert_same_boxes(host, device, images[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_second_look_as_through_opencv(kind: str) -> None:
    network, card = model(kind)
    host, device = pair(network, replace(card, score=VERIFYING))
    images = frames()
    for tracker in (host, device):
        tracker.init(images[0], BOX)
    assert_same_boxes(host, device, images[1:])
    assert -1 <= device.update(images[-1]).likeness <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_at_an_angle_as_through_opencv(kind: str) -> None:
    """Crops, place and what is learnt; which angle is looked at, the tracker decides for both."""
    network, card = model(kind)
    host, device = pair(network, replace(card, score=VERIFYING))
    images = frames()
    upright, *_ = pair(network, replace(card, score=VERIFYING))
    for tracker in (host, device, upright):
        tracker.init(images[0], BOX)
    for tracker in (host, device):
        tracker.move_to(BOX, 40.0)
    assert_same_boxes(host, device, images[1:])
    track = device.update(images[-1])
    assert track.turned == pytest.approx(40) and track.upright != track.box
    for image in images[1:]:
        upright.update(image)
    if kind == "siamfc":  # the answers of the others hardly hang on the crops, with these weights
        assert upright.update(images[-1]).value != pytest.approx(track.value, rel=1e-3)


class Waits:
    """Counts them, frame by frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._fetch = 0, device_pipeline.fetch
        monkeypatch.setattr(device_pipeline, "fetch", self)

    def __call__(self, result: torch.Tensor) -> list[float]:
        self.count += 1
        return self._fetch(result)

    def of(self, tracker: Tracker, images: list[np.ndarray]) -> list[int]:
        counts = []
        for image in images:
            before = self.count
            tracker.update(image)
            counts.append(self.count - before)
        return counts


def growing(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """By 2 % a frame, in place."""
    search = tracker._pipeline.search
    find = search.find

    def found(*args: Any) -> Any:
        one = find(*args)
        still, larger = one.dx * 0, one.dx * 0 + 1.02
        return one._replace(dx=still, dy=still, grow_w=larger, grow_h=larger)

    monkeypatch.setattr(search, "find", found)


@pytest.mark.parametrize("turned", [0.0, 40.0])
def test_a_target_that_outgrows_its_blocks_is_seen_the_same(
    turned: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target of 122 pixels has a crop of 1.93 image pixels a pixel; from 2 on they are averaged
    in blocks, whose size is guessed before that of the target is known."""
    network, card = load_model("siamfc")  # a random one's likeness hardly hangs on the crop
    fixed = replace(card.tracker, exemplar_score=0.0, turn=0.0, size_score=0.0)
    host, device = pair(network, replace(card, tracker=fixed))
    images, box = frames(7, (260, 330)), Box(90.0, 60.0, 122.0, 122.0)
    for tracker in (host, device):
        growing(tracker, monkeypatch)
        tracker.init(images[0], box)
        tracker.move_to(box, turned)
    waits = Waits(monkeypatch)
    sides = []
    for image in images[1:]:
        expected, found = host.update(image), device.update(image)
        assert found.likeness == pytest.approx(expected.likeness, abs=0.002)
        assert np.asarray(found.box) == pytest.approx(np.asarray(expected.box), abs=1e-9)
        learnt, known = (one._require_target().recent for one in (device, host))
        assert (learnt - known).norm() < 0.02 * known.norm()
        sides.append(2 * (found.upright or found.box).w)
    assert sides[1] < 254 < sides[2]
    assert waits.count == len(images[1:]) + 1  # one guess was wrong


def test_looks_that_are_asked_for_together_have_times_of_their_own() -> None:
    network, card = model("siamfc")
    _, device = pair(network, card)
    images = frames(2)
    device.init(images[0], BOX)
    pipeline, target = device._pipeline, device._require_target()
    sought = Sought(target.exemplar, target.shape, first=target.first)
    poses = [target.pose, target.pose._replace(turn=0.5)]
    start = time.perf_counter()
    looks = pipeline.look(pipeline.take(images[1]), sought, poses)
    whole = time.perf_counter() - start
    times = [spent for look in looks for spent in (look.model, look.post, look.verify)]
    assert len(set(times)) == 6 and min(times) > 0 and sum(times) < whole


def doubtful(**search: float) -> tuple[Tracker, Tracker]:
    """A pair that looks again as told."""
    network, card = model("siamfc")
    return pair(network, replace(card, tracker=replace(card.tracker, **search), score=VERIFYING))


@pytest.mark.parametrize("turn_score, expected", [(0.0, 1), (1.0, 2)])
def test_both_turned_looks_of_a_doubtful_frame_are_one_wait(
    monkeypatch: pytest.MonkeyPatch, turn_score: float, expected: int
) -> None:
    _, device = doubtful(turn=25.0, turn_score=turn_score)
    images = frames(4)
    device.init(images[0], BOX)
    assert Waits(monkeypatch).of(device, images[1:]) == [expected] * 3


@pytest.mark.parametrize("revisit_score, expected", [(0.0, 1), (1.0, 2)])
def test_a_look_where_the_target_was_sure_is_one_wait_and_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, revisit_score: float, expected: int
) -> None:
    trackers = doubtful(revisit_score=revisit_score)
    images = frames(2)
    poses = []
    for tracker in trackers:
        tracker.init(images[0], BOX)
        target = tracker._target
        assert target is not None
        target.pose = target.pose._replace(cx=target.pose.cx + 30)
        if tracker is trackers[1]:
            assert Waits(monkeypatch).of(tracker, images[1:]) == [expected]
        else:
            tracker.update(images[1])
        poses.append(target.pose)
    assert poses[1] == pytest.approx(poses[0], abs=0.05)


def test_the_same_boxes_with_a_trained_model() -> None:
    network, card = load_model("siamfc")
    assert card.tracker.exemplar_share > 0  # it adapts
    host, device = pair(network, card)
    images = frames()
    for tracker in (host, device):
        tracker.init(images[0], BOX)
    assert_same_boxes(host, device, images[1:])
    assert host.update(images[-1]).box.cx > BOX.cx + 20  # it follows


def test_images_may_change_their_size() -> None:
    host, device = pair(*model("siamfc"))
    small, large = frames(4), frames(4, (300, 500))
    for tracker in (host, device):
        tracker.init(small[0], BOX)
    assert_same_boxes(host, device, [small[1], large[2], small[3], large[3]])


def test_an_image_is_not_needed_once_it_is_taken() -> None:
    host, device = pair(*model("siamfc"))
    images = frames(4)
    buffer = images[0].copy()
    host.init(images[0], BOX)
    device.init(buffer, BOX)
    buffer[:] = 0
    assert_same_boxes(host, device, images[1:])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(precision: str) -> None:
    host, device = pair(*load_model("siamfc"), precision)
    images = frames(3)
    for tracker in (host, device):
        tracker.init(images[0], BOX)
    assert device._pipeline._crops.dtype is device.backend.dtype  # type: ignore[attr-defined]
    for image in images[1:]:
        expected, found = host.update(image), device.update(image)
        # rounding decides between neighbouring scales: a step of them is over a pixel of the width
        assert np.asarray(found.box) == pytest.approx(np.asarray(expected.box), abs=1.5)
        assert found.value == pytest.approx(expected.value, rel=0.1)


@pytest.mark.parametrize("verifies", [False, True])
def test_a_response_that_is_not_finite_costs_no_target(
    verifies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, card = model("siamfc")
    host, device = pair(network, replace(card, score=VERIFYING if verifies else None))
    images = frames(3)
    for tracker in (host, device):
        tracker.init(images[0], BOX)
    for bad in (np.nan, np.inf):
        with monkeypatch.context() as patch:
            answer = torch.zeros(3, 17, 17)
            answer[1, 2, 3] = bad
            patch.setattr(device.backend, "response", lambda *_, answer=answer: answer)
            with pytest.raises(SiamkdError, match="not a number"):
                device.update(images[1])
    assert_same_boxes(host, device, images[1:])


@pytest.mark.parametrize("verifies", [False, True])
@pytest.mark.parametrize("call", ["response", "kernels"])
def test_the_cpu_goes_on_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, call: str, verifies: bool
) -> None:
    """In the network, in the second look, and while the exemplar adapts, when the box is out
    already."""
    network, card = model("siamfc")
    card = replace(card, score=VERIFYING if verifies else None)
    fixed = replace(card, tracker=TrackerConfig())  # what the exemplar learnt is lost anyway
    cpu, other = (Tracker(TorchBackend(model("siamfc")[0], "cpu", "float32"), fixed) for _ in "ab")
    gpu = pair(network, card)[1]
    images, told = frames(6), list[Exception]()
    tracker = FallbackTracker(gpu, lambda: other, told.append)
    for one in (cpu, tracker):
        one.init(images[0], BOX)
    for image in images[1:3]:
        tracker.find(image, learn=False)
        cpu.update(image)
    place = gpu._require_target().pose.cx

    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu.backend, call, fail)
    for image in images[3:]:
        expected, track = cpu.update(image), tracker.find(image)
        assert np.asarray(track.box) == pytest.approx(np.asarray(expected.box), abs=0.05)
        tracker.learn()
    assert len(told) == 1
    if call == "response" or verifies:
        assert gpu._require_target().pose.cx == place  # an error leaves the target as it was


def test_the_stages_are_parts_of_the_update() -> None:
    network, card = model("siamfc")
    for tracker in pair(network, card):
        tracker.init(frames(1)[0], BOX)
        start = time.perf_counter()
        seconds = tracker.update(frames(2)[1]).seconds
        whole = time.perf_counter() - start
        assert set(seconds) == {"crop", "model", "post", "verify", "adapt"}
        assert all(value > 0 for value in seconds.values()) and sum(seconds.values()) <= whole


def test_a_cpu_keeps_opencv() -> None:
    network, card = model("siamfc")
    assert isinstance(Tracker(TorchBackend(network, "cpu"), card)._pipeline, HostPipeline)


def test_training_in_the_same_process_keeps_its_cudnn() -> None:
    network, card = model("siamfc")
    for setting in (False, True):
        torch.backends.cudnn.benchmark = setting
        try:
            _, device = pair(network, card)
            device.init(frames(1)[0], BOX)
            device.update(frames(1)[0])
            assert torch.backends.cudnn.benchmark is setting
        finally:
            torch.backends.cudnn.benchmark = False


class Copies(TorchDispatchMode):
    """Notes copies between host and device, and whether they may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.up: list[bool] = []
        self.down = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        devices = {v.device.type for v in given.values() if isinstance(v, torch.Tensor)}
        target = out.device.type if isinstance(out, torch.Tensor) else "meta"
        if target == "meta" and "cpu" in devices:
            self.up.append(not given.get("non_blocking", False))
        self.down += target == "cpu" and "meta" in devices
        return out


@pytest.mark.parametrize("verifies", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_one_fetch_a_frame_reads_from_the_device(
    kind: str, verifies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a second look at what was found too. PyTorch's meta device has shapes but no values, so
    whatever would wait for a value fails on it: item(), a branch on a tensor, an index without
    dimensions, nonzero(), a copy to the host."""
    network, card = model(kind)
    if verifies:
        card = replace(card, score=VERIFYING)
    backend = TorchBackend(network, "cpu", "float32")
    backend.device = torch.device("meta")
    backend.network.to("meta")
    tracker = Tracker(backend, card, DevicePipeline(backend, card.tracker, card.head))
    fetched: list[torch.Tensor] = []

    def fetch(result: torch.Tensor) -> list[float]:
        fetched.append(result)
        # the target stays as large as it was
        w, h = tracker._require_target().pose[2:4] if tracker.initialised else BOX[2:]
        return [*ANSWER[:11], w, h, *ANSWER[13:]][: len(result)]

    monkeypatch.setattr(device_pipeline, "fetch", fetch)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
    images = frames(4)
    tracker.init(images[0], BOX)
    tracker.update(images[1])  # makes the constants
    first = tracker._require_target().exemplar
    for image, turn, side in zip(images[2:], (0.0, 37.0), (40.0, 150.0), strict=True):
        tracker.move_to(Box(60.0, 50.0, side, side), turn)  # an angle and a size that are new
        fetched.clear()
        with Copies() as copies:
            track = tracker.update(image)
        assert track.value == 5.0
        assert [(t.device.type, t.shape) for t in fetched] == [("meta", (13 + verifies,))]
        # the image and the crops' geometry, then that of the second look or of what is learnt
        assert copies.up == [False] * 3 and copies.down == 0
    assert tracker._require_target().exemplar is not first  # it adapted all the same


def test_the_meta_device_refuses_what_waits() -> None:
    """What the test above rests on."""
    values, index = torch.ones(3, device="meta"), torch.ones((), device="meta", dtype=torch.long)
    for waits in (
        lambda: values.sum().item(),
        lambda: bool(values.sum() > 0),
        lambda: values[index],
        lambda: values.cpu(),
        lambda: values.tolist(),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            waits()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("verifies", [False, True])
def test_a_gpu_is_waited_for_once_a_frame(
    kind: str, precision: str, verifies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, card = model(kind)
    card = replace(card, score=VERIFYING if verifies else None)
    tracker = Tracker(TorchBackend(network, "cuda", precision), card)
    assert isinstance(tracker._pipeline, DevicePipeline)
    images, fetch, waits = frames(), device_pipeline.fetch, 0

    def marked(result: torch.Tensor) -> list[float]:
        nonlocal waits
        waits += 1
        torch.cuda.set_sync_debug_mode("default")
        values = fetch(result)
        torch.cuda.set_sync_debug_mode("error")
        return values

    tracker.init(images[0], BOX)
    for image in images[1:4]:  # makes the constants, and cuDNN chooses
        tracker.update(image)
    monkeypatch.setattr(device_pipeline, "fetch", marked)
    torch.cuda.set_sync_debug_mode("error")
    try:
        tracks = [tracker.update(image) for image in images[4:]]
        tracker.init(images[0], BOX)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # and once for the sizes that it sees at first, where they are corrected
    assert waits == len(tracks) + (tracker._pipeline.search.corrects > 0)
    for track in tracks:
        assert all(value > 0 for value in track.seconds.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_finds_what_the_cpu_finds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    card = model(kind)[1]
    cpu = Tracker(TorchBackend(model(kind)[0], "cpu", "float32"), card)
    gpu = Tracker(TorchBackend(model(kind)[0], "cuda", "float32"), card)
    images = frames()
    for tracker in (cpu, gpu):
        tracker.init(images[0], BOX)
    assert_same_boxes(cpu, gpu, images[1:])

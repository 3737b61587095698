"""siamkd_ros.loaded: what runs where, and what is said when it is not as it was asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from ros_support import scene, tiny_model

from siamkd_core.backends import BACKENDS
from siamkd_core.box import Box
from siamkd_core.errors import ConfigError
from siamkd_core.fallback import FallbackTracker
from siamkd_ros import loaded
from siamkd_ros.loaded import load
from siamkd_ros.parameter_spec import specs
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.runtime import return_memory

NO_GPU = not torch.cuda.is_available()
DRIVER = RuntimeError("CUDA error: an illegal memory access was encountered")
MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory.")


def parameters(folder: Path, **changes: Any) -> TrackerParameters:
    return TrackerParameters(model=str(tiny_model(folder)), threads=1, **changes)


def test_loading_says_how_long_it_took_and_leaves_no_target(tmp_path: Path) -> None:
    model = load(parameters(tmp_path, device="cpu"), lambda _: None)
    assert model.took.startswith("loaded in ")
    assert "warmed up in" in model.took
    assert model.warning == ""
    assert (model.name, model.calibrated) == ("tiny", True)
    assert not model.tracker.initialised
    assert model.describe().described["precision"] in ("float32", "bfloat16")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_short_names_of_precisions(tmp_path: Path, name: str, dtype: str) -> None:
    model = load(parameters(tmp_path, device="cpu", precision=name), lambda _: None)
    assert model.described["precision"] == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backend_is_chosen_by_its_parameter(tmp_path: Path, backend: str) -> None:
    for package in ("onnx", backend):
        if backend not in ("auto", "torch"):
            pytest.importorskip(package, reason=f"the extra {backend} is not installed")
    model = load(parameters(tmp_path, device="auto", precision="fp32", backend=backend), print)
    words = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    installed = all(find_spec(package) for package in ("onnx", "onnxruntime"))
    auto = words["onnxruntime" if installed and NO_GPU else "torch"]
    assert model.described["backend"].startswith(words.get(backend, auto))
    # who names a backend of the CPU does not miss a GPU
    assert bool(model.warning) == (NO_GPU and backend in ("auto", "torch"))
    model.tracker.init(scene(0), Box(10, 10, 40, 40))


def test_the_parameter_has_the_backends_that_there_are() -> None:
    # the list is written out there, so that nodes without a model need not import PyTorch
    assert specs(TrackerParameters)["backend"].choices == BACKENDS


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_auto_without_a_gpu_is_a_warning_and_cuda_an_error(tmp_path: Path) -> None:
    model = load(parameters(tmp_path, device="auto"), lambda _: None)
    assert model.warning.startswith("no CUDA device")
    with pytest.raises(ConfigError, match="PyTorch sees 0 CUDA devices"):
        load(parameters(tmp_path, device="cuda"), lambda _: None)


@pytest.mark.parametrize("where", ["loading", "warming up"])
def test_auto_on_a_gpu_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real = loaded.load_tracker

    def full(model: Any, device: str, *rest: Any) -> Any:
        if device == "cpu":
            return real(model, device, *rest)
        if where == "loading":
            raise MEMORY
        tracker = real(model, "cpu", *rest)
        monkeypatch.setattr(tracker, "init", lambda *_: (_ for _ in ()).throw(MEMORY))
        return tracker

    monkeypatch.setattr(loaded, "load_tracker", full)
    model = load(parameters(tmp_path, device="auto"), lambda _: None)
    assert model.warning == "the GPU failed, so the model runs on the CPU: CUDA out of memory."
    model.tracker.init(scene(0), Box(10, 10, 40, 40))


def test_a_device_that_fails_later_is_replaced_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded, "_device_type", lambda tracker: "cuda")
    said: list[str] = []
    model = load(parameters(tmp_path, device="auto"), said.append)
    assert isinstance(model.tracker, FallbackTracker)
    model.tracker.init(scene(0), Box(220, 100, 40, 40))
    monkeypatch.setattr(model.tracker.tracker, "find", lambda *_: (_ for _ in ()).throw(MEMORY))
    model.tracker.find(scene(1))
    # a driver that failed goes on failing, and must not keep the node from cleaning up
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: (_ for _ in ()).throw(DRIVER))
    return_memory()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5e6 * device)
    assert model.describe().megabytes == 5  # of the second GPU, too
    assert said == ["the device failed, so the model runs on the CPU now: CUDA out of memory."]
    assert model.warning == said[0]

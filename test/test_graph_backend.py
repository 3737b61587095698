"""The ONNX graphs of a network, and the runtimes that run them, against the network itself."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from test_backend import trained_looking

from siamkd_core import backends
from siamkd_core.backend import TorchBackend
from siamkd_core.backends import make_backend
from siamkd_core.box import Box
from siamkd_core.cli import main
from siamkd_core.errors import ConfigError
from siamkd_core.graph_backend import RUNTIMES, GraphBackend
from siamkd_core.modelfile import load_model
from siamkd_core.onnx_export import as_images, export_onnx
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker import Tracker, load_tracker

pytest.importorskip("onnx", reason="the graphs need the package onnx (extra onnxruntime)")
SMALL = (4, 8, 8, 8, 4)
EFFICIENT = (4, 4, 6, 6, 8, 8, 6)
MOBILE = (4,) * 9 + (5,)
NETWORKS = {
    "siamfc": lambda: SiamFC(SMALL),
    "siamfc efficientnet": lambda: SiamFC(EFFICIENT, "efficientnet"),
    "siamfc slim": lambda: SiamFC(EFFICIENT, "efficientnet_slim"),
    "siamfc mobilenet": lambda: SiamFC((*MOBILE, 6), "mobilenet_v3"),
    "upchannel": lambda: SiamRPN(SMALL, HeadConfig("upchannel", 6)),
    "depthwise": lambda: SiamRPN(SMALL, HeadConfig("depthwise", 6)),
    "pixelwise": lambda: SiamRPN(EFFICIENT, HeadConfig("pixelwise", 6), "efficientnet"),
    "ban": lambda: SiamRPN(MOBILE, HeadConfig("ban", 6), "mobilenet_v3"),
    "ban slim": lambda: SiamRPN(MOBILE, HeadConfig("ban", 6), "mobilenet_v3_slim"),
    "resnet": lambda: SiamRPN((4, 4, 6, 8, 8, 6), HeadConfig("depthwise", 6), "resnet18"),
}


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(7)


def made(kind):
    torch.manual_seed(3)
    return trained_looking(NETWORKS[kind]())


def runtime(name):
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    return RUNTIMES[name]("float32")


def crops_of(rng, count, side):
    return rng.integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_graphs_answer_as_the_network_does_at_any_size(kind, name, rng):
    network = made(kind)
    backend = GraphBackend(export_onnx(network), runtime(name))
    for count, side in ((1, 255), (3, 175)):
        z, x = crops_of(rng, 1, 127)[0], crops_of(rng, count, side)
        with torch.no_grad():
            wanted = network(*(as_images(torch.from_numpy(one)) for one in (z[None], x))).numpy()
        found = backend.respond(backend.embed_exemplar(z), x)
        assert found.dtype == np.float32
        assert found.ndim == (3 if kind.startswith("siamfc") else 5)
        assert found == pytest.approx(
            wanted.reshape(found.shape), abs=1e-4 * np.abs(wanted).max(), rel=0
        )


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_answer_is_the_callers_to_keep(name, rng):
    backend = GraphBackend(export_onnx(made("siamfc")), runtime(name))
    crops = [crops_of(rng, 1, 127)[0] for _ in range(2)]
    first = backend.embed_exemplar(crops[0])
    kept = first.copy()
    second = backend.embed_exemplar(crops[1])
    assert np.array_equal(first, kept) and not np.array_equal(first, second)
    x = crops_of(rng, 2, 175)
    answer = backend.respond(first, x)
    kept = answer.copy()
    x[:] = 0  # crops are only lent
    backend.respond(second, x)
    assert np.array_equal(answer, kept)


def test_a_blend_is_that_of_the_torch_backend(rng):
    graph = GraphBackend(export_onnx(made("siamfc")), runtime("onnxruntime"))
    plain = TorchBackend(made("siamfc"), "cpu", "float32")
    z = [crops_of(rng, 1, 127)[0] for _ in range(2)]
    found, wanted = (one.blend(*(one.embed_exemplar(c) for c in z), 0.3) for one in (graph, plain))
    assert found == pytest.approx(wanted.numpy(), rel=1e-3, abs=1e-4)
    assert found.dtype == np.float32


def test_auto_is_onnx_runtime_on_a_cpu_where_it_can_be(monkeypatch):
    runtime("onnxruntime")

    def chosen(precision="auto"):
        return make_backend(made("siamfc"), "auto", "cpu", precision).describe()

    threads = torch.get_num_threads()
    assert chosen()["backend"].startswith("ONNX Runtime")
    assert chosen() == {**chosen(), "device": f"CPU, {threads} threads", "precision": "float32"}
    assert chosen("bfloat16")["backend"].startswith("PyTorch")
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setattr(
                backends,
                "find_spec",
                lambda name, gone=package: None if name == gone else find_spec(name),
            )
            assert chosen()["backend"].startswith("PyTorch")


def test_auto_does_without_what_does_not_work(monkeypatch, tmp_path, recwarn):
    """Built for another NumPy, say; auto must not keep a robot from starting."""
    runtime("onnxruntime")

    def broken(package):
        raise AttributeError("_ARRAY_API not found")

    monkeypatch.setattr("siamkd_core.graph_backend.import_module", broken)
    with pytest.warns(RuntimeWarning, match="PyTorch runs the model: .*_ARRAY_API not found"):
        backend = make_backend(made("siamfc"), "auto", "cpu")
    assert backend.describe()["backend"].startswith("PyTorch")
    with pytest.raises(ConfigError, match="_ARRAY_API not found"):
        make_backend(made("siamfc"), "onnxruntime", "cpu")
    # a folder of that name, as one may call it, is no package
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onnx").mkdir()
    monkeypatch.setattr("sys.path", [""])
    monkeypatch.delitem(sys.modules, "onnx")
    assert find_spec("onnx") is not None
    backend = make_backend(made("siamfc"), "auto", "cpu")
    assert backend.describe()["backend"].startswith("PyTorch")
    assert len(recwarn) == 0


def test_what_a_backend_cannot_do_is_refused_with_what_can(monkeypatch):
    with pytest.raises(ConfigError, match="auto, torch, onnxruntime, openvino"):
        make_backend(made("siamfc"), "tensorflow")
    with pytest.raises(ConfigError, match="float32 on the CPU, not in bfloat16"):
        make_backend(made("siamfc"), "onnxruntime", "cpu", "bfloat16")
    with pytest.raises(ConfigError, match="does not compute in int3 on this processor"):
        make_backend(made("siamfc"), "openvino", "cpu", "int3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="runs on the CPU, but device cuda was asked for"):
        make_backend(made("siamfc"), "onnxruntime", "cuda")
    # on a machine with a GPU, auto is the CPU for a backend that has no other
    described = make_backend(made("siamfc"), "onnxruntime", "auto").describe()
    assert described["device"].startswith("CPU")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_missing_package_is_named(name, monkeypatch):
    def gone(package):
        raise ImportError(f"No module named {package!r}")

    monkeypatch.setattr("siamkd_core.graph_backend.import_module", gone)
    with pytest.raises(ConfigError, match=f"{name} is missing .* pip install onnx {name}; "):
        make_backend(made("siamfc"), name, "cpu")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_tracker_follows_the_same_boxes_by_any_backend(name, moving_square):
    runtime(name)
    paths = []
    for backend in ("torch", name):
        tracker = load_tracker("dstrpn", "cpu", "float32", backend=backend)
        images, boxes = moving_square
        tracker.init(images[0], boxes[0])
        paths.append([tracker.update(image) for image in images[1:]])
    for one, other in zip(*paths, strict=True):
        assert tuple(other.box) == pytest.approx(tuple(one.box), abs=0.05)
        assert other.score == pytest.approx(one.score, abs=1e-3)


@pytest.fixture(scope="module")
def moving_square():
    """A textured square on noise, 2 pixels further in each image."""
    rng = np.random.default_rng(1)
    ground = rng.integers(60, 120, (160, 240, 3), np.uint8)
    patch = rng.integers(120, 256, (40, 40, 3), np.uint8)
    images, boxes = [], []
    for step in range(8):
        image = ground.copy()
        x = 60 + 2 * step
        image[60:100, x : x + 40] = patch
        images.append(image)
        boxes.append(Box(x, 60, 40, 40))
    return images, boxes


def test_a_search_region_that_the_backbone_does_not_take_is_refused_by_every_backend():
    for name in ("torch", "onnxruntime"):
        tracker = load_tracker("dstfc", "cpu", "float32", backend=name)
        card = replace(tracker.card, tracker=replace(tracker.card.tracker, search_size=260))
        with pytest.raises(ConfigError, match=r"8k \+ 7 pixels only: set search_size to 263"):
            Tracker(tracker.backend, card)


def test_exported_files_are_the_model_for_other_programs(tmp_path, capsys, rng):
    ort = pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")
    assert main(["export", "dstrpn", "--output", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    network, card = load_model("dstrpn")
    sessions = []
    for part in ("exemplar", "search"):
        path = tmp_path / "new" / f"dstrpn_{part}.onnx"
        assert str(path) in printed.replace("\n", "")
        sessions.append(ort.InferenceSession(path, providers=["CPUExecutionProvider"]))
        facts = sessions[-1].get_modelmeta().custom_metadata_map
        assert facts["name"] == "dstrpn" and facts["sha256"] == card.sha256
        assert json.loads(facts["card"])["tracker"]["search_size"] == card.tracker.search_size
    z, x = crops_of(rng, 1, 127), crops_of(rng, 2, card.tracker.search_size)
    kernels = sessions[0].run(["kernels"], {"exemplar": z})[0]
    found = sessions[1].run(["response"], {"kernels": kernels, "search": x})[0]
    with torch.no_grad():
        wanted = network(*(as_images(torch.from_numpy(one)) for one in (z, x))).numpy()
    assert found == pytest.approx(wanted, abs=1e-4 * np.abs(wanted).max(), rel=0)


def test_a_graph_that_answers_otherwise_is_not_written(tmp_path, capsys, monkeypatch):
    runtime("onnxruntime")
    monkeypatch.setattr("siamkd_core.onnx_export.disagreement", lambda *_: 0.2)
    assert main(["export", "dstrpn", "--output", str(tmp_path)]) == 2
    assert "differ by 2.0e-01" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_says_where_it_cannot_write_and_what_is_missing(tmp_path, capsys, monkeypatch):
    runtime("onnxruntime")
    (tmp_path / "file").write_text("")
    assert main(["export", "dstrpn", "--output", str(tmp_path / "file" / "folder")]) == 2
    assert f"cannot write to {tmp_path / 'file' / 'folder'}" in capsys.readouterr().err

    def no_onnx(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("Module onnx is not installed!")

    monkeypatch.setattr(torch.onnx, "export", no_onnx)
    monkeypatch.setattr("siamkd_core.onnx_export._has_two_exporters", lambda: False)
    assert main(["export", "dstrpn", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "Module onnx is not installed!" in error and "pip install onnx" in error

"""Backends that run a network's ONNX graphs on the CPU: ONNX Runtime and OpenVINO.

A small network spends most of its time in PyTorch between its layers; these runtimes merge layers
and call nothing in Python. The graphs are made while a model is loaded, so the model file stays
the one source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from siamkd_core.errors import ConfigError
from siamkd_core.onnx_export import EXEMPLAR, KERNELS, SEARCH, Graphs

Array: TypeAlias = NDArray[np.float32]
Run: TypeAlias = Callable[[dict[str, NDArray]], Array]  # type: ignore[type-arg]


class Runtime(NamedTuple):
    """What runs a graph.

    Attributes:
        name: with its version.
        precision: that it computes in.
        compile: a serialised ONNX model -> a function of its inputs by name, to its output.
    """

    name: str
    precision: str
    compile: Callable[[bytes], Run]


class GraphBackend:
    """A :class:`siamkd_core.backend.Backend` on the CPU.

    Args:
        graphs: of :func:`siamkd_core.onnx_export.export_onnx`.
        runtime: one of :data:`RUNTIMES`, for a precision.
    """

    def __init__(self, graphs: Graphs, runtime: Runtime) -> None:
        self._runtime = runtime
        self._exemplar, self._search = map(runtime.compile, graphs)
        self._threads = torch.get_num_threads()

    def embed_exemplar(self, crop: NDArray[np.uint8]) -> Array:
        return self._exemplar({EXEMPLAR: crop[None]})

    def respond(self, exemplar: Array, crops: NDArray[np.uint8]) -> Array:
        return self._search({KERNELS: exemplar, SEARCH: crops})

    def blend(self, exemplar: Array, other: Array, share: float) -> Array:
        return exemplar + np.float32(share) * (other - exemplar)

    def describe(self) -> dict[str, str]:
        return {
            "backend": self._runtime.name,
            "device": f"CPU, {self._threads} threads",
            "precision": self._runtime.precision,
        }


def onnxruntime(precision: str) -> Runtime:
    """ONNX Runtime's CPU provider, float32, with as many threads as PyTorch has.

    Raises:
        ConfigError: not installed, or another precision.
    """
    ort = _package("onnxruntime")
    if precision not in ("auto", "float32"):
        raise ConfigError(
            f"backend onnxruntime computes in float32 on the CPU, not in {precision}; use "
            "precision: auto, or backend: torch"
        )

    def compile(graph: bytes) -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # between two frames its threads would wait by turning, on cores that others need
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, NDArray]) -> Array:  # type: ignore[type-arg]
            out: Array = session.run(None, inputs)[0]
            return out

        return run

    return Runtime(f"ONNX Runtime {ort.__version__}", "float32", compile)


def openvino(precision: str) -> Runtime:
    """OpenVINO's CPU plugin, with as many threads as PyTorch has; float32, or bfloat16 where the
    processor has it, which ``auto`` takes then.

    Raises:
        ConfigError: not installed, or another precision.
    """
    ov = _package("openvino")
    core = ov.Core()
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16 else "float32"
    if precision != "float32" and not (precision == "bfloat16" and has_bfloat16):
        raise ConfigError(
            f"backend openvino does not compute in {precision} on this processor, but in float32"
            f"{' or bfloat16' if has_bfloat16 else ''}; use precision: auto, or backend: torch"
        )
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }

    def compile(graph: bytes) -> Run:
        model = core.compile_model(core.read_model(graph), "CPU", options)
        request = model.create_infer_request()

        def run(inputs: dict[str, NDArray]) -> Array:  # type: ignore[type-arg]
            request.infer(inputs, share_inputs=True)
            # its memory is the next answer's too
            out: Array = request.get_output_tensor().data.copy()
            return out

        return run

    return Runtime(f"OpenVINO {ov.get_version().split('-')[0]}", precision, compile)


RUNTIMES: Mapping[str, Callable[[str], Runtime]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
"""By the name of the backend; each takes a precision as :mod:`siamkd_core.device` has them."""


def _package(name: str):  # type: ignore[no-untyped-def]
    """An optional package.

    Raises:
        ConfigError: it is not there, or broken; says how to get it.
    """
    try:
        return import_module(name)
    except Exception as error:  # one that was built for another NumPy raises anything
        raise ConfigError(
            f"{name} is missing or cannot be imported ({error}): pip install onnx {name}; beside "
            'an apt ROS with "numpy<2" before the names'
        ) from error

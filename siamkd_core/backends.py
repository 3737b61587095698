"""Which backend runs a network, by its name in a configuration."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

from siamkd_core.backend import Backend, TorchBackend
from siamkd_core.device import resolve_device
from siamkd_core.errors import ConfigError
from siamkd_core.graph_backend import RUNTIMES, GraphBackend
from siamkd_core.network import SiameseNetwork
from siamkd_core.onnx_export import export_onnx

BACKENDS = ("auto", "torch", *RUNTIMES)


def make_backend(
    network: SiameseNetwork, name: str = "auto", device: str = "auto", precision: str = "auto"
) -> Backend:
    """A backend with a network that is taken over.

    Args:
        name: one of :data:`BACKENDS`. ``auto`` is ``onnxruntime`` on a CPU, where it is installed
            and computes in the precision that was asked for, else ``torch``; that too, with a
            warning, where it is installed and does not work.
        device, precision: see :mod:`siamkd_core.device`.

    Raises:
        ConfigError: an unknown name, device or precision, packages that are missing, or what the
            backend cannot do.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}; use {', '.join(BACKENDS)}")
    if name == "auto":
        if _graphs_serve(device, precision):
            try:
                return make_backend(network, "onnxruntime", "cpu", precision)
            except Exception as error:
                # whatever is wrong with it, PyTorch is there
                warnings.warn(f"PyTorch runs the model: {error}", RuntimeWarning, stacklevel=2)
        name = "torch"
    if name == "torch":
        return TorchBackend(network, device, precision)
    if device == "auto":
        device = "cpu"
    if resolve_device(device).type != "cpu":
        raise ConfigError(
            f"backend {name} runs on the CPU, but device {device} was asked for; use backend: "
            "torch for a GPU, or device: cpu"
        )
    runtime = RUNTIMES[name](precision)
    return GraphBackend(export_onnx(network), runtime)


def _graphs_serve(device: str, precision: str) -> bool:
    on_cpu = resolve_device(device).type == "cpu"
    # a folder of that name in the working directory is found too, but has no origin
    found = [find_spec(package) for package in ("onnx", "onnxruntime")]
    there = all(one is not None and one.origin for one in found)
    return on_cpu and there and precision in ("auto", "float32")

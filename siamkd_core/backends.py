"""Which backend runs a network, by its name in a configuration."""

from __future__ import annotations

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
            and computes in the precision that was asked for, else ``torch``.
        device, precision: see :mod:`siamkd_core.device`.

    Raises:
        ConfigError: an unknown name, device or precision, packages that are missing, or what the
            backend cannot do.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}; use {', '.join(BACKENDS)}")
    if name == "auto":
        name = _fastest(device, precision)
    if name == "torch":
        return TorchBackend(network, device, precision)
    if device == "auto":
        device = "cpu"
    if resolve_device(device).type != "cpu":
        raise ConfigError(
            f"backend {name} runs on the CPU, but device {device} was asked for; use backend: "
            "torch for a GPU, or device: cpu"
        )
    return GraphBackend(export_onnx(network), RUNTIMES[name](precision))


def _fastest(device: str, precision: str) -> str:
    on_cpu = resolve_device(device).type == "cpu"
    there = all(find_spec(package) for package in ("onnx", "onnxruntime"))
    return "onnxruntime" if on_cpu and there and precision in ("auto", "float32") else "torch"

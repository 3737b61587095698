"""A network as two ONNX graphs, for runtimes other than PyTorch.

One graph a crop that the tracker makes: the exemplar's, once a target, and once a look where the
score of the card takes a second one; and the search region's, once a look. Both take crops as
OpenCV makes them, so that no runtime needs a preprocessing of its own.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from siamkd_core.backend import Backend
from siamkd_core.errors import ConfigError
from siamkd_core.network import SiameseNetwork
from siamkd_core.siamfc import EXEMPLAR_SIZE

OPSET = 17
"""Known to ONNX Runtime from 1.12, OpenVINO from 2022.2 and TensorRT from 8.5 on."""
EXEMPLAR, KERNELS, SEARCH, RESPONSE = "exemplar", "kernels", "search", "response"
"""Names of the graphs' inputs and outputs."""
TRACED_SIDE = 255
"""Side of the search region that the graph is traced with; it takes others too."""


class Graphs(NamedTuple):
    """Two serialised ONNX models.

    Attributes:
        exemplar: ``exemplar`` (1, 127, 127, 3) uint8 BGR -> ``kernels``, float32.
        search: ``kernels`` and ``search`` (N, S, S, 3) uint8 BGR -> ``response`` float32, as
            :meth:`siamkd_core.backend.Backend.respond`; N and S are free.
    """

    exemplar: bytes
    search: bytes


class _Exemplar(nn.Module):
    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop: Tensor) -> Tensor:
        return self.network.kernels(self.network.embed(as_images(crop)))


class _Search(nn.Module):
    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, kernels: Tensor, crops: Tensor) -> Tensor:
        response = self.network.respond(kernels, self.network.embed(as_images(crops)))
        return response[:, 0] if response.shape[1] == 1 else response


def as_images(crops: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float32, what a network is given."""
    return crops.permute(0, 3, 1, 2).float()


def export_onnx(network: SiameseNetwork, metadata: Mapping[str, str] | None = None) -> Graphs:
    """Trace a network in eval mode on the CPU, float32; BatchNorms go into the convolutions.

    Args:
        network: is in eval mode then, and as it was otherwise.
        metadata: written into both models.

    Raises:
        ConfigError: the package onnx is missing, or this PyTorch cannot export.
    """
    crop = torch.zeros(1, EXEMPLAR_SIZE, EXEMPLAR_SIZE, 3, dtype=torch.uint8)
    region = torch.zeros(1, TRACED_SIDE, TRACED_SIDE, 3, dtype=torch.uint8)
    first, each = _Exemplar(network).eval(), _Search(network).eval()
    with torch.no_grad():
        kernels = first(crop)
        axes = each(kernels, region).ndim
    free = {
        SEARCH: {0: "n", 1: "s", 2: "s"},
        RESPONSE: {0: "n", axes - 2: "r", axes - 1: "r"},
    }
    graphs = (
        _trace(first, (crop,), (EXEMPLAR,), KERNELS, {}),
        _trace(each, (kernels, region), (KERNELS, SEARCH), RESPONSE, free),
    )
    return Graphs(*(_with_metadata(graph, metadata or {}) for graph in graphs))


def disagreement(one: Backend, other: Backend, side: int) -> float:
    """How far two backends' answers to the same noise lie apart, at most, as a share of the largest
    number of the first; ``side`` is that of the search region in pixels."""
    rng = np.random.default_rng(0)
    exemplar = rng.integers(0, 256, (EXEMPLAR_SIZE, EXEMPLAR_SIZE, 3), np.uint8)
    crops = rng.integers(0, 256, (2, side, side, 3), np.uint8)
    answers = [each.respond(each.embed_exemplar(exemplar), crops) for each in (one, other)]
    return float(np.abs(answers[1] - answers[0]).max() / np.abs(answers[0]).max())


def _trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    output: str,
    free: dict[str, dict[int, str]],
) -> bytes:
    file = io.BytesIO()
    export: Callable[..., object] = torch.onnx.export
    # the exporter by torch.export needs ten times as long and another package, and what it makes of
    # these networks is no faster
    options = {"dynamo": False} if _has_two_exporters() else {}
    with warnings.catch_warnings():
        # that it will go some day; that sizes are checked while it traces; what it does not fold
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        try:
            export(
                module,
                inputs,
                file,
                input_names=list(names),
                output_names=[output],
                dynamic_axes=free,
                opset_version=OPSET,
                **options,
            )
        except (torch.onnx.errors.OnnxExporterError, ImportError, TypeError) as error:
            raise ConfigError(
                f"PyTorch {torch.__version__} cannot export this network to ONNX: "
                f"{str(error).splitlines()[0]} The package onnx is needed: pip install onnx, "
                'beside an apt ROS with "numpy<2" before it'
            ) from error
    return file.getvalue()


def _has_two_exporters() -> bool:
    return "dynamo" in torch.onnx.export.__code__.co_varnames


def _with_metadata(graph: bytes, metadata: Mapping[str, str]) -> bytes:
    if not metadata:
        return graph
    import onnx

    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())

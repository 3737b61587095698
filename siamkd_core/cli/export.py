"""``siamkd export MODEL --output DIR``"""

from __future__ import annotations

import argparse
from pathlib import Path

TOLERANCE = 1e-3
HELP = "write a model as two ONNX graphs, for TensorRT, C++ and other runtimes; checks them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="shipped name or path of a .safetensors")
    parser.add_argument("--output", required=True, help="folder for the two .onnx files")


def run(args: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from siamkd_core.backend import TorchBackend
    from siamkd_core.config import to_mapping
    from siamkd_core.errors import SiamkdError
    from siamkd_core.graph_backend import GraphBackend, onnxruntime
    from siamkd_core.modelfile import load_model, write_atomically
    from siamkd_core.onnx_export import disagreement, export_onnx

    network, card = load_model(args.model)
    graphs = export_onnx(
        network, {"name": card.name, "sha256": card.sha256, "card": json.dumps(to_mapping(card))}
    )
    found = GraphBackend(graphs, onnxruntime("float32"))
    apart = disagreement(TorchBackend(network, "cpu", "float32"), found, card.tracker.search_size)
    if not apart < TOLERANCE:
        raise SiamkdError(
            f"nothing was written: the answers of ONNX Runtime and PyTorch differ by {apart:.1e} "
            f"of the largest one, which is more than {TOLERANCE}; other versions may agree"
        )
    console = Console()
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, graph in graphs._asdict().items():
            path = folder / f"{card.name}_{part}.onnx"
            write_atomically(path, graph)
            console.print(f"{path}: {len(graph) / 1e6:.2f} MB", highlight=False, soft_wrap=True)
    except OSError as error:
        raise SiamkdError(f"cannot write to {folder}: {error.strerror or error}") from error
    console.print(
        f"answers of ONNX Runtime and PyTorch differ by {apart:.1e} of the largest one",
        highlight=False,
    )
    return 0

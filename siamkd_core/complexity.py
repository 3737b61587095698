"""What a model costs whatever machine it runs on: parameters, bytes, multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from siamkd_core.modelfile import find_model, load_model
from siamkd_core.network import SiameseNetwork
from siamkd_core.search import search_of
from siamkd_core.siamfc import EXEMPLAR_SIZE, count_parameters
from siamkd_core.tracker_config import SearchConfig


@dataclass(frozen=True)
class Complexity:
    """Figures of one model file.

    Attributes:
        parameters: learnable values.
        file_bytes: size of the .safetensors.
        multiply_adds: of one frame, see :func:`frame_multiply_adds`.
    """

    parameters: int
    file_bytes: int
    multiply_adds: int


def complexity(model: str | Path) -> Complexity:
    """The figures of a shipped model (by name) or of the model file at a path.

    Raises:
        ModelFileError: no such model or one that does not fit its card.
    """
    network, card = load_model(model)
    return Complexity(
        count_parameters(network),
        find_model(model).stat().st_size,
        frame_multiply_adds(network, card.tracker),
    )


def frame_multiply_adds(network: SiameseNetwork, config: SearchConfig) -> int:
    """Multiply-adds of convolutions and matrix products, the cross-correlation among them, for one
    frame.

    A frame is the search at all scales against an exemplar that is there already: neither the
    first frame's nor a later look's embedding is counted. BatchNorm is not either, the
    tracker folds it into the convolutions.

    Args:
        network: in eval mode; it is run once, on zeros.
        config: for the number and the size of the crops.
    """
    size, crops = config.search_size, len(search_of(config).factors())
    with torch.no_grad():
        features = network.embed(torch.zeros(1, 3, EXEMPLAR_SIZE, EXEMPLAR_SIZE))
        kernels = network.kernels(features)
        with FlopCounterMode(display=False) as counter:
            network.respond(kernels, network.embed(torch.zeros(crops, 3, size, size)))
    # a multiply-add is two floating point operations
    return int(counter.get_total_flops()) // 2

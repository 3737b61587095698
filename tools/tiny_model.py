"""A model that costs next to nothing, so that the node is seen: for measurements and tests."""

from __future__ import annotations

from pathlib import Path

WIDTHS = (8, 8, 8, 8, 8)


def tiny_model(folder: Path) -> Path:
    """A SiamFC of a few channels with random weights, saved as `tiny`: enough to follow a vivid
    patch. Its score is 0.88 whatever it sees."""
    import torch

    from siamkd_core.modelfile import ModelCard, save_model
    from siamkd_core.siamfc import SiamFC, count_parameters
    from siamkd_core.tracker_config import ScoreConfig, TrackerConfig

    torch.manual_seed(0)
    network = SiamFC(WIDTHS)
    card = ModelCard(
        "tiny",
        "siamfc",
        WIDTHS,
        count_parameters(network),
        tracker=TrackerConfig(scales=1),
        score=ScoreConfig(slope=0.0, bias=2.0),
    )
    return save_model(network, card, folder)

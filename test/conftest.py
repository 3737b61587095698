"""Fixtures shared by the tests: a tiny model file, and folders made on the spot."""

import pytest
import torch

from siamkd_core.modelfile import ModelCard, save_model
from siamkd_core.siamfc import SiamFC, count_parameters

# Networks of a few channels gain nothing from threads, and tests share the machine with others.
torch.set_num_threads(1)

TINY_WIDTHS = (4, 8, 8, 8, 4)


@pytest.fixture
def tiny_model(tmp_path):
    """Path of a model file with random weights: fast, and good for no target."""
    torch.manual_seed(0)
    network = SiamFC(TINY_WIDTHS)
    card = ModelCard("tiny", "siamfc", TINY_WIDTHS, count_parameters(network))
    return save_model(network, card, tmp_path / "models")


@pytest.fixture
def without_pictures(monkeypatch):
    """Training without its curves: drawing takes longer than training a tiny network."""
    monkeypatch.setattr("siamkd_core.runfolder.curves", lambda history: b"")

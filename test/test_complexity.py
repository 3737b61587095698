"""Parameters, bytes and multiply-adds against counts by hand."""

import pytest
import torch
from synthetic import tiny_model

from siamkd_core.complexity import complexity, frame_multiply_adds
from siamkd_core.modelfile import read_card
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker_config import RpnTrackerConfig, TrackerConfig


def by_hand(widths, size):
    """Multiply-adds of one search region: outputs times inputs per group times kernel area."""
    a, b, c, d, e = widths
    total = 0
    side = (size - 11) // 2 + 1
    total += side**2 * a * 3 * 11**2
    side = (side - 3) // 2 + 1 - 4
    total += side**2 * b * (a // 2) * 5**2
    side = (side - 3) // 2 + 1 - 2
    total += side**2 * c * b * 3**2
    side -= 2
    total += side**2 * d * (c // 2) * 3**2
    side -= 2
    total += side**2 * e * (d // 2) * 3**2
    return total + (side - 5) ** 2 * e * 6**2


@pytest.mark.parametrize(
    ("widths", "config"),
    [
        ((26, 68, 102, 102, 68), TrackerConfig()),
        ((4, 8, 8, 8, 4), TrackerConfig(search_size=239, scales=5)),
    ],
)
def test_multiply_adds_are_those_counted_by_hand(widths, config):
    network = SiamFC(widths).eval()
    expected = config.scales * by_hand(widths, config.search_size)
    assert frame_multiply_adds(network, config) == expected


def test_a_siamrpn_counts_its_head_and_one_crop():
    a, b, c, d, e, f = 4, 5, 6, 6, 3, 7
    network = SiamRPN((a, b, c, d, e), HeadConfig(width=f)).eval()
    layers = [131**2 * a * 363, 61**2 * b * a * 25, 28**2 * c * b * 9, 26**2 * d * c * 9]
    layers += [24**2 * e * d * 9, 2 * 22**2 * f * e * 9]
    layers += [19**2 * 25 * f * 16, 19**2 * 20 * 20]  # 5 scores and 20 deltas; the adjustment
    assert frame_multiply_adds(network, RpnTrackerConfig()) == sum(layers)


def test_the_teacher_at_255_pixels():
    layers = [123**2 * 96 * 363, 57**2 * 256 * 1200, 26**2 * 384 * 2304]
    layers += [24**2 * 384 * 1728, 22**2 * 256 * 1728, 17**2 * 9216]
    assert sum(layers) == 2_722_365_216
    assert frame_multiply_adds(SiamFC().eval(), TrackerConfig(scales=1)) == sum(layers)


def test_the_figures_of_a_model_file(tmp_path):
    path = tiny_model(tmp_path)
    found = complexity(path)
    assert found.parameters == read_card(path).parameters
    assert found.file_bytes == len(path.read_bytes()) > 4 * found.parameters
    assert found.multiply_adds == 3 * by_hand((4, 8, 8, 8, 4), 255)


def test_counting_leaves_the_network_alone():
    network = SiamFC((4, 8, 8, 8, 4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frame_multiply_adds(network, TrackerConfig(search_size=143))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

import numpy as np
import pytest
import torch
from shard_support import CONFIG, write_data

from siamkd_core.draw import TRUTH
from siamkd_core.pair_sheet import GAP, ZOOM, pair_sheet
from siamkd_core.pairs import PairDataset, find_sources
from siamkd_core.siamfc_family import SiamFCFamily

FAMILY = SiamFCFamily(16.0, torch.float32)
EXEMPLAR, SIZE = 127 * ZOOM, CONFIG.search_size * ZOOM


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def search_of(sheet: np.ndarray) -> np.ndarray:
    """The search region of a sheet of one pair."""
    edge = max(2, (EXEMPLAR + GAP + SIZE) // 80)
    left = edge + EXEMPLAR + GAP
    return sheet[edge : edge + SIZE, left : left + SIZE].astype(float)


def greener(data, negative: float) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, SIZE) where the sheet is greener than the crop, and the offset, both of pair 0."""
    from dataclasses import replace

    config = replace(CONFIG, negative=negative)
    pairs = PairDataset(find_sources(data, config), config, 1)
    plain = pairs[0]["search"].numpy().transpose(1, 2, 0)
    plain = plain.repeat(ZOOM, 0).repeat(ZOOM, 1).astype(float)
    toward = np.abs(plain - TRUTH).sum(2) - np.abs(
        search_of(pair_sheet(pairs, 1, FAMILY)) - TRUTH
    ).sum(2)
    return toward > 40, pairs[0]["offset"].numpy()


def test_the_positive_cells_are_tinted_around_the_target(data):
    green, offset = greener(data, 0.0)
    cells = green[: SIZE // 16 * 16, : SIZE // 16 * 16]
    rows, columns = np.nonzero(cells)
    assert len(rows) > 5 * 16 * 16 * 0.5
    expected = (SIZE / 2 + ZOOM * offset)[::-1]
    inner = (np.abs(rows - expected[0]) < 60) & (np.abs(columns - expected[1]) < 60)
    middle = np.array([rows[inner].mean(), columns[inner].mean()])
    assert middle == pytest.approx(expected, abs=8 * ZOOM)


def test_a_negative_pair_has_no_positive_cell(data):
    positive, negative = greener(data, 0.0)[0].sum(), greener(data, 1.0)
    assert np.isnan(negative[1]).all()
    assert negative[0].sum() < 0.2 * positive


def test_a_sheet_has_a_tile_for_each_pair(data):
    pairs = PairDataset(find_sources(data, CONFIG), CONFIG, 4)
    wide, tall = pair_sheet(pairs, 4, FAMILY, columns=4), pair_sheet(pairs, 4, FAMILY, columns=1)
    assert wide.shape[1] > 4 * (EXEMPLAR + SIZE) > wide.shape[0]
    assert tall.shape[0] > 4 * SIZE

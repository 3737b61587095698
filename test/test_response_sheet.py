"""The sheet of maps: what it shows is what the losses compare, where it belongs."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from shard_support import CONFIG, write_data
from synthetic import moving_boxes, tiny_model, write_sequence

from siamkd_core.cli import main
from siamkd_core.losses.target_response import attention, target_response, unit
from siamkd_core.losses.teacher_soft import bernoulli_cells
from siamkd_core.pairs import PairDataset, find_sources
from siamkd_core.response_sheet import BAR, GAP, MAPS, NAMES, TILE, response_sheet, responses
from siamkd_core.siamfc import SiamFC

WIDTHS = (4, 8, 8, 8, 4)


class Planted(SiamFC):
    """Answers any exemplar with a pattern, and any search region with that pattern at a place."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__(WIDTHS)
        self.row, self.column = row, column
        self.pattern = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
        self.pattern[:, 2:4, 2:4] *= 3
        self.pattern *= 3  # so that a full match gives a probability near 1

    def embed(self, images):
        if images.shape[-1] == 127:
            return self.pattern[None]
        search = torch.zeros(1, 4, 22, 22)
        search[0, :, self.row : self.row + 6, self.column : self.column + 6] = self.pattern
        return search


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    config = replace(CONFIG, search_size=255)
    data = write_data(tmp_path_factory.mktemp("data"))
    return PairDataset(find_sources(data, config), config, 2)


def tile(sheet: np.ndarray, pair: int, network: int, of: int, place: int) -> np.ndarray:
    top = pair * (BAR + of * (TILE + GAP)) + BAR + network * (TILE + GAP)
    left = NAMES + place * (TILE + GAP)
    return sheet[top : top + TILE, left : left + TILE]


def strengths(shown: np.ndarray, cells: int) -> np.ndarray:
    """(cells, cells) 0..255, how far up the viridis scale each cell's middle is; -1 under lines."""
    middles = np.rint((np.arange(cells) + 0.5) * TILE / cells - 0.5).astype(int)
    colours = shown[np.ix_(middles, middles)].astype(float)[:, :, None]
    scale = np.rint(255 * colormaps["viridis"](np.arange(256))[:, 2::-1])
    distance = np.abs(colours - scale).sum(3)
    return np.where(distance.min(2) < 3, distance.argmin(2), -1)


def brightest(shown: np.ndarray, cells: int) -> tuple[int, int]:
    return divmod(int(strengths(shown, cells).argmax()), cells)


def test_the_drawn_maps_show_the_target_where_the_network_sees_it(pairs):
    networks = [Planted(3, 11), Planted(12, 1)]
    sheet = response_sheet(pairs, 1, networks, ["here", "there"])
    for row, (top, left) in enumerate([(3, 11), (12, 1)]):
        assert brightest(tile(sheet, 0, row, 2, 5), 17) == (top, left)
        found = brightest(tile(sheet, 0, row, 2, 4), 22)
        # the pattern's four strong cells are its middle
        assert found[0] in (top + 2, top + 3) and found[1] in (left + 2, left + 3)
    # outside the pattern the features are 0, and so is F(Wx): the lower end of viridis
    assert strengths(tile(sheet, 0, 0, 2, 4), 22)[-1, 0] == 0


def test_the_scale_of_a_map_is_that_of_all_networks(pairs):
    torch.manual_seed(0)
    flat = Planted(3, 11)
    flat.pattern = torch.ones(4, 6, 6)
    sheet = response_sheet(pairs, 1, [flat, Planted(3, 11)], ["flat", "peaked"])
    even, peaked = (strengths(tile(sheet, 0, row, 2, 2), 6) for row in range(2))
    assert peaked.max() == 255
    # a map of 36 equal cells is 1/6 in each
    strongest = unit(attention(Planted(3, 11).pattern[None])).max().item()
    assert even.min() == even.max() == pytest.approx(255 / 6 / strongest, abs=1)


def test_the_maps_and_figures_are_those_of_the_losses(pairs):
    torch.manual_seed(0)
    teacher, student = (SiamFC(widths).eval() for widths in (WIDTHS, (8, 16, 16, 16, 8)))
    for network in (teacher, student):
        network.backbone[-1].weight.data *= 0.02  # logits of some units, as trained ones are
    pair = pairs[0]
    ours = responses(pair, [teacher, student])
    assert ours[0].target_response == ours[0].divergence == 0 < ours[1].divergence
    with torch.no_grad():
        z, x = pair["exemplar"][None].float(), pair["search"][None].float()
        features = [n.embed(v) for n in (student, teacher) for v in (z, x)]
        logits = [n(z, x) for n in (student, teacher)]
    assert ours[1].target_response == pytest.approx(target_response(*features).item(), rel=1e-5)
    divergence = bernoulli_cells(*logits, 1.0).mean().item()
    assert ours[1].divergence == pytest.approx(divergence, rel=1e-5)
    # the loss is the distance of the maps that are drawn
    distance = sum(np.sum((ours[1].maps[m] - ours[0].maps[m]) ** 2) for m in ("F(z)", "F(Wx)"))
    assert distance == pytest.approx(target_response(*features).item(), rel=1e-4)
    assert distance > 1e-3
    probabilities = logits[0].sigmoid().squeeze().numpy()
    np.testing.assert_allclose(ours[1].maps["response"], probabilities, rtol=1e-5)
    assert [ours[1].maps[name].shape[0] for name in MAPS] == [6, 22, 22, 17]


def test_a_block_a_pair_and_a_row_a_network(pairs):
    network = SiamFC(WIDTHS).eval()
    sheet = response_sheet(pairs, 2, 3 * [network], ["a", "b", "c"])
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * (BAR + 3 * (TILE + GAP)) + GAP, NAMES + 6 * (TILE + GAP), 3)
    assert np.array_equal(tile(sheet, 1, 0, 3, 4), tile(sheet, 1, 2, 3, 4))
    assert not np.array_equal(tile(sheet, 0, 0, 3, 4), tile(sheet, 1, 0, 3, 4))


def test_the_command(tmp_path, capsys):
    write_sequence(tmp_path / "data" / "moving", moving_boxes(4))
    teacher, student = (str(tiny_model(tmp_path / f"m{seed}", seed)) for seed in range(2))
    sheet = tmp_path / "pictures" / "maps.png"
    command = ["maps", "--teacher", teacher, "--data", str(tmp_path / "data"), "--pairs", "1"]
    command += ["--output", str(sheet), "--student"]
    assert main([*command, student]) == 0
    assert "1 pairs" in capsys.readouterr().out
    assert cv2.imread(str(sheet)).shape[0] == BAR + 2 * (TILE + GAP) + GAP
    for wrong, message in (
        ([*command, student, "--sequences", "no"], "no sequence no"),
        ([*command, student, "--pairs", "0"], "at least 1"),
        ([*command, student, "--output", "maps.gif"], ".png"),
        # a folder that is a file
        ([*command, student, "--pairs", "1", "--output", f"{sheet}/maps.png"], "cannot write"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err

"""Anchors and boxes relative to them, against plain loops."""

import math

import numpy as np
import pytest
import torch

from siamkd_core.anchors import (
    anchor_boxes,
    anchor_sides,
    decode,
    encode,
    exemplar_anchors,
    overlap,
    rebased,
    resized,
)
from siamkd_core.box import iou
from siamkd_core.errors import ConfigError


def looped(search_size, cells):
    """Anchors [a][row][column] as centre x, centre y, w, h in the crop."""
    origin = -(cells // 2) * 8
    found = np.zeros((5, cells, cells, 4))
    for a, ratio in enumerate((0.33, 0.5, 1, 2, 3)):
        w = int(math.sqrt(64 / ratio))
        h = int(w * ratio)
        for row in range(cells):
            for column in range(cells):
                found[a, row, column] = (origin + 8 * column, origin + 8 * row, 8 * w, 8 * h)
    found[..., :2] += search_size / 2
    return found


def test_the_published_sides():
    assert anchor_sides() == [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)]


@pytest.mark.parametrize("search_size, cells", [(271, 19), (255, 17), (287, 21)])
def test_anchors_equal_plain_loops(search_size, cells):
    x, y, w, h = anchor_boxes(search_size).numpy()
    centred = np.stack([x + w / 2, y + h / 2, w, h], -1)
    assert centred.shape == (5, cells, cells, 4)
    assert np.array_equal(centred, looped(search_size, cells))


def test_the_middle_anchor_lies_on_the_middle_of_the_crop():
    """The origin is -(19 // 2) * 8 = -72; true division would shift every anchor by 4 px."""
    assert anchor_boxes(271)[:, 2, 9, 9].tolist() == [135.5 - 32, 135.5 - 32, 64, 64]
    assert anchor_boxes(271)[0, 2, 0, 0] == 135.5 - 72 - 32


@pytest.mark.parametrize("size", [263, 270, 127, 100])
def test_a_size_without_a_middle_cell_is_refused(size):
    with pytest.raises(ConfigError, match="127 plus a multiple of 16"):
        anchor_boxes(size)


def test_anchors_of_the_exemplars_shape_lie_on_the_cells_of_the_others():
    shapes = torch.tensor([[30.0, 90.0], [64.0, 64.0]])
    found = exemplar_anchors(shapes, anchor_boxes(271))
    assert found.shape == (2, 4, 1, 19, 19)
    for n, (w, h) in enumerate(shapes.tolist()):
        for row, column in ((0, 0), (9, 9), (3, 17)):
            cx, cy = looped(271, 19)[0, row, column, :2]
            assert found[n, :, 0, row, column].tolist() == [cx - w / 2, cy - h / 2, w, h]
    assert torch.equal(found[1, :, 0], anchor_boxes(271)[:, 2])


def test_a_box_of_other_sides_keeps_its_centre():
    anchors = exemplar_anchors(torch.tensor([[30.0, 90.0]]), anchor_boxes(255))
    wide = resized(anchors, torch.tensor([[50.0, 20.0]])[:, :, None, None, None])
    assert torch.equal(wide, exemplar_anchors(torch.tensor([[50.0, 20.0]]), anchor_boxes(255)))


def test_deltas_relative_to_anchors_of_each_pair():
    anchors = exemplar_anchors(torch.tensor([[40.0, 80.0], [64.0, 32.0]]), anchor_boxes(255))
    boxes = torch.tensor([[100.0, 90.0, 50.0, 80.0], [10.0, 200.0, 120.0, 30.0]])
    deltas = encode(boxes, anchors)
    for n in range(2):
        assert torch.allclose(deltas[n : n + 1], encode(boxes[n : n + 1], anchors[n]))
    back = decode(deltas, anchors)
    assert torch.allclose(back, boxes[:, :, None, None, None].expand_as(back), atol=1e-3)


def test_encoding_and_decoding_equal_plain_arithmetic():
    anchors = anchor_boxes(255)
    boxes = torch.tensor([[100.0, 90.0, 50.0, 80.0], [10.0, 200.0, 120.0, 30.0]])
    deltas = encode(boxes, anchors)
    assert deltas.shape == (2, 4, 5, 17, 17)
    for n, a, row, column in ((0, 0, 0, 0), (0, 2, 8, 9), (1, 4, 16, 3)):
        acx, acy, aw, ah = looped(255, 17)[a, row, column]
        x, y, w, h = boxes[n].tolist()
        expected = [(x + w / 2 - acx) / aw, (y + h / 2 - acy) / ah, math.log(w / aw)]
        expected.append(math.log(h / ah))
        assert deltas[n, :, a, row, column].tolist() == pytest.approx(expected, abs=1e-5)
    back = decode(deltas, anchors)
    assert torch.allclose(back, boxes[:, :, None, None, None].expand_as(back), atol=1e-3)
    moved = decode(torch.tensor([0.5, -0.25, math.log(2), 0.0])[None, :, None, None, None], anchors)
    # of the 64 px square in the middle: 32 px right, 16 px up, twice as wide
    expected = [127.5 + 32 - 64, 127.5 - 16 - 32, 128, 64]
    assert moved[0, :, 2, 8, 8].tolist() == pytest.approx(expected, abs=1e-3)


def test_deltas_relative_to_other_anchors_are_those_of_the_same_boxes():
    torch.manual_seed(4)
    places = anchor_boxes(159)
    deltas = torch.randn(3, 4, 1, 5, 5) * 0.4
    square = exemplar_anchors(torch.tensor([[64.0, 64.0]]), places)
    shaped = exemplar_anchors(torch.tensor([[30.0, 80.0], [64.0, 64.0], [100.0, 20.0]]), places)
    other = rebased(deltas, square, shaped)
    assert torch.allclose(decode(other, shaped), decode(deltas, square), atol=1e-3)
    assert not torch.allclose(other[0], deltas[0], atol=0.1)
    assert torch.allclose(other[1], deltas[1], atol=1e-6)
    # places that differ
    moved = shaped + torch.tensor([7.0, -3.0, 0.0, 0.0])[:, None, None, None]
    found = decode(rebased(deltas, shaped, moved), moved)
    assert torch.allclose(found, decode(deltas, shaped), atol=1e-3)


def test_no_delta_can_overflow():
    wild = decode(torch.full((1, 4, 5, 17, 17), 1e4), anchor_boxes(255))
    assert torch.isfinite(wild).all()


def test_overlap_is_the_iou_of_each_pair():
    rng = np.random.default_rng(0)
    boxes = torch.from_numpy(rng.uniform(20, 150, (3, 4))).float()
    anchors = anchor_boxes(255)
    found = overlap(boxes, anchors)
    rows = anchors.flatten(1).T.numpy().astype(float)
    for n in range(3):
        expected = iou(np.tile(boxes[n].numpy().astype(float), (len(rows), 1)), rows)
        assert found[n].flatten().numpy() == pytest.approx(expected, abs=1e-5)
    each = decode(encode(boxes, anchors), anchors)
    assert torch.allclose(overlap(boxes, each), torch.ones(3, 5, 17, 17), atol=1e-4)

"""Which anchors a pair teaches: thresholds, numbers, and a draw that the pair alone decides."""

import numpy as np
import pytest
import torch

from siamkd_core.anchors import anchor_boxes, exemplar_anchors
from siamkd_core.box import iou
from siamkd_core.rpn_targets import random_ranks, rpn_targets

ANCHORS = anchor_boxes(271)
NONE = [float("nan")] * 4
BOXES = torch.tensor([[103.5, 103.5, 64, 64], [90, 120, 100, 35], [0, 0, 12, 12], NONE])
NUMBERS = torch.tensor([3, 4, 5, 6])


def overlaps(box):
    rows = ANCHORS.flatten(1).T.numpy().astype(float)
    return iou(np.tile(box, (len(rows), 1)), rows).reshape(5, 19, 19)


def test_positives_overlap_much_and_negatives_little():
    drawn = rpn_targets(BOXES, NUMBERS, ANCHORS)
    for n in range(3):
        found = overlaps(BOXES[n].numpy().astype(float))
        assert (found[drawn.positive[n].numpy()] > 0.6).all()
        assert (found[drawn.negative[n].numpy()] < 0.3).all()
        positives = int((found > 0.6).sum())
        assert int(drawn.positive[n].sum()) == min(positives, 16)
    positive, negative = drawn.positive.flatten(1).sum(1), drawn.negative.flatten(1).sum(1)
    assert positive[1] > 0 == positive[2]  # the third is too small for any anchor
    assert (positive + negative).tolist() == [64, 64, 64, 64]


def test_a_pair_without_a_target_teaches_negatives_alone():
    drawn = rpn_targets(BOXES, NUMBERS, ANCHORS)
    assert not drawn.positive[3].any() and torch.isfinite(drawn.deltas).all()
    assert not drawn.deltas[3].any()


def test_an_anchor_of_the_exemplars_shape_is_judged_by_its_place():
    """However much larger the target is than the exemplar's was, the cells on it are positive."""
    boxes = torch.tensor([[103.5, 103.5, 64, 64], [85.5, 115.5, 100, 40]])
    numbers = NUMBERS[:2]
    drawn = [
        rpn_targets(boxes, numbers, exemplar_anchors(torch.full((2, 2), side), ANCHORS))
        for side in (20.0, 64.0)
    ]
    for one in drawn:
        assert one.positive.shape == (2, 1, 19, 19)
        assert one.positive[:, 0, 9, 9].all() and not one.positive[:, 0, 0, 0].any()
    assert torch.equal(drawn[0].positive, drawn[1].positive)
    assert torch.equal(drawn[0].negative, drawn[1].negative)
    for n, box in enumerate(boxes.numpy().astype(float)):
        for row, column in drawn[0].positive[n, 0].nonzero().tolist():
            moved = [box[0] + 8 * (column - 9), box[1] + 8 * (row - 9), *box[2:]]
            assert iou(box[None], np.array([moved]))[0] > 0.6
    assert drawn[0].deltas[0, 2, 0, 9, 9] == pytest.approx(np.log(64 / 20), rel=1e-4)


def test_at_most_16_positives():
    crowd = ANCHORS.repeat_interleave(5, 1)
    drawn = rpn_targets(BOXES[:1], NUMBERS[:1], crowd)
    assert drawn.positive.sum() == 16 and drawn.negative.sum() == 48


def test_the_draw_depends_on_the_pair_alone():
    whole = rpn_targets(BOXES, NUMBERS, ANCHORS)
    for n in range(4):
        alone = rpn_targets(BOXES[n : n + 1], NUMBERS[n : n + 1], ANCHORS)
        for one, other in zip(alone, whole, strict=True):
            assert torch.equal(one[0], other[n])
    other = rpn_targets(BOXES, NUMBERS + 100, ANCHORS)
    for n in range(4):
        assert not torch.equal(other.negative[n], whole.negative[n])


def test_ranks_are_permutations_that_look_random():
    ranks = random_ranks(torch.arange(2000), 50)
    assert torch.equal(ranks.sort(1).values, torch.arange(50).expand(2000, 50))
    # each place is first as often: 40 +- 4 standard deviations of a fair draw
    first = torch.bincount(ranks.argmin(1), minlength=50)
    assert first.min() >= 15 and first.max() <= 66
    pairs = np.corrcoef(ranks[:-1].flatten().numpy(), ranks[1:].flatten().numpy())[0, 1]
    assert abs(pairs) < 0.02


def test_the_mixing_is_splitmix64():
    """Against whole numbers of any size in plain Python."""
    mask = (1 << 64) - 1

    def mixed(value):
        value = value * 0x9E3779B97F4A7C15 & mask
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
        value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
        return value ^ value >> 31

    for number in (0, 7, 123456789):
        keys = [mixed(number * 20 + i + 1) for i in range(20)]
        signed = [key - (1 << 64) if key >> 63 else key for key in keys]
        expected = np.argsort(np.argsort(np.array(signed, np.int64)))
        assert random_ranks(torch.tensor([number]), 20)[0].tolist() == expected.tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same():
    here = rpn_targets(BOXES.cuda(), NUMBERS.cuda(), ANCHORS.cuda())
    for one, other in zip(here, rpn_targets(BOXES, NUMBERS, ANCHORS), strict=True):
        assert torch.allclose(one.cpu().float(), other.float(), atol=1e-6)

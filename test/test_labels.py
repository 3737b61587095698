import numpy as np
import torch

from siamkd_core.labels import response_labels


def test_golden_centred():
    labels = response_labels(5, 8, 16)[0, 0].numpy()
    expected = [
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 0, 0],
    ]
    assert np.array_equal(labels, expected)


def test_an_offset_moves_the_label_in_x_and_y():
    offsets = torch.tensor([[0.0, 0.0], [16.0, -8.0]])
    still, moved = response_labels(17, 8, 16, offsets)[:, 0]
    assert torch.equal(moved, still.roll((-1, 2), (0, 1)))


def test_the_published_map_has_13_positives_of_225():
    assert response_labels(15, 8, 16).sum() == 13

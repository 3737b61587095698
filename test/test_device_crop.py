"""The crop in PyTorch against OpenCV's, and against sampling pixel by pixel."""

import numpy as np
import pytest
import torch
from crop_support import reference_crop, smooth_image
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_core.crop import Square, crop_square, mean_colour, rotation, shrink_of
from siamkd_core.device_crop import crop_located, crop_squares, upload
from siamkd_core.device_crop import mean_colour as device_mean_colour

CPU = torch.device("cpu")


def cut(image, squares, size, colour, dtype=torch.float32):
    """(N, size, size, 3) float64."""
    out = torch.empty((len(squares), 3, size, size), dtype=dtype, memory_format=torch.channels_last)
    pad = torch.from_numpy(np.asarray(colour, np.float32))[:, None, None]
    crop_squares(upload(image, CPU), pad, squares, out)
    return out.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize(
    "square, size",
    [((80, 60, 30), 30), ((70.3, 50.8, 41.7), 50), ((2.5, 118.2, 60), 40), ((80, 60, 61), 32)],
)
def test_equals_sampling_pixel_by_pixel(square, size):
    image, colour = smooth_image(), np.array([10.0, 200.0, 90.0])
    expected = reference_crop(image, square[:2], square[2], size, colour)
    (found,) = cut(image, [Square(*square)], size, colour)
    assert np.abs(found - expected).max() <= 0.501  # whole grey levels


@settings(max_examples=150, deadline=None)
@given(
    cx=st.floats(-60, 220),
    cy=st.floats(-60, 180),
    side=st.floats(2, 700),
    size=st.sampled_from([9, 32, 127]),
    turn=st.sampled_from([0.0, 0.4, -2.0]),
    seed=st.integers(0, 3),
)
def test_equals_opencvs(cx, cy, side, size, turn, seed):
    """Turned, partly and wholly outside, enlarged more than 60 times, shrunk more than 70 times."""
    image = smooth_image(seed=seed)
    colour = mean_colour(image)
    expected = crop_square(image, (cx, cy), side, size, colour, rotation(turn))
    (found,) = cut(image, [Square(cx, cy, side, turn)], size, colour)
    # a level for OpenCV 4's steps of 1/32 pixel, one for its rounding of blocks that are shrunk
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.3


@settings(max_examples=200, deadline=None)
@given(
    cx=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])),
    cy=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])),
    side=st.floats(2, 700),
    shape=st.sampled_from([(120, 160), (31, 300), (3, 5)]),
    size=st.sampled_from([9, 32, 127]),
    turn=st.sampled_from([0.0, 0.4, -2.0]),
    noise=st.booleans(),
)
def test_a_square_that_the_device_found_is_cut_as_if_it_were_known(
    cx, cy, side, shape, size, turn, noise
):
    """Its centre anywhere in the image, its borders too; images smaller than a block."""
    image = smooth_image(*shape)
    if noise:
        image = np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    colour = torch.from_numpy(np.float32(mean_colour(image)))[:, None, None]
    square = Square(cx * shape[1], cy * shape[0], side, turn)
    (expected,) = cut(image, [square], size, mean_colour(image))
    found = torch.empty(1, 3, size, size)
    located = Square(*(torch.tensor(v, dtype=torch.float64) for v in square[:3]), turn)
    crop_located(upload(image, CPU), colour, located, shrink_of(side, size), found)
    # a sample between two grey levels may be rounded to either
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_square_leads_out_of_the_image(value, part):
    """On a GPU that would be an error of the whole device; what is cut is of no use."""
    numbers = [80.0, 60.0, 200.0]
    numbers[part] = value
    located = Square(*(torch.tensor(v, dtype=torch.float64) for v in numbers))
    out = torch.empty(1, 3, 32, 32)
    crop_located(upload(smooth_image(), CPU), torch.zeros(3, 1, 1), located, 6, out)


def test_noise_is_cut_alike_to_the_bit_but_for_few_pixels():
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    colour = mean_colour(image)
    whole = [Square(150, 120, 100), Square(5, 5, 60)]  # whole pixels: no library has to round
    for square in whole:
        expected = crop_square(image, square[:2], square.side, int(square.side), colour)
        (found,) = cut(image, [square], int(square.side), colour)
        assert np.array_equal(found, expected)


def test_a_square_outside_is_the_pad_colour():
    image = smooth_image()
    for square in (Square(-500, -500, 40), Square(80, 700, 30)):
        (found,) = cut(image, [square], 16, [1.2, 2.5, 3.9])
        assert np.all(found == crop_square(image, square[:2], square.side, 16, [1.2, 2.5, 3.9]))


def test_squares_that_need_different_parts_go_together():
    image, colour = smooth_image(), [9.0, 99.0, 199.0]
    squares = [Square(80, 60, 20), Square(-300, 0, 20), Square(70, 50, 140), Square(159, 1, 300)]
    together = cut(image, squares, 33, colour)
    alone = [cut(image, [square], 33, colour)[0] for square in squares]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_whole_grey_levels_survive_half_precision(dtype):
    image, square = smooth_image(), [Square(70.3, 50.8, 41.7)]
    assert np.array_equal(cut(image, square, 32, [9] * 3, dtype), cut(image, square, 32, [9] * 3))


def test_an_upload_is_a_copy_of_any_array():
    image = smooth_image()
    image.flags.writeable = False  # a message's buffer
    for source in (image, image[::-1, ::-1], image[10:50:3, 20:90]):
        copy = upload(source, CPU)
        assert np.array_equal(copy.numpy(), source)
        assert not np.shares_memory(copy.numpy(), image)


def test_mean_colour_is_opencvs():
    image = np.random.default_rng(0).integers(0, 256, (480, 641, 3), np.uint8)
    found = device_mean_colour(upload(image, CPU)).flatten().numpy()
    assert found == pytest.approx(mean_colour(image), abs=1e-3)

import numpy as np
import pytest
from crop_support import reference_crop, smooth_image
from hypothesis import given, settings
from hypothesis import strategies as st

from siamkd_core.crop import crop_square, exemplar_side, mean_colour


@pytest.mark.parametrize(
    "center, side, size",
    [((80, 60), 30, 30), ((70.3, 50.8), 41.7, 50), ((2.5, 118.2), 60, 40), ((80, 60), 61, 32)],
)
def test_equals_sampling_pixel_by_pixel(center, side, size):
    image = smooth_image()
    colour = np.array([10.0, 200.0, 90.0])
    expected = reference_crop(image, center, side, size, colour)
    found = crop_square(image, center, side, size, colour).astype(float)
    # OpenCV interpolates in steps of 1/32 pixel
    assert np.abs(found - expected).max() <= 4
    assert np.abs(found - expected).mean() < 0.6


def test_whole_pixels_are_copied():
    image = smooth_image()
    assert np.array_equal(crop_square(image, (50, 40), 20, 20, np.zeros(3)), image[30:50, 40:60])


def test_a_strong_shrink_averages_instead_of_skipping():
    board = np.indices((256, 256)).sum(0) % 2 * 255
    image = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    out = crop_square(image, (128, 128), 200, 50, np.zeros(3)).astype(float)
    assert np.abs(out - 127.5).max() < 3


@settings(max_examples=60, deadline=None)
@given(
    cx=st.floats(-400, 600),
    cy=st.floats(-400, 500),
    side=st.floats(1, 900),
    size=st.sampled_from([8, 33]),
)
def test_any_square_gives_a_crop_within_the_range_of_its_pixels(cx, cy, side, size):
    image = np.full((100, 140, 3), 77, np.uint8)
    out = crop_square(image, (cx, cy), side, size, np.array([77.0] * 3))
    assert out.shape == (size, size, 3)
    assert np.all(out == 77)


def test_outside_is_the_pad_colour():
    out = crop_square(smooth_image(), (-500, -500), 40, 16, np.array([1.0, 2.0, 3.0]))
    assert np.all(out == [1, 2, 3])


def test_transform_maps_output_offsets_to_the_image():
    image = smooth_image()
    mirrored = crop_square(image, (60, 60), 40, 40, np.zeros(3), np.diag([-1.0, 1.0]))
    straight = crop_square(image, (60, 60), 40, 40, np.zeros(3))
    assert np.abs(mirrored.astype(int) - straight[:, ::-1]).max() <= 1


@pytest.mark.parametrize("square", [(np.nan, 5, 9), (5, np.inf, 9), (5, 5, np.nan)])
def test_a_square_that_is_not_finite_is_an_error(square):
    x, y, side = square
    with pytest.raises(ValueError, match="no place to look"):
        crop_square(np.zeros((20, 20, 3), np.uint8), (x, y), side, 8, np.zeros(3))


def test_exemplar_side_golden():
    # (w + p)(h + p) with p = (20 + 40) / 2 = 30: 50 * 70 = 3500
    assert exemplar_side(20, 40) == pytest.approx(3500**0.5)


def test_mean_colour():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = (4, 8, 12)
    assert mean_colour(image) == pytest.approx([1, 2, 3])


def test_memory_or_an_image_that_does_not_fit_is_refused():
    """OpenCV would write elsewhere, and leave what was there."""
    image = smooth_image()
    out = np.empty((20, 20, 3), np.uint8)
    assert crop_square(image, (50, 40), 20, 20, np.zeros(3), out=out) is out
    assert np.array_equal(out, image[30:50, 40:60])
    outside = crop_square(image, (-500, -500), 20, 20, np.array([1.0, 2.0, 3.0]), out=out)
    assert outside is out and np.array_equal(out[0, 0], [1, 2, 3])
    for wrong in (np.empty((20, 21, 3), np.uint8), np.empty((20, 20, 3), np.float32)):
        with pytest.raises(ValueError, match="does not give crops of uint8 in memory of"):
            crop_square(image, (50, 40), 20, 20, np.zeros(3), out=wrong)
    for wrong in (image.astype(np.float32), image[..., 0]):
        with pytest.raises(ValueError, match=r"an image of (float32|uint8), \(\d+, \d+"):
            crop_square(wrong, (50, 40), 20, 20, np.zeros(3))

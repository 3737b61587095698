import numpy as np
import pytest

from siamkd_core.augment import AugmentConfig, change_colours, random_linear


def test_the_published_recipe_only_stretches():
    rng = np.random.default_rng(0)
    maps = np.array([random_linear(AugmentConfig(), rng, False) for _ in range(200)])
    assert np.all(maps[:, [0, 1], [1, 0]] == 0)
    diagonal = maps[:, [0, 1], [0, 1]]
    assert 0.95 <= diagonal.min() < 0.96 and 1.04 < diagonal.max() <= 1.05
    crop = rng.integers(0, 256, (9, 9, 3), np.uint8)
    assert change_colours(crop, AugmentConfig(), rng, grey=False) is crop


def test_a_flip_mirrors_and_a_rotation_turns():
    rng = np.random.default_rng(0)
    plain = AugmentConfig(stretch=0)
    assert random_linear(plain, rng, True) == pytest.approx(np.diag([-1.0, 1.0]))
    turned = random_linear(AugmentConfig(stretch=0, rotate=30), rng, False)
    assert turned @ turned.T == pytest.approx(np.eye(2))
    assert abs(np.degrees(np.arctan2(turned[1, 0], turned[0, 0]))) <= 30


def test_grey_has_equal_channels_and_colour_keeps_uint8():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (20, 20, 3), np.uint8)
    config = AugmentConfig(colour=0.5, blur=1.0)
    for _ in range(30):
        out = change_colours(crop, config, rng, grey=True)
        assert out.dtype == np.uint8 and out.shape == crop.shape
        assert np.all(out == out[:, :, :1])


def test_blur_takes_away_detail_and_keeps_the_mean():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for _ in range(30):
        out = change_colours(crop, AugmentConfig(blur=1.0), rng, grey=False)
        assert out.std() < 0.8 * crop.std()
        assert out.mean() == pytest.approx(crop.mean(), abs=2)

import numpy as np
import pytest

from siamkd_core.augment import AugmentConfig, change_colours, occlude, random_linear, reach
from siamkd_core.box import Box
from siamkd_core.errors import ConfigError


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


def test_reach_is_the_farthest_corner_of_any_crop():
    rng = np.random.default_rng(0)
    for config in (
        AugmentConfig(stretch=0, shift=0),
        AugmentConfig(stretch=0.2, shift=20, rotate=15),
        AugmentConfig(stretch=0.1, shift=5, rotate=80),
    ):
        corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * (50 + config.shift)
        maps = [random_linear(config, rng, bool(i % 2)) for i in range(3000)]
        far = max(np.abs(corners @ linear.T).max() for linear in maps)
        limit = reach(config, 100)
        assert 0.95 * limit < far <= limit + 1e-9


def test_occlusion_hides_one_rectangle_and_at_most_half_of_the_target():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 200, (120, 120, 3), np.uint8)
    target, fill = Box(40, 30, 40, 60), np.array([201.0, 210.0, 220.0])
    plain, noise, on_target = 0, 0, 0
    for _ in range(300):
        before = crop.copy()
        out = occlude(crop, target, fill, rng)
        assert np.array_equal(crop, before)
        changed = (out != crop).any(2)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert changed.sum() > 0.9 * area  # one full rectangle
        hidden = changed[30:90, 40:80].mean()
        assert hidden <= 0.5
        on_target += hidden > 0
        patch = out[changed]
        plain += bool((patch == fill).all())
        noise += bool((patch > 230).any())
    # a third each; noise alone holds values above the crop's and the fill's
    assert 70 <= plain <= 130 and 70 <= noise <= 130
    assert 150 <= on_target < 300


def test_occlusion_of_a_target_at_the_edge_stays_inside():
    rng = np.random.default_rng(0)
    crop = np.zeros((50, 50, 3), np.uint8)
    for box in (Box(-20, -30, 60, 70), Box(45, 45, 3, 3), Box(-100, -100, 300, 300)):
        for _ in range(20):
            assert occlude(crop, box, np.full(3, 9.0), rng).shape == crop.shape


def test_jpeg_leaves_the_blocks_of_its_quality():
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64))
    crop = np.stack([(127 + 60 * np.sin((x + k * y) / 5)).astype(np.uint8) for k in range(3)], 2)

    def error(quality):
        config = AugmentConfig(jpeg=1.0, jpeg_quality=(quality, quality))
        out = change_colours(crop, config, rng, grey=False)
        return np.abs(out.astype(int) - crop).mean()

    assert 0 < error(95) < error(50) < error(10) < 40
    half = AugmentConfig(jpeg=0.5)
    same = sum(change_colours(crop, half, rng, grey=False) is crop for _ in range(200))
    assert 70 <= same <= 130


@pytest.mark.parametrize("quality", [(0, 50), (60, 50), (50, 101)])
def test_impossible_settings_say_so(quality):
    with pytest.raises(ConfigError, match="jpeg_quality"):
        AugmentConfig(jpeg_quality=quality)
    with pytest.raises(ConfigError, match="occlude"):
        AugmentConfig(occlude=1.5)

import json

import cv2
import numpy as np
import pytest
import torch

from siamkd_core.augment import AugmentConfig
from siamkd_core.errors import ConfigError, DataError
from siamkd_core.labels import response_labels
from siamkd_core.pairs import PairDataset, PairsConfig, SourceConfig, find_sources, random_box

DOT = 12


def scene(x, y):
    image = np.full((150, 200, 3), 30, np.uint8)
    image[y : y + DOT, x : x + DOT] = 240
    return image


@pytest.fixture
def data(tmp_path):
    """Two sequences and a folder of stills; the target is the bright square."""
    for number in range(2):
        folder = tmp_path / "tracks" / f"seq{number}"
        (folder / "img").mkdir(parents=True)
        lines = []
        for frame in range(6):
            x, y = 40 + 10 * frame, 50 + 20 * number
            cv2.imwrite(str(folder / "img" / f"{frame:03d}.png"), scene(x, y))
            lines.append(f"{x},{y},{DOT},{DOT}" if frame != 3 else "nan,nan,nan,nan")
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    stills = tmp_path / "stills" / "set"
    stills.mkdir(parents=True)
    cv2.imwrite(str(stills / "a.png"), scene(90, 70))
    record = {"file": "a.png", "boxes": [[90, 70, DOT, DOT], [0, 0, 2, 2], [0, 0, 199, 149]]}
    (stills / "boxes.jsonl").write_text(json.dumps(record) + "\n")
    return tmp_path


CONFIG = PairsConfig(
    sources=(SourceConfig(("tracks/*",), 1.0, 2), SourceConfig(("stills/*",), 1.0)),
    augment=AugmentConfig(stretch=0.1, shift=20, rotate=10, flip=0.5),
)


def brightest(crop):
    weight = np.clip(crop.numpy().mean(0) - 120, 0, None)
    rows, columns = np.indices(weight.shape)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum() + 0.5


def test_the_target_is_where_the_offset_says(data):
    pairs = PairDataset(find_sources(data, CONFIG), CONFIG, 40)
    for number in range(40):
        pair = pairs[number]
        assert pair["exemplar"].shape == (3, 127, 127)
        assert pair["search"].shape == (3, 239, 239)
        assert brightest(pair["exemplar"]) == pytest.approx([63.5, 63.5], abs=1)
        expected = 119.5 + pair["offset"].numpy()
        assert brightest(pair["search"]) == pytest.approx(expected, abs=1)


def test_a_pair_depends_on_its_number_and_the_seed_alone(data):
    sources = find_sources(data, CONFIG)
    one, other = PairDataset(sources, CONFIG, 20), PairDataset(sources, CONFIG, 20)
    for number in (7, 3, 19):
        a, b = one[number], other[number]
        assert all(np.array_equal(a[key], b[key]) for key in a)
    different = PairDataset(sources, CONFIG, 20, seed=1)
    assert not np.array_equal(one[3]["search"], different[3]["search"])


def test_cache_and_no_cache_give_the_same(data):
    sources = find_sources(data, CONFIG)
    cached = PairDataset(sources, CONFIG, 20, cache_bytes=1 << 20)
    plain = PairDataset(sources, CONFIG, 20)
    for number in (1, 2, 1):
        assert np.array_equal(cached[number]["search"], plain[number]["search"])


def test_identity_tells_targets_apart(data):
    pairs = PairDataset(find_sources(data, CONFIG), CONFIG, 60)
    drawn = {tuple(pairs[i]["identity"].tolist()) for i in range(60)}
    assert drawn == {(0, 0), (1, 1), (2, 2)}


def test_weights_decide_how_often_a_source_is_drawn(data):
    config = PairsConfig(
        sources=(SourceConfig(("tracks/*",), 9.0), SourceConfig(("stills/*",), 1.0))
    )
    pairs = PairDataset(find_sources(data, config), config, 300)
    stills = sum(int(pairs[i]["identity"][0]) == 2 for i in range(300))
    assert 10 <= stills <= 55


def test_held_out_folders_are_not_trained_on(data):
    from dataclasses import replace

    config = replace(CONFIG, holdout=("seq1",))
    names = [
        item.name for s in find_sources(data, config) for item in s.items if hasattr(item, "name")
    ]
    assert names == ["seq0"]
    (kept,) = find_sources(data, config, held_out=True)
    assert [item.name for item in kept.items] == ["seq1"]
    # a source of held-out sequences alone has nothing to train on, and is no mistake
    sources = (SourceConfig(("tracks/seq0",)), SourceConfig(("tracks/seq1",)))
    apart = replace(config, sources=sources)
    (left,) = find_sources(data, apart)
    assert left.config == sources[0]
    with pytest.raises(DataError, match=r"everything .* is held out"):
        find_sources(data, replace(config, sources=sources[1:]))
    with pytest.raises(DataError, match="seq7"):
        find_sources(data, replace(CONFIG, holdout=("seq7",)))


def test_a_broken_image_costs_a_draw_and_all_broken_is_an_error(data):
    config = PairsConfig(sources=(SourceConfig(("tracks/*",)),))
    pairs = PairDataset(find_sources(data, config), config, 20)
    (data / "tracks" / "seq0" / "img" / "000.png").write_bytes(b"no image")
    for number in range(20):
        pairs[number]
    for file in data.glob("tracks/*/img/*"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot decode"):
        pairs[0]


def test_an_empty_source_and_impossible_settings_say_so(data):
    with pytest.raises(DataError, match="nothing"):
        find_sources(data, PairsConfig(sources=(SourceConfig(("nothing/*",)),)))
    with pytest.raises(ConfigError):
        PairsConfig(search_size=100)
    with pytest.raises(ConfigError):
        PairsConfig(sources=(SourceConfig(("a",), weight=0),))


def test_negative_pairs_show_another_target_and_have_no_offset(data):
    from dataclasses import replace

    config = replace(CONFIG, negative=0.3)
    pairs = PairDataset(find_sources(data, config), config, 100)
    plain = PairDataset(find_sources(data, config), CONFIG, 1)
    negatives, offsets = 0, []
    for number in range(100):
        detail = pairs.detail(number)
        exemplar, search = detail.pair["identity"].tolist()
        assert (exemplar != search) == bool(detail.pair["offset"].isnan().all())
        assert (exemplar != search) == bool(detail.pair["box"].isnan().all())
        assert (exemplar, search) == (detail.exemplar.identity, detail.search.identity)
        offsets.append(detail.pair["offset"])
        negatives += exemplar != search
    assert 15 <= negatives <= 45
    labels = response_labels(15, 8, 16.0, torch.stack(offsets))
    assert int((labels.sum((1, 2, 3)) == 0).sum()) == negatives
    assert not plain[0]["offset"].isnan().any()
    one = replace(config, sources=(SourceConfig(("stills/*",)),))
    with pytest.raises(DataError, match="two targets"):
        PairDataset(find_sources(data, one), one, 1)
    with pytest.raises(ConfigError, match="negative"):
        replace(CONFIG, negative=1.1)


def test_an_old_recipe_gives_the_pairs_it_always_gave(data):
    """Figures of the code before occlusion, JPEG and negative pairs: one more random number
    anywhere would change them."""
    from dataclasses import replace

    augment = replace(CONFIG.augment, colour=0.25, grey=0.15, blur=0.2)
    config = replace(CONFIG, augment=augment)
    pairs = PairDataset(find_sources(data, config), config, 5)
    golden = [
        (4.26543, 9.17986, 0, 62.635, 70.722),
        (4.75067, -19.83794, 0, 73.862, 32.712),
        (-6.92245, -15.26633, 0, 82.875, 70.088),
        (-7.18871, 8.91609, 1, 85.259, 55.635),
        (10.85129, -11.21665, 2, 88.545, 35.741),
    ]
    for number, (x, y, identity, exemplar, search) in enumerate(golden):
        pair = pairs[number]
        assert pair["offset"].tolist() == pytest.approx([x, y], abs=1e-4)
        assert pair["identity"].tolist() == [identity, identity]
        # the last bit of a warp may differ between processors
        assert float(pair["exemplar"].float().mean()) == pytest.approx(exemplar, abs=0.1)
        assert float(pair["search"].float().mean()) == pytest.approx(search, abs=0.1)


def test_the_boxes_of_a_pair_lie_on_its_targets(data):
    pairs = PairDataset(find_sources(data, CONFIG), CONFIG, 20)
    for number in range(20):
        detail = pairs.detail(number)
        for key, box in zip(("exemplar", "search"), detail.boxes, strict=True):
            bright = (detail.pair[key].numpy().mean(0) > 135).nonzero()
            found = np.array([b.min() for b in bright] + [b.max() + 1 for b in bright])
            expected = [box.y, box.x, box.y + box.h, box.x + box.w]
            assert found == pytest.approx(expected, abs=2.5)
        assert detail.pair["box"].tolist() == pytest.approx(detail.boxes[1])
        assert detail.pair["shape"].tolist() == pytest.approx(detail.boxes[0][2:])
        assert detail.pair["number"] == number


def test_photographs_without_boxes_give_pairs_of_one_place(data):
    folder = data / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (150, 200, 3), np.uint8), (0, 0), 3)
    cv2.imwrite(str(folder / "a.png"), cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX))
    config = PairsConfig(
        sources=(SourceConfig(("photos",), random_boxes=True),),
        augment=AugmentConfig(stretch=0, shift=20),
    )
    pairs = PairDataset(find_sources(data, config), config, 20)
    for number in range(20):
        pair = pairs[number]
        x, y = (119.5 + pair["offset"].numpy() - 63.5).round().astype(int)
        cut = pair["search"][:, y : y + 127, x : x + 127].numpy().astype(float)
        assert np.abs(cut - pair["exemplar"].numpy()).mean() < 12
    with pytest.raises(DataError, match="photographs"):
        find_sources(data, PairsConfig(sources=(SourceConfig(("no",), random_boxes=True),)))


def test_random_boxes_are_inside_and_of_every_size():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(320, 200, 10, rng) for _ in range(2000)])
    assert (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= (320, 200)).all()
    sides = boxes[:, 2:]
    assert sides.min() >= 10 and (sides.max(0) > (140, 90)).all()
    ratio = sides[:, 0] / sides[:, 1]
    assert ratio.max() <= 3 + 1e-9 and ratio.min() >= 1 / 3 - 1e-9
    # half of the widths lie below the geometric mean of the limits
    assert np.mean(sides[:, 0] < 40) == pytest.approx(0.5, abs=0.04)
    tiny = random_box(12, 300, 10, rng)
    assert tiny.w >= 10 and tiny.x + tiny.w <= 12 and tiny.h <= 30

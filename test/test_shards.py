"""Training from shards draws the pairs of the images, and refuses shards of another recipe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shard_support import AUGMENT, CONFIG, write_data
from torch.utils.data import DataLoader

pytest.importorskip("webdataset", reason="siamkd prepare needs webdataset")

from siamkd_core.errors import DataError
from siamkd_core.pairs import PairDataset, SourceConfig, find_sources
from siamkd_core.prepare import prepare
from siamkd_core.shard_plan import PrepareConfig

COUNT = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    data = write_data(root / "data")
    prepare(CONFIG, data, root / "shards", PrepareConfig(quality=95, shard_size=5))
    return data, root / "shards"


@pytest.mark.parametrize("negative", [0.0, 0.4])
@pytest.mark.parametrize("held_out", [False, True])
def test_pairs_of_shards_are_those_of_the_images(folders, negative, held_out):
    config = replace(CONFIG, negative=0.0 if held_out else negative)
    raw, stored = (
        PairDataset(find_sources(folder, config, held_out), config, COUNT) for folder in folders
    )
    apart = shifted = 0.0
    for number in range(COUNT):
        a, b = raw.detail(number), stored.detail(number)
        for one, other in ((a.exemplar, b.exemplar), (a.search, b.search)):
            assert (one.name, one.frames, one.is_still) == (
                other.name,
                other.frames,
                other.is_still,
            )
        assert torch.equal(a.pair["identity"], b.pair["identity"])
        assert torch.allclose(a.pair["box"], b.pair["box"], atol=0.01, equal_nan=True)
        assert torch.equal(a.pair["offset"].nan_to_num(1e6), b.pair["offset"].nan_to_num(1e6))
        assert np.allclose(a.boxes, b.boxes, atol=1e-3)
        for key in ("exemplar", "search"):
            one, other = a.pair[key].float(), b.pair[key].float()
            assert (one - other).abs().mean() < 4, (number, key)  # JPEG halves the colour's detail
            one, other = one.mean(0), other.mean(0)
            apart += (one - other).abs().mean()
            shifted += (one[:, 1:] - other[:, :-1]).abs().mean()
    # a crop one pixel beside its place would be told apart
    assert apart < 0.7 * shifted and apart / (2 * COUNT) < 1.5
    others = [stored[number]["search"].float() for number in range(1, 4)]
    assert min((o - raw[0]["search"].float()).abs().mean() for o in others) > 10


def test_any_number_of_workers_gives_the_same_pairs(folders):
    config = replace(CONFIG, negative=0.3, augment=replace(AUGMENT, occlude=0.5, jpeg=0.5))
    pairs = PairDataset(find_sources(folders[1], config), config, 12, seed=3)
    runs = [list(DataLoader(pairs, 4, num_workers=workers)) for workers in (0, 1, 2)]
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            assert all(torch.equal(a[k].nan_to_num(), b[k].nan_to_num()) for k in a)


def test_gap_and_weight_are_chosen_when_training(folders):
    tracks, stills = CONFIG.sources
    far = replace(CONFIG, sources=(replace(tracks, max_gap=6), replace(stills, weight=0.001)))
    pairs = PairDataset(find_sources(folders[1], far), far, COUNT)
    frames = [pairs.detail(number).exemplar.frames for number in range(COUNT)]
    assert max(abs(z - x) for z, x in frames) > tracks.max_gap


def test_a_milder_recipe_fits_and_says_nothing(folders):
    mild = replace(CONFIG, search_size=159, augment=replace(AUGMENT, shift=0, rotate=0))
    assert PairDataset(find_sources(folders[1], mild), mild, 1)[0]["search"].shape[-1] == 159


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holdout": ("seq1",)}, r"holdout is \['seq2'\] in the shards and \['seq1'\] in the"),
        ({"min_side": 12}, "min_side is 10 in the shards and 12 in the recipe"),
        ({"max_share": 0.6}, "max_share is 0.5 in the shards and 0.6"),
        ({"search_size": 255}, r"reach 152\.279 px from the target .* 193\.057 px"),
        ({"augment": replace(AUGMENT, rotate=40)}, "augmentation"),
        ({"sources": CONFIG.sources[:1]}, "the shards have 2 sources and the recipe 1"),
        (
            {"sources": (CONFIG.sources[0], SourceConfig(("photos",)))},
            r"source 2 has folders \['stills/\*'\] in the shards and \['photos'\] in the recipe",
        ),
    ],
)
def test_shards_of_another_recipe_are_refused(folders, change, message):
    with pytest.raises(DataError, match=message):
        find_sources(folders[1], replace(CONFIG, **change))


def test_a_missing_or_short_shard_and_a_foreign_index_are_named(tmp_path):
    data, shards = write_data(tmp_path / "data"), tmp_path / "shards"
    prepare(CONFIG, data, shards)
    file = shards / "01_train_00000000.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[:-512])
    with pytest.raises(DataError, match=r"01_train_00000000\.tar is missing or damaged"):
        find_sources(shards, CONFIG)
    file.unlink()
    with pytest.raises(DataError, match="missing"):
        find_sources(shards, CONFIG)
    (shards / "index.json").write_text('{"shardlist": []}')
    with pytest.raises(DataError, match="no index that siamkd prepare wrote"):
        find_sources(shards, CONFIG)


def test_a_slice_and_an_end_like_any_sequence(folders):
    (source,) = find_sources(folders[1], CONFIG)[:1]
    assert [target.name for target in source.items] == ["seq0", "seq1"]
    assert [target.name for target in source.items[1:]] == ["seq1"]
    assert source.items[0].frames.tolist() == [0, 1, 2, 4, 5, 6]
    assert source.items[0].view(5) is None


def test_training_from_shards_is_training_from_the_images(folders, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from siamkd_core.train import TrainConfig, train

    # one held-out target: validation must not look for negative pairs in it
    config = TrainConfig(
        name="tiny",
        widths=(4, 8, 8, 8, 4),
        pairs=replace(CONFIG, negative=0.3, search_size=159),
        epochs=1,
        pairs_per_epoch=8,
        batch_size=4,
        lr=0.1,
        lr_end=0.1,
        stranger_weight=0.3,
        validation_pairs=2,
        workers=0,
    )

    def losses(data):
        train(config, data, tmp_path / data.name, "cpu", "float32")
        events = EventAccumulator(str(tmp_path / data.name / "tensorboard")).Reload()
        return [events.Scalars(name)[0].value for name in ("loss/epoch", "loss/held_out")]

    images, shards = (losses(folder) for folder in folders)
    assert images != shards and images == pytest.approx(shards, abs=2e-3)

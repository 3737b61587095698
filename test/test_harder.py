"""What students see harder than their teacher: a moved exemplar, or one of another frame than the
teacher's, and which terms leave it out."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from synthetic import tiny_model
from torch.utils.data import default_collate
from training_support import PAIRS, write_data, write_stills

from siamkd_core.augment import AugmentConfig
from siamkd_core.distill import DistillTask
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError
from siamkd_core.harder import HarderConfig, Moves, draw, harder, moved
from siamkd_core.labels import response_labels
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.target_response import target_response
from siamkd_core.losses.teacher_soft import teacher_soft
from siamkd_core.pairs import PairDataset, PairsConfig, SourceConfig, find_sources

NUMBERS = torch.arange(400)


def only_turned(*degrees):
    """Moves that turn."""
    turn = torch.tensor(degrees)
    return Moves(turn, torch.ones_like(turn), torch.zeros(len(turn), 2), turn != 0)


def test_moves_are_a_function_of_seed_and_number():
    config = HarderConfig(turn=60, zoom=0.25, shift=6, share=0.5)
    drawn = draw(config, NUMBERS, 3)
    for one, other in zip(draw(config, NUMBERS[100:], 3), drawn, strict=True):
        assert torch.equal(one, other[100:])
    assert not torch.equal(draw(config, NUMBERS, 4).turn, drawn.turn)
    assert 160 < drawn.chosen.sum() < 240
    turn, zoom, shift, _ = (part[drawn.chosen] for part in drawn)
    assert -60 <= turn.min() < -45 and 45 < turn.max() <= 60
    assert 0.8 <= zoom.min() < 0.84 and 1.19 < zoom.max() <= 1.25
    assert (shift.min(0).values >= -6).all() and (shift.min(0).values < -5).all()
    assert (shift.max(0).values <= 6).all() and (shift.max(0).values > 5).all()
    assert torch.corrcoef(torch.stack([turn, zoom, *shift.T])).triu(1).abs().max() < 0.25
    still = [part[~drawn.chosen] for part in drawn]
    assert all(still[0] == 0) and all(still[1] == 1) and (still[2] == 0).all()
    assert draw(replace(config, share=1.0), NUMBERS, 3).chosen.all()
    assert not draw(HarderConfig(twin=True), NUMBERS, 3).chosen.any()


def test_the_turns_are_those_that_the_shipped_student_learnt_from():
    """So a run of its recipe gives its weights: the first numbers of this stream, as numpy gives
    them."""
    turns = draw(HarderConfig(turn=60, share=0.5), NUMBERS[:8], 0).turn
    expected = []
    for number in range(8):
        rng = np.random.default_rng((0, number, 0x7475726E))
        expected.append(rng.uniform(-60, 60) if rng.random() < 0.5 else 0.0)
    assert turns.tolist() == pytest.approx(expected, rel=1e-6) and any(expected)


def test_quarter_turns_are_exact_and_no_turn_changes_nothing():
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (4, 3, 11, 11), np.uint8))
    found = moved(pictures, only_turned(0.0, 90.0, -90.0, 180.0))
    assert torch.equal(found[0], pictures[0])
    for picture, now, quarters in zip(pictures[1:], found[1:], (1, -1, 2), strict=True):
        assert torch.equal(now, torch.rot90(picture, quarters, (1, 2)))  # counter-clockwise
    assert moved(pictures, only_turned(0.0, 0.0, 0.0, 0.0)) is pictures


def test_whole_shifts_are_exact():
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 3, 12, 12), np.uint8))
    shift, chosen = torch.tensor([[3.0, -2.0], [0.0, 0.0]]), torch.tensor([True, False])
    found = moved(pictures, Moves(torch.zeros(2), torch.ones(2), shift, chosen))
    assert torch.equal(found[0, :, :10, 3:], pictures[0, :, 2:, :9])  # right by 3, up by 2
    assert torch.equal(found[1], pictures[1])


def test_all_three_are_the_affine_map_of_opencv():
    rng = np.random.default_rng(1)
    side, degrees, zoom, shift = 41, 37.0, 1.2, (4.5, -3.25)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (side, side, 3), np.uint8), (0, 0), 3)
    middle = (side - 1) / 2
    forward = cv2.getRotationMatrix2D((middle, middle), degrees, zoom)
    forward[:, 2] += shift
    border = cv2.BORDER_REFLECT
    expected = cv2.warpAffine(picture, forward, (side, side), borderMode=border)
    moves = Moves(*(torch.tensor([one]) for one in (degrees, zoom, shift, True)))
    found = moved(torch.from_numpy(picture.transpose(2, 0, 1))[None], moves)[0]
    difference = found.numpy().transpose(1, 2, 0).astype(int) - expected
    assert np.abs(difference).max() <= 2 < np.ptp(expected)


def test_what_lies_beyond_the_border_is_mirrored():
    plain = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(moved(plain, only_turned(33.0)), plain)


@pytest.mark.parametrize(
    "wrong",
    [
        {"turn": -1.0},
        {"turn": 181.0},
        {"zoom": -0.1},
        {"zoom": 1.1},
        {"shift": -1.0},
        {"shift": 33.0},
        {"share": 0.0},
        {"share": 1.1},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HarderConfig(**wrong)


def test_a_batch_keeps_all_but_its_exemplars():
    batch = {
        "exemplar": torch.randint(0, 256, (8, 3, 9, 9), dtype=torch.uint8),
        "search": torch.zeros(8, 3, 17, 17, dtype=torch.uint8),
        "number": torch.arange(8),
    }
    before = batch["exemplar"].clone()
    shown, seen, alike = harder(batch, HarderConfig(40), 0)
    assert shown is batch
    same = [torch.equal(a, b) for a, b in zip(seen["exemplar"], before, strict=True)]
    assert alike.tolist() == [float(one) for one in same] and 0 < sum(same) < 8
    assert torch.equal(batch["exemplar"], before)
    assert seen["search"] is batch["search"] and seen["number"] is batch["number"]
    shown, unchanged, all_alike = harder(batch, HarderConfig(), 0)
    assert shown is batch and unchanged is batch and all_alike.tolist() == [1.0] * 8


def test_the_teacher_sees_the_pair_as_it_is(tmp_path):
    config = DistillConfig(
        teacher=str(tiny_model(tmp_path, seed=5)),
        students=(StudentConfig("dull", (2, 4, 4, 4, 2)),),
        pairs=PAIRS,
        sharing=SharingConfig("none"),
        losses=TermsConfig(
            teacher_soft=1.0, target_response=1.0, feature_matching=1.0, adaptive_hard=0.0
        ),
        harder=HarderConfig(180),
        epochs=1,
        pairs_per_epoch=16,
        batch_size=4,
        workers=0,
        seed=2,
    )
    write_data(tmp_path / "data")
    task = DistillTask(config, tmp_path / "data", torch.device("cpu"), torch.float32, "abc")
    student = task.networks["dull"].eval()
    batch = default_collate([task.samples[k] for k in range(8)])
    _, seen, alike = harder(batch, config.harder, 2)
    assert 0 < alike.sum() < 8
    with torch.no_grad():
        for network in (student, task.teacher):
            # logits near 1: those of hundreds, that fresh weights give, are all equally certain
            z, x = (network.embed(batch[key].float()) for key in ("exemplar", "search"))
            network.backbone[-1].weight.div_(network.respond(z, x).std().sqrt())
        found = {key: float(value) for key, value in task.losses(task.networks, batch).items()}
        z, x = (student.embed(seen[key].float()) for key in ("exemplar", "search"))
        t, y = (task.teacher.embed(batch[key].float()) for key in ("exemplar", "search"))
        ours, theirs = student.respond(z, x), task.teacher.respond(t, y)
        positive = response_labels(theirs.shape[-1], 8, 16.0, batch["offset"]) > 0
        soft = teacher_soft(ours, theirs, positive, 1.0).mean()
        maps = (alike * target_response(z, x, t, y)).mean()
        adapter = student.adapter
        kept = alike * feature_matching(adapter(z), t)
        features = (kept + feature_matching(adapter(x), y)).mean() / 2
    assert found["dull/teacher_soft"] > 1e-3
    assert found["dull/teacher_soft"] == pytest.approx(float(soft), rel=1e-4)
    assert found["dull/target_response"] == pytest.approx(float(maps), rel=1e-4)
    assert found["dull/feature_matching"] == pytest.approx(float(features), rel=1e-4)
    task.config = replace(config, harder=HarderConfig())
    with torch.no_grad():
        plain = task.losses(task.networks, batch)
    assert float(plain["dull/teacher_soft"]) != pytest.approx(found["dull/teacher_soft"], rel=1e-4)


@pytest.fixture
def tracks(tmp_path):
    """A sequence whose target brightens from frame to frame, and a still."""
    folder = tmp_path / "data" / "tracks" / "bright"
    (folder / "img").mkdir(parents=True)
    lines = []
    for frame in range(4):
        image = np.full((120, 160, 3), 30, np.uint8)
        x, y = 40 + 12 * frame, 50
        image[y : y + 24, x : x + 24] = (60 * frame + 60, 90, 80)
        cv2.imwrite(str(folder / "img" / f"{frame:03d}.png"), image)
        lines.append(f"{x},{y},24,24")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    write_stills(tmp_path / "data" / "stills" / "set", count=2)
    return tmp_path / "data"


TWINS = PairsConfig(
    sources=(SourceConfig(("tracks/*",), 1.0), SourceConfig(("stills/*",), 1.0)),
    search_size=159,
    augment=AugmentConfig(stretch=0.2, shift=10, rotate=8, flip=0.5, colour=0.3, grey=0.3),
)


def test_a_twin_is_the_exemplar_of_the_search_regions_frame(tracks):
    sources = find_sources(tracks, TWINS)
    plain, twins = (PairDataset(sources, TWINS, 60, 5, twin=twin) for twin in (False, True))
    kinds = {"same": 0, "other": 0}
    for number in range(60):
        detail = twins.detail(number)
        pair, alone = detail.pair, plain[number]
        assert "twin" not in alone
        assert all(torch.equal(pair[key], value) for key, value in alone.items())
        first, second = detail.search.frames
        same = detail.search.is_still or first == second
        kinds["same" if same else "other"] += 1
        if same:
            assert torch.equal(pair["twin"], pair["exemplar"])
            continue
        # the middle is the target's, in the colours of its frame: blue, or the grey of that
        blue = 60 * second + 60
        middle = pair["twin"][:, 60:67, 60:67].float().mean((1, 2))
        grey = round(0.114 * blue + 0.587 * 90 + 0.299 * 80)
        is_grey = torch.equal(pair["twin"][0], pair["twin"][2])
        expected = [grey] * 3 if is_grey else [blue, 90, 80]
        assert middle.tolist() == pytest.approx(expected, abs=1.5)
        assert is_grey == torch.equal(pair["search"][0], pair["search"][2])
        # as stretched and turned as the search region
        target = pair["twin"][0].float() > (30 + middle[0]) / 2
        size = [int(target.any(axis).sum()) for axis in (0, 1)]
        assert size == pytest.approx(pair["box"][2:].tolist(), abs=4), number
    assert min(kinds.values()) > 10


def test_a_negative_pair_has_no_other_twin(tracks):
    config = replace(TWINS, negative=1.0)
    pairs = PairDataset(find_sources(tracks, config), config, 20, twin=True)
    for number in range(20):
        assert torch.equal(pairs[number]["twin"], pairs[number]["exemplar"])


def test_the_teacher_is_shown_the_twin(tracks, tmp_path):
    config = DistillConfig(
        teacher=str(tiny_model(tmp_path, seed=5)),
        students=(StudentConfig("dull", (2, 4, 4, 4, 2)),),
        pairs=TWINS,
        sharing=SharingConfig("none"),
        losses=TermsConfig(
            teacher_soft=0.0,
            adaptive_hard=0.0,
            target_response=1.0,
            feature_matching=0.0,
            label=1.0,
        ),
        harder=HarderConfig(twin=True),
        epochs=1,
        pairs_per_epoch=16,
        batch_size=4,
        workers=0,
    )
    task = DistillTask(config, tracks, torch.device("cpu"), torch.float32, "abc")
    batch = default_collate([task.samples[k] for k in range(12)])
    shown, seen, alike = harder(batch, config.harder, 0)
    assert seen is batch and shown["exemplar"] is batch["twin"] and 0 < alike.sum() < 12
    asked = []
    task.teaching = SimpleNamespace(
        answer=lambda network, pairs: asked.append(pairs) or task.family.answer(network, pairs)
    )
    found = task.losses(task.networks, batch)
    assert torch.equal(asked[0]["exemplar"], batch["twin"])
    assert torch.equal(asked[0]["search"], batch["search"])
    student = task.networks["dull"]
    with torch.no_grad():
        z, x = (student.embed(batch[key].float()) for key in ("exemplar", "search"))
        t, y = (task.teacher.embed(batch[key].float()) for key in ("twin", "search"))
        maps = (alike * target_response(z, x, t, y)).mean()
    assert found["dull/target_response"].item() == pytest.approx(float(maps), rel=1e-4)

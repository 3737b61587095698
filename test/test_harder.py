"""What students see harder than their teacher: a turned exemplar, and which terms leave it out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import tiny_model
from torch.utils.data import default_collate
from training_support import PAIRS, write_data

from siamkd_core.distill import DistillTask
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError
from siamkd_core.harder import HarderConfig, angles, harder, turned
from siamkd_core.labels import response_labels
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.target_response import target_response
from siamkd_core.losses.teacher_soft import teacher_soft

NUMBERS = torch.arange(400)


def test_angles_are_a_function_of_seed_and_number():
    config = HarderConfig(turn=60, share=0.5)
    drawn = angles(config, NUMBERS, 3)
    assert torch.equal(angles(config, NUMBERS[100:], 3), drawn[100:])
    assert not torch.equal(angles(config, NUMBERS, 4), drawn)
    some = drawn[drawn != 0]
    assert 160 < len(some) < 240 and some.abs().max() <= 60
    assert some.min() < -45 and some.max() > 45
    assert (angles(replace(config, share=1.0), NUMBERS, 3) != 0).all()
    assert (angles(replace(config, turn=0.0), NUMBERS, 3) == 0).all()


def test_quarter_turns_are_exact_and_no_turn_changes_nothing():
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (4, 3, 11, 11), np.uint8))
    found = turned(pictures, torch.tensor([0.0, 90.0, -90.0, 180.0]))
    assert torch.equal(found[0], pictures[0])
    for picture, now, quarters in zip(pictures[1:], found[1:], (1, -1, 2), strict=True):
        assert torch.equal(now, torch.rot90(picture, quarters, (1, 2)))  # counter-clockwise
    assert turned(pictures, torch.zeros(4)) is pictures


def test_what_lies_beyond_the_border_is_mirrored():
    plain = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(turned(plain, torch.tensor([33.0])), plain)


@pytest.mark.parametrize("wrong", [{"turn": -1.0}, {"turn": 181.0}, {"share": 0.0}, {"share": 1.1}])
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
    seen, alike = harder(batch, HarderConfig(40, 0.5), 0)
    same = [torch.equal(a, b) for a, b in zip(seen["exemplar"], before, strict=True)]
    assert alike.tolist() == [float(one) for one in same] and 0 < sum(same) < 8
    assert torch.equal(batch["exemplar"], before)
    assert seen["search"] is batch["search"] and seen["number"] is batch["number"]
    unchanged, all_alike = harder(batch, HarderConfig(), 0)
    assert unchanged is batch and all_alike.tolist() == [1.0] * 8


def test_the_teacher_sees_the_pair_as_it_is(tmp_path):
    config = DistillConfig(
        teacher=str(tiny_model(tmp_path, seed=5)),
        students=(StudentConfig("dull", (2, 4, 4, 4, 2)),),
        pairs=PAIRS,
        sharing=SharingConfig("none"),
        losses=TermsConfig(
            teacher_soft=1.0, target_response=1.0, feature_matching=1.0, adaptive_hard=0.0
        ),
        harder=HarderConfig(180, 0.5),
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
    seen, alike = harder(batch, config.harder, 2)
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

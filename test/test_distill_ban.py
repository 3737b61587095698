"""A SiamRPN without anchors that learns from another one: features, reused head, positives."""

from dataclasses import replace

import pytest
import torch
import yaml
from siamrpn_support import (
    BETA,
    DULL,
    RECIPES,
    batch_of,
    make,
    outputs,
    recipe,
    settle,
    small,
)
from synthetic import tiny_model
from training_support import write_tracks

from siamkd_core.ban_head import BanHead
from siamkd_core.cli import main
from siamkd_core.distill_config import SharingConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.rpn_soft import rpn_divergence
from siamkd_core.modelfile import build_network, load_model, new_card, read_card, save_model
from siamkd_core.siamrpn import HeadConfig

pytestmark = pytest.mark.usefixtures("without_pictures")
COARSE = StudentConfig(
    "coarse",
    (4, 2, 4, 2, 4, 2, 4, 2, 4, 6),
    "mobilenet_v3_slim",
    head=HeadConfig("ban", 4),
    reuse_head=True,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tracks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config(ban):
    return recipe(ban)


@pytest.fixture(scope="module")
def ban(tmp_path_factory):
    """A teacher without anchors."""
    torch.manual_seed(8)
    widths = (4, 4, 4, 4, 4, 4, 4, 4, 4, 6)
    card = new_card("ban", "siamrpn", widths, "mobilenet_v3", HeadConfig("ban", 4))
    network = settle(build_network(card))
    with torch.no_grad():
        network.head.score.answer.bias.fill_(0.5)
    return save_model(network, card, tmp_path_factory.mktemp("ban"))


def test_a_reused_head_and_what_the_teacher_holds_for_the_targets(config, data, ban):
    terms = TermsConfig(0.0, 1.0, 2.0, 0.2, 0.05, 0.0, feature_matching=0.5, positive="teacher")
    pixelwise = replace(DULL, head=HeadConfig("pixelwise", 4))
    config = replace(
        config,
        students=(COARSE, replace(pixelwise, losses=replace(terms, feature_matching=0.0))),
        losses=terms,
        sharing=SharingConfig("none"),
    )
    task = make(config, data)
    teacher, student = load_model(ban)[0], task.networks["coarse"]
    for name, value in teacher.head.state_dict().items():
        assert torch.equal(student.head.state_dict()[name], value)
    assert not hasattr(student, "adapter")  # the head knows the features as they are
    assert task.cards["coarse"].training == {} and task.origins["coarse"]["head_from"] == "ban"

    batch = batch_of(task)
    task.start_epoch(0)
    losses = task.losses(task.networks, batch)
    with torch.no_grad():
        z, x, taught = outputs(teacher, batch)
        ours_z, ours_x, learnt = outputs(student, batch)
    assert taught.logits.shape == learnt.logits.shape == (4, 1, 9, 9)
    # deltas of squares of 64 pixels, relative to anchors of the target's shape
    w, h = batch["shape"].float().T[:, :, None, None, None]
    sides = torch.stack(torch.broadcast_tensors(w, h, w, h), 1)

    def shaped(found):
        place, size = found.deltas[:, :2] * 64 / sides[:, :2], found.deltas[:, 2:]
        return found._replace(deltas=torch.cat([place, size + (64 / sides[:, 2:]).log()], 1))

    absent = batch["box"].isnan().any(1)
    assert 0 < absent.sum() < 4  # whatever the teacher sees in a pair without a target
    positive = (taught.logits > 0) & ~absent[:, None, None, None]
    assert 0 < positive.float().mean() < (taught.logits > 0).float().mean() < 1
    expected = rpn_divergence(
        shaped(learnt), shaped(taught), positive, 2.0, config.box_weight, BETA
    )
    assert losses["coarse/teacher_soft"].item() == pytest.approx(expected.mean().item(), rel=1e-3)
    matched = (feature_matching(ours_z, z) + feature_matching(ours_x, x)) / 2
    assert losses["coarse/feature_matching"].item() == pytest.approx(
        matched.mean().item(), rel=1e-3
    )
    # a student with anchors of the target's shape is compared on them
    other = outputs(task.networks["dull"], batch)[2]
    expected = rpn_divergence(other, shaped(taught), positive, 2.0, config.box_weight, BETA)
    assert losses["dull/teacher_soft"].item() == pytest.approx(expected.mean().item(), rel=1e-3)
    # what the labels hold for the target is something else
    by_labels = make(
        replace(config, losses=replace(terms, positive="labels"), students=(COARSE,)), data
    )
    by_labels.start_epoch(0)
    different = by_labels.losses(by_labels.networks, batch)["coarse/teacher_soft"].item()
    assert different != pytest.approx(losses["coarse/teacher_soft"].item(), rel=1e-2)


def test_a_head_that_cannot_be_reused_is_named(config, data, ban, tmp_path):
    alone = replace(config, sharing=SharingConfig("none"))
    for wrong in (
        replace(COARSE, head=HeadConfig("ban", 5)),  # wider
        replace(COARSE, widths=(*COARSE.widths[:-1], 5)),
        replace(
            DULL,
            head=HeadConfig("pixelwise", 4),
            reuse_head=True,
            losses=TermsConfig(target_response=0.0),
        ),
    ):
        with pytest.raises(ConfigError, match="cannot reuse the head of its teacher ban: head and"):
            make(replace(alone, students=(wrong,)), data)
    again = save_model(*load_model(ban), tmp_path / "again")
    network, card = load_model(ban)
    with torch.no_grad():
        network.head.score.answer.bias.add_(1)
    changed = save_model(network, replace(card, name="changed"), tmp_path / "changed")
    same = StudentConfig(
        "same",
        card.widths,
        "mobilenet_v3",
        HeadConfig("ban", 4),
        start_from=str(again),
        reuse_head=True,
    )
    task = make(replace(alone, students=(same,)), data)  # the teacher itself, by another path
    assert task.origins["same"]["head_from"] == "ban"
    begun, taught = task.networks["same"].state_dict(), task.teacher.state_dict()
    assert begun.keys() == taught.keys()
    assert all(torch.equal(value, taught[name]) for name, value in begun.items())
    other = replace(same, start_from=str(changed))
    with pytest.raises(ConfigError, match="same has the head of changed, which it starts from"):
        make(replace(alone, students=(other,)), data)
    other = replace(DULL, head=HeadConfig("pixelwise", 4))
    for losses in (TermsConfig(), TermsConfig(target_response=0.0, feature_matching=1.0)):
        with pytest.raises(
            ConfigError, match="of dull have a stride of 8 pixels, its teacher's of 16"
        ):
            make(replace(alone, students=(other,), losses=losses), data)
    siamfc = tiny_model(tmp_path / "siamfc")
    student = StudentConfig("fc", (2, 4, 4, 4, 2), reuse_head=True)
    for start in ("", str(siamfc)):
        student = replace(student, widths=load_model(siamfc)[1].widths, start_from=start)
        with pytest.raises(ConfigError, match="must have a head"):
            make(replace(alone, teacher=str(siamfc), students=(student,)), data)
    with pytest.raises(ConfigError, match="positive is one of labels, teacher"):
        TermsConfig(positive="nobody")


def test_a_narrower_head_is_what_is_left_of_the_teachers(config, data, ban):
    """On the features of the teacher it answers nearly as the teacher does, and better than one of
    the same width that began at random."""
    slim = StudentConfig(
        "slim",
        load_model(ban)[1].widths,
        "mobilenet_v3_slim",
        HeadConfig("ban", 3),
        start_from=str(ban),
        reuse_head=True,
    )
    terms = TermsConfig(adaptive_hard=0.0, target_response=0.0, feature_matching=0.5)
    alone = replace(config, students=(slim,), losses=terms, sharing=SharingConfig("none"))
    task = make(alone, data)
    assert task.origins["slim"]["head_from"] == "ban"
    assert task.origins["slim"]["started_from"]["part"] == "pruned"
    teacher, student = load_model(ban)[0], task.networks["slim"]
    assert student.head.width == 3 and not hasattr(student, "adapter")
    torch.manual_seed(1)
    other = BanHead(6, 3).eval()
    batch = batch_of(task, 8)
    with torch.no_grad():
        z, x = (teacher.embed(batch[key].float()) for key in ("exemplar", "search"))
        expected, found, fresh = (
            one.eval().respond(z, x) for one in (teacher.head, student.head, other)
        )
    lost = [(one - expected).square().mean((0, 2, 3, 4)) for one in (found, fresh)]
    assert (lost[0] < 0.5 * lost[1]).all()
    losses = task.losses(task.networks, batch)
    assert {"slim/feature_matching", "slim/teacher_soft"} <= losses.keys()


@pytest.mark.parametrize("name", ["dstrpn", "dstrpn_large", "dstrpn_full", "dstrpn_sharing"])
def test_the_committed_recipes_as_a_user_runs_them(name, ban, data, tmp_path, capsys):
    """Each with its students, their sharing and their losses, only smaller."""
    values = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    assert values["teacher"] == "models/nanotrack_v3.safetensors"
    assert values["students"][0]["name"] == name
    narrower = {}
    for student in values["students"]:
        assert student["start_from"] == values["teacher"]
        whole = name == "dstrpn_full"
        assert student["backbone"] == "mobilenet_v3" + ("" if whole else "_slim")
        assert student["reuse_head"]
        narrower[student["name"]] = student["head"]["width"] < 96
        inner = [6] * len(student["widths"][10:])  # fewer than the teacher has
        student |= {"widths": [*load_model(ban)[1].widths, *inner], "start_from": str(ban)}
        student["head"] |= {"width": 3 if narrower[student["name"]] else 4}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small(values, teacher=str(ban))))
    call = ["distill", str(path), "--data", str(data), "--device", "cpu"]
    assert main([*call, "--dry-run"]) == 0
    assert main([*call, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    for one, narrow in narrower.items():
        assert f"{one}.safetensors" in said
        made = read_card(tmp_path / "run" / f"{one}.safetensors")
        assert made.head.width == (3 if narrow else 4)
        assert made.training["started_from"].get("part") == (None if whole else "pruned")
        assert made.training["head_from"] == made.training["teacher"]["name"] == "ban"
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    for term, used in {
        "sharing": len(narrower) > 1,
        "feature_matching": len(narrower) == 1,
    }.items():
        assert (f"loss/{name}/{term}" in rows) == used

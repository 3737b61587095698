"""Distillation of a SiamRPN at tiny size: its boxes, its heads, and what the terms are."""

import csv
from dataclasses import replace

import pytest
import torch
from siamrpn_support import (
    BETA,
    CPU,
    DULL,
    INTELLIGENT,
    PAIRS,
    RECIPES,
    batch_of,
    gradients,
    make,
    outputs,
    recipe,
    settle,
)
from synthetic import tiny_model
from torch import nn
from training_support import write_tracks

from siamkd_core.anchors import exemplar_anchors
from siamkd_core.complexity import complexity
from siamkd_core.config import load_yaml
from siamkd_core.distill import distill
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError, ModelFileError
from siamkd_core.evaluate import run_sequence
from siamkd_core.freeze import check_layers
from siamkd_core.learner import Learner
from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.rpn import box_smooth_l1
from siamkd_core.losses.rpn_soft import rpn_divergence
from siamkd_core.losses.target_response import target_response
from siamkd_core.mobilenet import MOBILENET_WIDTHS
from siamkd_core.modelfile import build_network, load_model, new_card, save_model
from siamkd_core.rpn_targets import rpn_targets
from siamkd_core.sequences import read_sequence
from siamkd_core.siamfc import count_parameters
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker import load_tracker
from siamkd_core.tracker_config import RpnTrackerConfig
from siamkd_core.train import TrainConfig, train

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(5)
    card = new_card("teacher", "siamrpn", (4, 8, 8, 8, 6), head=HeadConfig("upchannel", 6))
    return save_model(settle(build_network(card)), card, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def config(teacher):
    return recipe(teacher)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tracks(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("variant", ["directional", "literal"])
def test_each_term_is_its_pure_function_on_the_batch(config, data, variant):
    terms = TermsConfig(0.3, 0.7, 2.0, 0.2, 0.05, 5.0, 0.4)
    sharing = SharingConfig(variant, 0.9)
    config = replace(config, losses=terms, sharing=sharing, box_weight=1.7)
    task = make(config, data)
    networks, batch = task.networks.eval(), batch_of(task, 8)
    drawn = rpn_targets(batch["box"], batch["number"], task.family.anchors)
    some = drawn.positive.flatten(1).any(1)
    assert some.any() and not some.all()  # pairs with and without their target
    with torch.no_grad():
        for network in networks.values():
            settle(network)
        answers = {name: outputs(network, batch) for name, network in networks.items()}
        ours, other = outputs(task.teacher, batch), {"dull": "intelligent", "intelligent": "dull"}

        def hard(found):
            return box_smooth_l1(found[2].deltas, drawn.deltas, drawn.positive, BETA)

        def divergence(found, source):
            return rpn_divergence(found[2], source[2], drawn.positive, 2.0, 1.7, BETA)

        losses, truth = {name: hard(found) for name, found in answers.items()}, hard(ours)
        # between two pairs, not on one: some gates are open and some are shut
        lags = torch.cat([one[some] - truth[some] for one in losses.values()]).abs().sort().values
        margin = float(lags[len(lags) // 2 :][:2].mean())
        task.config = replace(config, losses=replace(terms, margin=margin))
        task.start_epoch(3)
        found = {key: float(value) for key, value in task.losses(networks, batch).items()}
        for name, answer in answers.items():
            adapter = networks[name].adapter
            gate = losses[other[name] if variant == "directional" else name] - truth < margin
            expected = {
                "teacher_soft": divergence(answer, ours).mean(),
                "adaptive_hard": adaptive_hard(losses[name], truth, margin).mean(),
                "target_response": target_response(*answer[:2], *ours[:2]).mean(),
                "feature_matching": (
                    feature_matching(adapter(answer[0]), ours[0])
                    + feature_matching(adapter(answer[1]), ours[1])
                ).mean()
                / 2,
                "sharing": 0.9**3 * (divergence(answer, answers[other[name]]) * gate).mean(),
            }
            for term, value in expected.items():
                shown = found[f"{name}/{term}"]
                assert shown == pytest.approx(float(value), rel=1e-4, abs=1e-6), term
    assert min(found[f"{name}/sharing"] for name in answers) > 1e-4
    assert max(found[f"{name}/adaptive_hard"] for name in answers) > 1e-3


@pytest.mark.parametrize("variant", ["none", "directional", "literal"])
def test_a_students_gradient_is_that_of_its_own_losses(config, data, variant):
    losses = TermsConfig(margin=10.0)  # opens every gate
    task = make(replace(config, sharing=SharingConfig(variant), losses=losses), data)
    batch, networks = batch_of(task), task.networks.train()
    task.losses(networks, batch)["loss"].backward()
    together = {name: gradients(network) for name, network in networks.items()}
    assert all(gradient is not None for one in together.values() for gradient in one)
    assert all(p.grad is None for p in task.teacher.parameters())
    for name, other in (("dull", "intelligent"), ("intelligent", "dull")):
        networks.zero_grad(set_to_none=True)
        task.losses(networks, batch)[name].backward()
        same = all(map(torch.equal, gradients(networks[name]), together[name]))
        untouched = all(gradient is None for gradient in gradients(networks[other]))
        assert (same, untouched) == ((False, False) if variant == "literal" else (True, True))


def test_a_pairs_losses_do_not_depend_on_its_batch(config, data):
    task = make(config, data)
    family, batch = task.family, batch_of(task, 5)
    networks = task.networks.eval()

    def losses(rows):
        one, other, ours = (
            family.answer(network, rows) for network in (*networks.values(), task.teacher)
        )
        return torch.stack(
            [
                family.hard_loss(one, rows),
                family.soft_loss(one, ours, rows, 2.0),
                family.sharing_loss(one, other, rows, 2.0, True),
            ]
        )

    with torch.no_grad():
        together = losses(batch)
        for n in range(5):
            alone = losses({name: value[n : n + 1] for name, value in batch.items()})
            torch.testing.assert_close(alone[:, 0], together[:, n], rtol=1e-3, atol=1e-5)


def test_students_come_closer_to_the_teacher_and_track(config, data, tmp_path):
    config = replace(config, epochs=4, pairs_per_epoch=32, lr=0.01)
    config = replace(config, validation_pairs=4, tracking_every=4, tracking_frames=3)
    paths = distill(config, data, tmp_path, "cpu", "float32", "abc")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    for name in ("dull", "intelligent"):
        first, last = (float(rows[n][f"loss/{name}/teacher_soft"]) for n in (0, -1))
        assert last < 0.8 * first
    for path, student in zip(paths, config.students, strict=True):
        network, card = load_model(path)
        assert (card.architecture, card.backbone) == ("siamrpn", student.backbone)
        assert (card.widths, card.head) == (student.widths, student.head)
        assert card.parameters == sum(p.numel() for p in network.parameters())
        assert card.tracker == RpnTrackerConfig() and card.training["teacher"]["name"] == "teacher"
        done = run_sequence(load_tracker(path, "cpu", "float32"), read_sequence(data / "held"))
        assert (done.boxes[:, 2:] > 0).all()


def test_compiled_losses_are_the_same_in_one_graph(config, data, tmp_path, monkeypatch):
    """Those of strangers too, which change the mode of the head's norms meanwhile."""
    torch.manual_seed(7)
    card = new_card("other", "siamrpn", (4, 8, 8, 8, 6), head=HeadConfig("pixelwise", 6))
    other = save_model(settle(build_network(card)), card, tmp_path)
    student = replace(DULL, head=HeadConfig("pixelwise", 4))
    config = replace(
        config,
        teacher=str(other),
        stranger_weight=0.2,
        students=(student,),
        sharing=SharingConfig("none"),
    )
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m: original(m, backend="eager", fullgraph=True))
    found = []
    for compiled in (False, True):
        told = replace(config, compile=compiled)
        task = make(told, data)
        learner = Learner(told, task, CPU, torch.float32)
        learner.start_epoch(0)
        found.append(learner.step(batch_of(task), 0, 0.01))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_head_that_is_missing_or_too_much_is_named(config, data, tmp_path):
    without = replace(DULL, head=None)
    with pytest.raises(ModelFileError, match=r"dull: a siamrpn needs a head, such as \{kind: dep"):
        make(replace(config, students=(without, INTELLIGENT)), data)
    siamfc = tiny_model(tmp_path / "siamfc")
    student = replace(DULL, backbone="alexnet", widths=(2, 4, 4, 4, 2))
    wrong = replace(config, teacher=str(siamfc), students=(student, INTELLIGENT))
    with pytest.raises(ModelFileError, match="dull: a siamfc has no head: leave head out"):
        make(wrong, data)
    with pytest.raises(ConfigError, match=r"head\.kind must be one of"):
        replace(DULL, head=HeadConfig("sideways"))


def test_anchors_of_the_exemplars_shape_are_taught_by_such_alone(config, data, tmp_path):
    torch.manual_seed(6)
    card = new_card("shaped", "siamrpn", (4, 8, 8, 8, 6), head=HeadConfig("pixelwise", 6))
    teacher = save_model(settle(build_network(card)), card, tmp_path)
    alike = replace(DULL, head=HeadConfig("pixelwise", 4))
    config = replace(config, teacher=str(teacher), students=(alike, INTELLIGENT))
    with pytest.raises(
        ConfigError, match="intelligent has a upchannel head and its teacher shaped"
    ):
        make(config, data)
    other = replace(alike, name="other")
    task = make(replace(config, students=(alike, other), sharing=SharingConfig("literal")), data)
    batch = batch_of(task)
    task.start_epoch(0)
    losses = task.losses(task.networks, batch)
    anchors = exemplar_anchors(batch["shape"], task.family.anchors)
    positive = rpn_targets(batch["box"], batch["number"], anchors).positive
    with torch.no_grad():
        taught = outputs(load_model(teacher)[0].eval(), batch)[2]
        learnt = outputs(task.networks["dull"], batch)[2]
    assert learnt.logits.shape == (4, 1, 9, 9)
    expected = rpn_divergence(learnt, taught, positive, 1.0, config.box_weight, BETA)
    assert losses["dull/teacher_soft"].item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_scores_that_nothing_trains_are_refused(config):
    # the adaptive-hard loss is that of the boxes
    boxes = TermsConfig(teacher_soft=0.0, adaptive_hard=1.0)
    with pytest.raises(ConfigError, match="scores of the head of dull would learn from nothing"):
        replace(config, losses=boxes)


@pytest.mark.parametrize(
    "name", ["dstrpn", "dstrpn_large", "dstrpn_full", "dstrpn_sharing", "dstrpn_resnet18"]
)
def test_the_committed_recipes_are_whole(name):
    path = RECIPES / f"{name}.yaml"
    recipe, text = load_yaml(DistillConfig, path), path.read_text()
    sizes = [
        count_parameters(SiamRPN(one.widths, one.head, one.backbone)) for one in recipe.students
    ]
    assert sizes == sorted(sizes) and all(f"{size:,}" in text for size in sizes)
    assert recipe.pairs.search_size == 239 and recipe.students[0].name == name
    networks = {one.name: SiamRPN(one.widths, one.head, one.backbone) for one in recipe.students}
    check_layers(nn.ModuleDict(networks), recipe.freeze)
    assert all(phase.until_epoch <= recipe.epochs for phase in recipe.freeze)
    if recipe.students[0].backbone.startswith("mobilenet_v3"):
        # those of the published file, which is the teacher
        whole = SiamRPN(MOBILENET_WIDTHS, HeadConfig("ban", 96), "mobilenet_v3").state_dict()
        for one in recipe.students:
            assert one.widths[:10] == MOBILENET_WIDTHS
            assert len(one.widths) == (18 if name == "dstrpn_large" else 10)
            slim = networks[one.name].state_dict()
            assert slim.keys() == whole.keys()
            for key, value in slim.items():
                sides = zip(value.shape, whole[key].shape, strict=True)
                assert all(ours <= theirs for ours, theirs in sides), key


def test_a_resnet_teaches_a_smaller_one_and_an_alexnet(config, data, tmp_path):
    """SiamRPN++, from label to student to tracker."""
    widths = (4, 3, 4, 4, 5, 3)
    plain = TrainConfig(
        name="large",
        architecture="siamrpn",
        backbone="resnet50",
        widths=widths,
        head=HeadConfig("depthwise", 4),
        pairs=PAIRS,
        epochs=1,
        pairs_per_epoch=8,
        batch_size=4,
        lr=0.01,
        workers=0,
    )
    path = train(plain, data, tmp_path / "large", "cpu", "float32", "abc")
    small = StudentConfig("small", (3, 2, 3, 3, 3, 2), "resnet18", HeadConfig("depthwise", 3))
    config = replace(config, teacher=str(path), students=(small, INTELLIGENT), epochs=1)
    config = replace(config, losses=TermsConfig(feature_matching=0.1), pairs_per_epoch=8)
    found = distill(config, data, tmp_path / "students", "cpu", "float32", "abc")
    rows = list(csv.DictReader((tmp_path / "students" / "metrics.csv").open()))
    for name in ("small", "intelligent"):
        for term in ("target_response", "feature_matching", "teacher_soft"):
            assert float(rows[0][f"loss/{name}/{term}"]) > 0
    card = load_model(found[0])[1]
    assert (card.backbone, card.widths, card.head) == (small.backbone, small.widths, small.head)
    done = run_sequence(load_tracker(found[0], "cpu", "float32"), read_sequence(data / "held"))
    assert done.boxes.shape == (5, 4)
    assert complexity(path).multiply_adds > complexity(found[0]).multiply_adds > 0

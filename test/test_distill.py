"""Distillation at tiny size: what each network feels, what each term is, and how a run survives."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from synthetic import moving_boxes, tiny_model, write_sequence
from torch.utils.data import default_collate
from training_support import PAIRS, run_by_two, same_weights, write_data, write_stills

from siamkd_core.checkpoint import RunState, save_checkpoint
from siamkd_core.cli import main
from siamkd_core.cli.run_options import load_recipe
from siamkd_core.config import load_yaml, to_mapping
from siamkd_core.distill import DistillTask, distill
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig, TermsConfig
from siamkd_core.efficientnet import LITE2_WIDTHS
from siamkd_core.errors import ConfigError, ModelFileError, SiamkdError
from siamkd_core.labels import response_labels
from siamkd_core.learner import Learner
from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.logistic import balanced_bce_per_map
from siamkd_core.losses.sharing import knowledge_sharing
from siamkd_core.losses.target_response import target_response
from siamkd_core.losses.teacher_soft import teacher_soft
from siamkd_core.modelfile import ModelCard, find_model, load_model, read_card, save_model
from siamkd_core.pupil import Sample, fresh
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.train import TrainConfig

pytestmark = pytest.mark.usefixtures("without_pictures")
CPU = torch.device("cpu")
RECIPES = Path(__file__).parent.parent / "config" / "distill"
NONE = SharingConfig("none")
DULL = StudentConfig("dull", (2, 4, 4, 4, 2), share=1.0)
INTELLIGENT = StudentConfig("intelligent", (4, 4, 8, 8, 4), share=0.5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("teacher"), seed=5)


@pytest.fixture(scope="module")
def config(teacher):
    return DistillConfig(
        teacher=str(teacher),
        students=(DULL, INTELLIGENT),
        pairs=PAIRS,
        epochs=3,
        pairs_per_epoch=16,
        batch_size=4,
        lr=1e-2,
        lr_end=1e-3,
        checkpoint_every=3,
        workers=0,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def make(config, data, dtype=torch.float32):
    return DistillTask(config, data, CPU, dtype, "abc")


def batch_of(task, count=4):
    return default_collate([task.samples[k] for k in range(count)])


def run(config, data, output, **options):
    return distill(config, data, output, "cpu", "float32", "abc", **options)


def gradients(network):
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def outputs(network, batch):
    z, x = (network.embed(batch[key].float()) for key in ("exemplar", "search"))
    return z, x, network.respond(z, x)


def labels_of(logits, batch):
    return response_labels(logits.shape[-1], 8, 16.0, batch["offset"])


def label_loss(logits, batch):
    labels = labels_of(logits, batch)
    return balanced_bce_per_map(logits, labels)


def test_the_teacher_is_asked_once_a_batch_and_stays_as_it_is(config, data, teacher, monkeypatch):
    task = make(replace(config, ema=0.5), data)
    before, asked = load_model(teacher)[0].state_dict(), []
    original = task.teacher.embed
    monkeypatch.setattr(
        task.teacher,
        "embed",
        lambda images: asked.append(torch.is_grad_enabled()) or original(images),
    )
    learner = Learner(config, task, CPU, torch.float32)
    ours = {id(p) for p in task.teacher.parameters()}
    assert not ours & {id(p) for p in learner.networks.parameters()}
    for step in range(3):
        learner.start_epoch(step)
        learner.step(batch_of(task), step, 0.1)
    # exemplar and search region, in each of three steps
    assert asked == [False] * 6
    assert not any(module.training for module in task.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    after = task.teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("variant", ["none", "directional", "literal"])
def test_a_students_gradient_is_that_of_its_own_losses(config, data, variant):
    # the wide margin opens every gate
    losses = TermsConfig(margin=10.0, label=0.2)
    task = make(replace(config, sharing=SharingConfig(variant), losses=losses), data)
    batch = batch_of(task)
    networks = task.networks.train()
    task.losses(networks, batch)["loss"].backward()
    together = {name: gradients(network) for name, network in networks.items()}
    for name, other in (("dull", "intelligent"), ("intelligent", "dull")):
        networks.zero_grad(set_to_none=True)
        task.losses(networks, batch)[name].backward()
        alone, elsewhere = gradients(networks[name]), gradients(networks[other])
        same = all(map(torch.equal, alone, together[name]))
        untouched = all(gradient is None for gradient in elsewhere)
        assert (same, untouched) == ((False, False) if variant == "literal" else (True, True))


def test_a_student_does_not_depend_on_its_neighbours_without_sharing(config, data, tmp_path):
    config = replace(config, sharing=NONE, epochs=1)
    both = run(config, data, tmp_path / "both")
    (alone,) = run(replace(config, students=(DULL,)), data, tmp_path / "alone")
    shared = run(replace(config, sharing=SharingConfig()), data, tmp_path / "shared")
    assert same_weights(both[0], alone)
    assert not same_weights(shared[0], alone)


def test_the_teacher_may_compute_in_another_precision(config, data):
    task = make(replace(config, teacher_precision="bfloat16"), data)
    assert task.origins["dull"]["teacher"]["precision"] == "bfloat16"
    batch, seen = batch_of(task), []
    networks = [task.teacher, *task.networks.values()]
    for network in networks:
        network.backbone.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    task.losses(task.networks, batch)
    # exemplar and search region of each
    assert seen == [torch.bfloat16] * 2 + [torch.float32] * 4
    with pytest.raises(ConfigError, match="unknown precision 'half'"):
        make(replace(config, teacher_precision="half"), data)


def test_students_with_their_own_losses_learn_as_in_runs_of_their_own(config, data, tmp_path):
    soft = TermsConfig(adaptive_hard=0.0, target_response=0.0, temperature=2.0)
    features = TermsConfig(1.0, 0.0, 1.0, 0.0, 0.005, 0.0, feature_matching=0.1)
    config = replace(config, sharing=NONE, epochs=1)
    several = (
        DULL,
        replace(DULL, name="soft", losses=soft),
        replace(DULL, name="features", losses=features),
    )
    together = run(replace(config, students=several), data, tmp_path / "together")
    for path, losses in zip(together, (config.losses, soft, features), strict=True):
        told = replace(config, students=(replace(DULL, name=path.stem),), losses=losses)
        (alone,) = run(told, data, tmp_path / path.stem)
        assert same_weights(path, alone)
    assert not same_weights(together[0], together[1])


def test_a_student_learns_from_those_it_names(config, data):
    config = replace(config, losses=TermsConfig(margin=10.0))  # every gate is open
    third = replace(DULL, name="third", share=0.0)
    named = replace(DULL, learns_from=("intelligent",))
    task = make(replace(config, students=(named, INTELLIGENT, third)), data)
    batch = batch_of(task)
    networks = task.networks.train()
    found = {name: float(value.detach()) for name, value in task.losses(networks, batch).items()}
    _, _, ours = outputs(networks["dull"], batch)
    _, _, theirs = outputs(networks["intelligent"], batch)
    positive = labels_of(ours, batch) > 0
    expected = knowledge_sharing(ours, theirs, positive).mean()
    # fresh networks hardly differ: float32 leaves three digits of so small a divergence
    assert found["dull/sharing"] == pytest.approx(float(expected.detach()), rel=1e-3)
    # from both others, the mean
    _, _, others = outputs(networks["third"], batch)
    both = [
        float(knowledge_sharing(theirs, one, positive).mean().detach()) for one in (ours, others)
    ]
    assert found["intelligent/sharing"] == pytest.approx(sum(both) / 2, rel=1e-3)
    assert "third/sharing" not in found


@pytest.mark.parametrize("variant", ["directional", "literal"])
def test_each_term_is_its_pure_function_on_the_batch(config, data, variant):
    terms = TermsConfig(0.3, 0.7, 2.0, 0.2, 0.05, 5.0, 0.4)
    config = replace(
        config, losses=terms, sharing=SharingConfig(variant, 0.9), stranger_weight=0.25
    )
    config = replace(config, pairs=replace(PAIRS, negative=0.4))
    task = make(config, data)
    networks = task.networks.eval()
    batch = batch_of(task, 6)
    with torch.no_grad():
        for network in (*networks.values(), task.teacher):
            # logits near 1: those of hundreds, that fresh weights give, are all equally certain
            z, x, logits = outputs(network, batch)
            network.backbone[-1].weight.div_(logits.std().sqrt())
        answers = {name: outputs(network, batch) for name, network in networks.items()}
        ours, other = outputs(task.teacher, batch), {"dull": "intelligent", "intelligent": "dull"}
        hard = {name: label_loss(found[2], batch) for name, found in answers.items()}
        truth = label_loss(ours[2], batch)
        positive = labels_of(ours[2], batch) > 0
        # between two samples, not on one: the gate is open for half of the dull student's
        margin = float((hard["dull"] - truth).sort().values[2:4].mean())
        terms = replace(terms, margin=margin)
        task.config = replace(config, losses=terms)
        task.start_epoch(3)
        found = {key: float(value) for key, value in task.losses(networks, batch).items()}
        near = {name: hard[name] - truth < margin for name in hard}
        assert near["dull"].sum() == 3 and not torch.equal(near["dull"], near["intelligent"])
        expected = {}
        for name, (z, x, logits) in answers.items():
            adapter = networks[name].adapter
            strange = networks[name].respond(z.roll(1, 0), x)
            differ = batch["identity"][:, 1] != batch["identity"][:, 0].roll(1)
            gate = near[other[name] if variant == "directional" else name]
            assert len(differ) > 0 and differ.any()
            values = {
                "label": hard[name].mean(),
                "teacher_soft": teacher_soft(logits, ours[2], positive, 2.0).mean(),
                "adaptive_hard": adaptive_hard(hard[name], truth, margin).mean(),
                "target_response": target_response(z, x, *ours[:2]).mean(),
                "feature_matching": (
                    feature_matching(adapter(z), ours[0]) + feature_matching(adapter(x), ours[1])
                ).mean()
                / 2,
                "stranger": balanced_bce_per_map(strange, torch.zeros_like(strange))[differ].mean(),
                "sharing": 0.9**3
                * (knowledge_sharing(logits, answers[other[name]][2], positive, 2.0) * gate).mean(),
            }
            weights = dict(zip(values, (0.3, 0.7, 0.2, 5.0, 0.4, 0.25), strict=False))
            weights["sharing"] = {"dull": 1.0, "intelligent": 0.5}[name]
            expected[name] = sum(float(weights[key] * value) for key, value in values.items())
            expected |= {f"{name}/{key}": float(value) for key, value in values.items()}
    expected["loss"] = expected["dull"] + expected["intelligent"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    # far above the tolerance, whoever is judged
    assert min(found[f"{name}/sharing"] for name in answers) > 1e-3
    assert max(found[f"{name}/adaptive_hard"] for name in answers) > 1e-3


def test_a_term_without_weight_is_not_there(config, data):
    terms = TermsConfig(teacher_soft=1.0, adaptive_hard=0.0, target_response=0.0)
    task = make(replace(config, losses=terms, sharing=NONE), data)
    names = set(task.losses(task.networks, batch_of(task)))
    assert names == {"loss"} | {f"{s}{t}" for s in task.cards for t in ("", "/teacher_soft")}


def test_a_broken_run_ends_as_an_unbroken_one(config, data, tmp_path, monkeypatch):
    config = replace(config, losses=TermsConfig(margin=0.5), sharing=SharingConfig(decay=0.4))
    whole = run(config, data, tmp_path / "whole")
    original, steps = DistillTask.losses, iter(range(99))

    def breaks(self, networks, batch):
        if next(steps) == 8:
            raise RuntimeError("power cut")
        return original(self, networks, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DistillTask, "losses", breaks)
        with pytest.raises(RuntimeError, match="power cut"):
            run(config, data, tmp_path / "broken")
    # goes on at the checkpoint of step 8, the first of the third epoch
    resumed = run(config, data, tmp_path / "broken")
    assert all(map(same_weights, whole, resumed))
    other = replace(config, sharing=SharingConfig(decay=0.9))
    assert not same_weights(whole[0], run(other, data, tmp_path / "other")[0])
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open()))
    assert float(rows[0]["loss/dull/sharing"]) > 0


def test_compiled_losses_are_the_same_in_one_graph(config, data, monkeypatch):
    original = torch.compile
    # a break of the graph is an error; the generated code is PyTorch's to test
    monkeypatch.setattr(torch, "compile", lambda m: original(m, backend="eager", fullgraph=True))
    found = []
    for compiled in (False, True):
        told = replace(config, compile=compiled, losses=TermsConfig(margin=10.0))
        task = make(told, data)
        learner = Learner(told, task, CPU, torch.float32)
        for epoch in range(2):  # the strength of the sharing is another
            learner.start_epoch(epoch)
            found.append(learner.step(batch_of(task), epoch, 0.01))
    for plain, same in zip(found[:2], found[2:], strict=True):
        assert same == pytest.approx(plain, rel=1e-4)


def test_two_processes_are_one(config, data, tmp_path):
    # weights that keep the run from amplifying rounding
    terms = TermsConfig(margin=0.5, target_response=1.0, feature_matching=1e-4)
    config = replace(config, losses=terms, pairs_per_epoch=8)
    config = replace(config, stranger_weight=0.3, validation_pairs=4)
    one, two = tmp_path / "one", tmp_path / "two"
    printed = run_by_two("distill", config, data, two, tmp_path / "recipe.yaml")
    assert [printed.count(f"{name}.safetensors\n") for name in ("dull", "intelligent")] == [1, 1]
    run(config, data, one)
    ours, theirs = (list(csv.DictReader((f / "metrics.csv").open())) for f in (one, two))
    assert len(ours) == 3
    names = [name for name in ours[0] if name.startswith("loss/")]
    assert {"loss/dull/sharing", "loss/intelligent/held_out"} <= set(names)
    for row, other in zip(ours, theirs, strict=True):
        for name in names:
            assert float(other[name]) == pytest.approx(float(row[name]), rel=1e-3), name


def test_the_adapter_of_feature_matching_learns_and_stays_behind(config, data, tmp_path):
    terms = TermsConfig(0.0, 0.0, 1.0, 0.0, 0.005, 0.0, feature_matching=1.0)
    config = replace(config, losses=terms, students=(DULL,), sharing=NONE, epochs=1)
    config = replace(config, tracking_every=1, tracking_frames=3)
    fresh = make(config, data).networks["dull"].adapter
    assert tuple(fresh.weight.shape) == (4, 2, 1, 1)
    (path,) = run(config, data, tmp_path)
    network, card = load_model(path)
    assert not hasattr(network, "adapter")
    assert card.parameters == count_parameters(SiamFC(DULL.widths)) == count_parameters(network)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["learner"]["networks"]
    assert not torch.equal(kept["dull.adapter.weight"], fresh.weight)
    assert not hasattr(
        make(replace(config, losses=TermsConfig()), data).networks["dull"], "adapter"
    )


def test_the_student_comes_closer_to_the_teacher(config, data, tmp_path):
    config = replace(config, epochs=4, pairs_per_epoch=32, lr=0.3, lr_end=0.3)
    terms = TermsConfig(adaptive_hard=0.0, target_response=1.0)
    run(replace(config, losses=terms), data, tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    for name in ("dull", "intelligent"):
        first, last = (float(rows[n][f"loss/{name}/teacher_soft"]) for n in (0, -1))
        assert last < 0.8 * first


def test_the_card_says_who_taught_what(config, data, tmp_path, teacher):
    config = replace(config, epochs=1, data="grey noise", seed=3)
    config = replace(config, losses=TermsConfig(target_response=0.25))
    for path, student in zip(run(config, data, tmp_path), config.students, strict=True):
        card = load_model(path)[1]
        taught = read_card(teacher)
        assert (card.name, card.architecture, card.widths) == (
            student.name,
            "siamfc",
            student.widths,
        )
        training = card.training
        assert training["teacher"] == {
            "name": "tiny",
            "sha256": taught.sha256,
            "parameters": taught.parameters,
            "precision": "float32",
        }
        assert (training["commit"], training["data"]) == ("abc", "grey noise")
        assert training["recipe"]["seed"] == 3
        assert training["recipe"]["losses"]["target_response"] == 0.25
        assert training["recipe"]["teacher_sha256"] == taught.sha256


def test_a_run_goes_on_with_its_own_teacher_only(config, data, tmp_path):
    path = tiny_model(tmp_path / "models", seed=1)
    config = replace(config, teacher=str(path), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        run(config, data, tmp_path / "run", stop=iter([False, True]).__next__)
    recipe = load_yaml(DistillConfig, tmp_path / "run" / "config.yaml")
    tiny_model(tmp_path / "models", seed=2)
    with pytest.raises(SiamkdError, match="changed: teacher_sha256"):
        run(config, data, tmp_path / "run")
    with pytest.raises(ConfigError, match="bring that file back"):
        run(recipe, data, tmp_path / "run")


def test_a_run_goes_on_from_the_model_it_began_as_only(config, data, tmp_path):
    path = tiny_model(tmp_path / "models", seed=1)
    student = replace(config.students[0], widths=load_model(path)[1].widths, start_from=str(path))
    config = replace(config, students=(student,), sharing=SharingConfig("none"), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        run(config, data, tmp_path / "run", stop=iter([False, True]).__next__)
    tiny_model(tmp_path / "models", seed=2)
    with pytest.raises(SiamkdError, match=rf"another start of {student.name}: "):
        run(config, data, tmp_path / "run")
    tiny_model(tmp_path / "models", seed=1)
    (model,) = run(config, data, tmp_path / "run")
    started = load_model(model)[1].training["started_from"]
    assert started["sha256"] == load_model(path)[1].sha256


def test_the_folder_of_a_training_is_no_place_for_a_distillation(config, data, tmp_path):
    plain = TrainConfig(widths=(2, 4, 4, 4, 2), pairs=PAIRS)
    learner = {"networks": {"siamfc.weight": torch.ones(1)}}
    save_checkpoint(tmp_path, plain, {}, RunState(step=1), learner)
    with pytest.raises(SiamkdError, match=r"run of another kind .*choose another --output"):
        run(config, data, tmp_path)


@pytest.mark.parametrize(
    "change, says",
    [
        ("epoks: 3", "unknown key 'epoks'"),
        ("losses: {teacher_hard: 1}", "unknown key .*teacher_hard"),
        ("losses: {teacher_soft: -1}", "no weight may be negative"),
        ("losses: {teacher_soft: 0, adaptive_hard: 0, target_response: 0}", "one must be above 0"),
        ("losses: {temperature: 0}", "temperature must be above 0"),
        ("sharing: {variant: both}", "variant is one of directional, literal, none"),
        ("sharing: {decay: 1.1}", "decay must lie"),
        ("teacher: ''", "needs a teacher"),
        ("students: []", "at least one of students"),
        ("students: [{name: a, widths: [2, 4, 4, 4, 2]}]", "sharing needs two students"),
        ("students: [{name: a, widths: [2]}, {name: a, widths: [2]}]", "different names, got a, a"),
        ("students: [{name: a.b, widths: [2]}]", "without a dot"),
        ("students: [{name: loss, widths: [2]}]", "cannot be called loss"),
        ("momentum: 1", r"momentum must lie in 0\.\.1"),
        ("weight_decay: -1", "weight_decay must not be negative"),
        ("label_radius: -1", "label_radius must not be negative"),
        ("{pairs: {holdout: []}, validation_pairs: 2}", r"name some in pairs\.holdout"),
        ("students: [{name: half, widths: [2]}]", "'half' is taken, .* such as my_half"),
        ("students: [{name: environment, widths: [2]}]", "'environment' is taken"),
        ("students: [{name: a, widths: [2], share: -1}]", "share of a"),
        (
            "students: [{name: a, widths: [2], learns_from: [b, a]}, {name: c, widths: [2]}]",
            "a cannot learn from a, b: learns_from names other students",
        ),
        ("students: [{name: a, widths: [2], losses: {temperature: 0}}]", "temperature must be"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(config, tmp_path, change, says):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_mapping(config) | yaml.safe_load(change)))
    with pytest.raises(ConfigError, match=says) as caught:
        load_yaml(DistillConfig, path)
    assert "recipe.yaml" in str(caught.value)


def test_a_response_that_nothing_trains_is_refused(config):
    # of an AlexNet the response has no weights of its own
    features = TermsConfig(0.0, 0.0, 1.0, 0.0, 0.005, 1.0)
    replace(config, losses=features)
    other = replace(INTELLIGENT, widths=(4, 2, 4, 4, 6), backbone="efficientnet")
    with pytest.raises(ConfigError, match="response of intelligent would learn from nothing"):
        replace(config, losses=features, students=(DULL, other))


def test_teachers_and_students_that_do_not_fit_are_refused(config, data, tmp_path, teacher):
    with pytest.raises(ModelFileError, match="no model 'nobody'"):
        run(replace(config, teacher="nobody"), data, tmp_path)
    odd = replace(DULL, widths=(3, 4, 4, 4, 2))
    with pytest.raises(ModelFileError, match=r"dull: .*even widths"):
        run(replace(config, students=(odd, INTELLIGENT)), data, tmp_path)
    other = replace(DULL, start_from=str(teacher))
    with pytest.raises(ConfigError, match=r"widths \(4, 8, 8, 8, 4\), the recipe the"):
        run(replace(config, students=(other, INTELLIGENT)), data, tmp_path)
    card = json.loads(teacher.with_suffix(".json").read_text())
    alien = tmp_path / "alien.safetensors"
    alien.write_bytes(teacher.read_bytes())
    alien.with_suffix(".json").write_text(json.dumps(card | {"architecture": "alexnet"}))
    with pytest.raises(SiamkdError, match="architecture 'alexnet'"):
        run(replace(config, teacher=str(alien)), data, tmp_path)


def test_the_recipes_of_the_repository_are_read():
    found = {
        name: load_recipe(RECIPES / f"{name}.yaml")
        for name in ("dstfc", "dstfc_sharing", "dstfc_alexnet", "smoke")
    }
    for name, recipe in found.items():
        assert isinstance(recipe, DistillConfig)
        assert read_card(find_model(recipe.teacher)).name == recipe.teacher
        student = recipe.students[0]
        pruned = student.backbone == "efficientnet_slim"
        count = count_parameters(SiamFC(student.widths, student.backbone))
        assert count == (174_289 if pruned else 174_754)
        assert student.name == {"smoke": "mine"}.get(name, name)
    start = found["smoke"].students[0].start_from
    assert read_card(find_model(start)).widths == found["smoke"].students[0].widths
    plain = RECIPES.parent / "train" / "siamfc.yaml"
    assert load_recipe(plain) == load_yaml(TrainConfig, plain)


@pytest.mark.parametrize(
    "number, start, parameters", [(0, "dstrpn", 134_058), (1, "dstrpn_large", 213_610)]
)
def test_a_committed_recipe_starts_from_shipped_backbones(number, start, parameters):
    recipe = load_recipe(RECIPES / "dstfc_mobile.yaml")
    assert isinstance(recipe, DistillConfig)
    student = recipe.students[number]
    crops = Sample(torch.rand(2, 3, 127, 127) * 255, torch.rand(2, 3, 239, 239) * 255)
    pupil = fresh(
        student.name,
        "siamfc",
        student.widths,
        0,
        student.start_from,
        student.backbone,
        fitted_on=lambda: crops,
    )
    assert pupil.card.parameters == parameters
    assert pupil.origin["started_from"]["name"] == start
    teacher = SiamFC((*LITE2_WIDTHS, 96), "efficientnet_lite2")
    assert 13 * parameters < count_parameters(teacher)
    frozen = {layer for rule in recipe.freeze for layer in rule.layers}
    assert frozen <= {name for name, _ in pupil.network.named_modules()}


def test_the_recipe_of_the_small_one_goes_on_from_that_of_the_wide_one():
    wide, slim = (load_recipe(RECIPES / f"dstfc_{name}.yaml") for name in ("mobile", "mid"))
    assert isinstance(wide, DistillConfig) and isinstance(slim, DistillConfig)
    before, after = wide.students[1], slim.students[0]
    assert Path(after.start_from).stem == before.name
    networks = [SiamFC(one.widths, one.backbone) for one in (before, after)]
    count = count_parameters(networks[1])
    assert count == 171_818 < 175_000
    assert 13 * count < count_parameters(SiamFC((*LITE2_WIDTHS, 96), "efficientnet_lite2"))
    # one folder of shards serves both, and seeds of either can be averaged
    assert (wide.pairs, wide.start_seed) == (slim.pairs, slim.start_seed) and slim.start_seed
    frozen = {layer for rule in slim.freeze for layer in rule.layers}
    assert frozen <= {name for name, _ in networks[1].named_modules()}


def test_a_few_images_of_ones_own_become_a_tracker(tmp_path, teacher, capsys):
    """The smoke recipe as a user runs it, only smaller; and its model in the other verbs."""
    write_stills(tmp_path / "data" / "mine", count=6)
    tracks = tmp_path / "tracks"
    write_sequence(tracks / "one", moving_boxes(5))
    write_sequence(tracks / "two", moving_boxes(5, step=-1, side=18))
    values = yaml.safe_load((RECIPES / "smoke.yaml").read_text())
    (student,) = values["students"]
    # of any widths, so from random weights
    student |= {"widths": [4, 2, 4, 4, 4, 2], "start_from": ""}
    values |= {"teacher": str(teacher), "epochs": 2, "pairs_per_epoch": 8, "batch_size": 4}
    values["workers"] = 0
    recipe = tmp_path / "smoke.yaml"
    recipe.write_text(yaml.safe_dump(values))
    command = ["distill", str(recipe), "--data", str(tmp_path / "data"), "--device", "cpu"]
    assert main([*command, "--dry-run"]) == 0
    assert main([*command, "--output", str(tmp_path / "run")]) == 0
    model = tmp_path / "run" / "mine.safetensors"
    assert f"{model}\nnext: siamkd calibrate {model}" in capsys.readouterr().out
    evaluation = ["evaluate", str(tracks), "--model", str(model), "--output", str(tmp_path / "e")]
    assert main([*evaluation, "--device", "cpu", "--record", "here"]) == 0
    assert main(["tune", str(model), str(tracks), "--trials", "1", "--device", "cpu"]) == 0
    code = main(["calibrate", str(model), str(tracks), "--draws", "10", "--device", "cpu"])
    # a model of eight steps may well find a target that is not there
    assert code == 0 or "not trained" in capsys.readouterr().err
    card = read_card(model)
    assert np.isfinite(card.measured["here"]["auc"]) and card.training["teacher"]["name"] == "tiny"


def test_a_teacher_of_another_backbone_teaches(config, data, tmp_path):
    # stem, five stages, neck: features of two strides, twice the neck's channels
    widths = (4, 2, 4, 4, 4, 6, 3)
    torch.manual_seed(0)
    network = SiamFC(widths, "efficientnet")
    card = ModelCard("net", "siamfc", widths, count_parameters(network), "efficientnet")
    path = save_model(network, card, tmp_path)
    losses = TermsConfig(feature_matching=0.1)
    other = replace(INTELLIGENT, widths=(4, 2, 4, 4, 6), backbone="efficientnet")
    task = make(replace(config, teacher=str(path), students=(DULL, other), losses=losses), data)
    assert {n: tuple(m.adapter.weight.shape[:2]) for n, m in task.networks.items()} == {
        "dull": (6, 2),
        "intelligent": (6, 6),
    }
    assert all(module.training for module in task.networks.modules())
    assert not any(module.training for module in task.teacher.modules())
    found = task.losses(task.networks, batch_of(task))
    assert all(torch.isfinite(value) for value in found.values())
    found["loss"].backward()
    assert all(p.grad is not None for p in task.networks.parameters())
    uneven = replace(config, pairs=replace(PAIRS, search_size=160))
    says = r"efficientnet, .*set pairs\.search_size to 167, not 160"
    with pytest.raises(ConfigError, match=f"^net has .*{says}"):
        make(replace(uneven, teacher=str(path)), data)
    with pytest.raises(ConfigError, match=f"^intelligent has .*{says}"):
        make(replace(uneven, students=(DULL, other)), data)


def test_a_student_may_start_from_an_image_classifier(config, data, tmp_path, monkeypatch):
    from test_efficientnet import classifier

    from siamkd_core import pretrained

    monkeypatch.setattr(pretrained, "_find", lambda _: tmp_path / "lite0.pth")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    tensors = classifier()
    torch.save(tensors, tmp_path / "lite0.pth")
    student = StudentConfig("thin", (32, 16, 24, 40, 8), "efficientnet", pretrained=True)
    alone = replace(config, students=(student,), sharing=SharingConfig("none"))
    task = make(alone, data)
    stem = task.networks["thin"].backbone.stem[0].weight
    assert torch.equal(stem.cpu(), tensors["_conv_stem.weight"].flip(1))
    assert set(task.origins["thin"]) == {"teacher", "pretrained"}
    with pytest.raises(ConfigError, match="choose one"):
        replace(student, start_from="siamfc")

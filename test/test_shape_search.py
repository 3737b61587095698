"""The search for a student's shape: policy, rewards, resume, and the command."""

import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_support import PAIRS, write_data

from siamkd_core.cli import main
from siamkd_core.config import load_yaml, to_mapping
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig
from siamkd_core.efficientnet import EfficientNet
from siamkd_core.errors import ConfigError, ShapeError
from siamkd_core.freeze import FreezeConfig
from siamkd_core.modelfile import ModelCard, load_model, save_model
from siamkd_core.shape_policy import ShapePolicy, policy_loss
from siamkd_core.shape_search import (
    Shape,
    ShapeSearchConfig,
    limited,
    reward,
    search,
    shape_of,
    the_student,
    with_shape,
)
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import HeadConfig

ROOT = Path(__file__).parents[1]
STUDENT = StudentConfig("small", (8, 16, 16, 16, 8))
CONFIG = ShapeSearchConfig(
    "here.yaml", (0, 1, 3), ratios=(0.25, 0.5, 1.0), updates=6, rollouts=2, hidden=8
)


def recipe_of(student=STUDENT, **changes):
    values = {"teacher": "siamfc", "students": (student,), "sharing": SharingConfig("none")}
    return DistillConfig(**{**values, **changes})


class Judge:
    """Accuracy and size as functions of the widths; counts what it is asked."""

    def __init__(self, accuracy=lambda widths: 0.5):
        self.asked = []
        self._accuracy = accuracy

    def parameters(self, student):
        return 10 * sum(student.widths)

    def accuracy(self, student):
        self.asked.append(student.widths)
        return self._accuracy(student.widths)


def run(folder, judge, config=CONFIG, teacher=(1000, 0.8)):
    return list(search(config, recipe_of(), teacher, judge, folder))


def test_the_probability_is_that_of_all_choices_one_after_the_other():
    torch.manual_seed(0)
    ratios, widths = (0.2, 0.5, 1.0), (32, 64, 8, 128)
    policy = ShapePolicy(widths, ratios, hidden=5)
    proposal = policy.propose(torch.Generator().manual_seed(4))
    # the same network, given all choices at once
    before = (1.0, *(ratios[choice] for choice in proposal.choices[:-1]))
    rows = [
        [n / 3, np.log2(w) / 10, r] for n, (w, r) in enumerate(zip(widths, before, strict=True))
    ]
    with torch.no_grad():
        scores = policy.scores(policy.layers(torch.tensor(rows, dtype=torch.float32))[0]).double()
    chances = scores.exp() / scores.exp().sum(1, keepdim=True)
    wanted = sum(float(chances[n, c].log()) for n, c in enumerate(proposal.choices))
    assert proposal.log_probability.item() == pytest.approx(wanted, abs=1e-5)
    assert {policy.propose(torch.Generator().manual_seed(4)).choices for _ in range(3)} == {
        proposal.choices
    }


def test_every_choice_comes_as_often_as_its_probability_says():
    torch.manual_seed(1)
    policy = ShapePolicy((16,), (0.3, 0.6, 1.0), hidden=4)
    generator = torch.Generator().manual_seed(0)
    drawn = [policy.propose(generator) for _ in range(1500)]
    for choice in range(3):
        those = [one for one in drawn if one.choices == (choice,)]
        chance = those[0].log_probability.exp().item()
        assert len(those) / 1500 == pytest.approx(chance, abs=0.045)


def test_the_gradient_of_the_loss_is_reinforces():
    logs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    loss = policy_loss([0.9, 0.1, 0.4], 0.3, logs)
    assert loss.item() == pytest.approx(-(0.6 * -1 - 0.2 * -2 + 0.1 * -0.5) / 3)
    loss.backward()
    assert logs.grad.tolist() == pytest.approx([-0.2, 0.2 / 3, -0.1 / 3])


def test_rewards():
    # C = 3/4: 3/4 * 5/4 = 15/16
    assert reward(250, 0.6, (1000, 0.8)) == pytest.approx(15 / 16 * 0.75)
    assert reward(1000, 0.8, (1000, 0.8)) == 0
    # at the same accuracy the smaller one, but ever less
    gains = np.diff([reward(size, 0.7, (1000, 0.8)) for size in (800, 600, 400, 200)])
    assert (gains > 0).all() and (np.diff(gains) < 0).all()
    assert limited(0.7, False, 99, 15) == 0.7
    assert [limited(0.7, True, update, 15) for update in (0, 15, 40)] == [0.7, -1, -1]
    assert limited(0.7, True, 5, 10) == pytest.approx(1 / 16 - 1 + 0.7 / 16)


def test_shapes_are_shares_of_the_full_widths():
    assert shape_of(CONFIG, STUDENT, (0, 1, 2)) == Shape((2, 8, 16, 16, 8), 0)
    tiny = replace(CONFIG, ratios=(0.01,), searched=(4,), head=True)
    student = replace(STUDENT, head=HeadConfig("depthwise", 40))
    assert shape_of(tiny, student, (0, 0)) == Shape((8, 16, 16, 16, 1), 1)
    found = with_shape(student, Shape((1, 2, 3, 4, 5), 6))
    assert found == replace(student, widths=(1, 2, 3, 4, 5), head=HeadConfig("depthwise", 6))


def test_the_policy_learns_what_pays(tmp_path):
    """One width is worth nothing, the other everything: the policy must tell them apart."""
    judge = Judge(lambda widths: 0.8 if widths[1] == 16 else 0.2)
    config = replace(CONFIG, searched=(0, 1), updates=80, rollouts=3, hidden=30)
    steps = run(tmp_path, judge, config)
    means = [np.mean(step.rewards) for step in steps]
    assert np.mean(means[-15:]) > np.mean(means[:15]) + 0.05
    late = [child.shape.widths for step in steps[-15:] for child in step.children]
    assert np.mean([widths[1] == 16 for widths in late]) > 0.8
    assert steps[-1].best.shape.widths == (2, 16, 16, 16, 8)
    # 9 shapes, 240 proposals: none was judged twice
    assert len(judge.asked) == len(set(judge.asked)) <= 9


def test_a_search_goes_on_where_it_was_interrupted(tmp_path):
    whole, first, second = Judge(), Judge(), Judge()
    steps = run(tmp_path / "whole", whole)
    list(islice(search(CONFIG, recipe_of(), (1000, 0.8), first, tmp_path / "parts"), 3))
    again = run(tmp_path / "parts", second)
    assert again == steps
    assert first.asked and second.asked and first.asked + second.asked == whole.asked
    assert run(tmp_path / "parts", Judge(lambda _: 1 / 0)) == steps
    # it goes on behind its end, too
    longer = run(tmp_path / "parts", Judge(), replace(CONFIG, updates=8))
    assert longer[:6] == steps and len(longer) == 8


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_it_may_be_interrupted_within_an_update(tmp_path, after):
    class Stopped(Judge):
        def accuracy(self, student):
            if len(self.asked) == after:
                raise KeyboardInterrupt
            return super().accuracy(student)

    whole, first, second = Judge(), Stopped(), Judge()
    steps = run(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", first)
    assert run(tmp_path / "parts", second) == steps
    assert first.asked + second.asked == whole.asked


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    run(tmp_path, Judge())
    kept = (tmp_path / "children.jsonl").read_text()
    with pytest.raises(ConfigError, match="search with other settings"):
        run(tmp_path, Judge(), replace(CONFIG, seed=1))
    for recipe, teacher, facts in (
        (recipe_of(lr=0.5), (1000, 0.8), {}),
        (recipe_of(), (1000, 0.7), {}),
        (recipe_of(), (1000, 0.8), {"precision": "bfloat16"}),
    ):
        with pytest.raises(ConfigError, match="search with other settings"):
            list(search(CONFIG, recipe, teacher, Judge(), tmp_path, facts))
    assert run(tmp_path, Judge()) == list(
        search(CONFIG, recipe_of(workers=7), (1000, 0.8), Judge(), tmp_path)
    )
    assert (tmp_path / "children.jsonl").read_text() == kept


def test_what_is_too_large_is_no_best_and_costs_no_time_in_the_end(tmp_path):
    config = replace(CONFIG, max_parameters=450, relax=3, updates=12, rollouts=3)
    steps = run(tmp_path, Judge(), config)
    for step in steps:
        for child, value in zip(step.children, step.rewards, strict=True):
            over = child.parameters > 450
            if over and step.number > 3:
                assert value == -1
            assert over or value == reward(child.parameters, 0.5, (1000, 0.8))
    best = steps[-1].best
    assert best is not None and best.parameters <= 450
    # a limit that nothing keeps to
    judge = Judge()
    steps = run(tmp_path / "none", judge, replace(config, max_parameters=1, relax=1))
    assert steps[-1].best is None
    assert all(value == -1 for step in steps[1:] for value in step.rewards)
    assert len(judge.asked) <= 3  # those of the first update


@pytest.mark.parametrize("which", ["parameters", "accuracy"])
def test_networks_that_cannot_be_are_no_end(tmp_path, which):
    class Odd(Judge):
        def parameters(self, student):
            if which == "parameters" and student.widths[0] == 2:
                raise ShapeError("even widths")
            return super().parameters(student)

        def accuracy(self, student):
            if student.widths[0] == 2:
                raise ShapeError("even widths")
            return super().accuracy(student)

    steps = run(tmp_path, Odd(), replace(CONFIG, updates=10))
    rewards = [
        (child.shape.widths[0] == 2, value)
        for step in steps
        for child, value in zip(step.children, step.rewards, strict=True)
    ]
    assert {odd for odd, _ in rewards} == {True, False}
    assert all((value == -1) == odd for odd, value in rewards)
    reasons = {child.reason for step in steps for child in step.children}
    assert reasons == {"", "even widths"}
    # it is noted, and not tried again
    if which == "accuracy":
        assert run(tmp_path, Judge(lambda _: 1 / 0), replace(CONFIG, updates=10)) == steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"searched": ()}, "nothing to search"),
        ({"searched": (1, 1)}, "different places"),
        ({"ratios": (0.0, 1.0)}, "ratios must lie"),
        ({"updates": 0}, "updates, rollouts"),
        ({"pairs": -1}, "must not be negative"),
    ],
)
def test_bad_settings(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(CONFIG, **changes)


def test_a_recipe_that_cannot_be_searched():
    two = (STUDENT, replace(STUDENT, name="other"))
    with pytest.raises(ConfigError, match="one student"):
        the_student(CONFIG, recipe_of(students=two))
    with pytest.raises(ConfigError, match="5 widths, so places from 0 to 4, got 7"):
        the_student(replace(CONFIG, searched=(7,)), recipe_of())
    with pytest.raises(ConfigError, match=r"small of here\.yaml has no head"):
        the_student(replace(CONFIG, head=True), recipe_of())
    wide = replace(CONFIG, widths=(9, 9, 9, 9, 9))
    assert the_student(wide, recipe_of()).widths == (9, 9, 9, 9, 9)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    network = SiamFC((4, 8, 8, 8, 4))
    card = ModelCard("tiny", "siamfc", network.widths, count_parameters(network))
    return save_model(network, card, tmp_path_factory.mktemp("teacher"))


def write_search(folder, teacher, search_config, **changes):
    recipe = recipe_of(
        teacher=str(teacher),
        students=(replace(STUDENT, widths=(4, 8, 8, 8, 4)),),
        pairs=PAIRS,
        validation_pairs=4,
        batch_size=4,
        pairs_per_epoch=8,
        epochs=3,
        workers=0,
    )
    recipe = replace(recipe, **changes)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(to_mapping(recipe)))
    config = replace(search_config, recipe=str(folder / "recipe.yaml"))
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(to_mapping(config)))
    return path


@pytest.mark.parametrize(("pairs", "kind"), [(0, "hits"), (4, "hits"), (4, "iou")])
def test_the_command_leaves_a_recipe_of_the_best(tmp_path, data, teacher, capsys, pairs, kind):
    small = replace(CONFIG, searched=(1, 2), ratios=(0.5, 1.0), updates=2, pairs=pairs)
    changes = {"tracking_every": 1, "tracking_frames": 3} if kind == "iou" else {}
    path = write_search(tmp_path, teacher, small, **changes)
    output = tmp_path / "found"
    command = ["search", str(path), "--data", str(data), "--output", str(output)]
    command += ["--device", "cpu", "--precision", "float32", "--threads", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    notes = [json.loads(line) for line in (output / "children.jsonl").read_text().splitlines()]
    assert notes and all(0 <= note["accuracy"] <= 1 for note in notes)
    for note in notes:
        assert note["parameters"] == count_parameters(SiamFC(note["shape"][0]))
    best = load_yaml(DistillConfig, output / "best.yaml")
    assert [list(one.widths) for one in best.students] in [[note["shape"][0]] for note in notes]
    assert (best.epochs, best.pairs_per_epoch) == (3, 8)
    assert f"{load_model(teacher)[1].parameters:,}" in printed and "next: siamkd distill" in printed
    assert (output / "search.png").read_bytes().startswith(b"\x89PNG")
    assert not list(output.glob("child_*"))
    before = [(output / name).read_bytes() for name in ("children.jsonl", "best.yaml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siamkd_core.shape_judge.ShapeJudge.accuracy", lambda *_: 1 / 0)
        assert main(command) == 0
    assert before == [(output / name).read_bytes() for name in ("children.jsonl", "best.yaml")]
    arguments = ["--data", str(data), "--device", "cpu", "--dry-run"]
    assert main(["distill", str(output / "best.yaml"), *arguments]) == 0


def test_the_command_says_what_is_wrong(tmp_path, data, teacher, capsys):
    def told(search_config, **changes):
        path = write_search(tmp_path, teacher, search_config, **changes)
        command = ["search", str(path), "--data", str(data), "--device", "cpu"]
        assert main([*command, "--output", str(tmp_path / "found")]) == 2
        return capsys.readouterr().err

    small = replace(CONFIG, searched=(1,), ratios=(1.0,), updates=1, rollouts=1)
    assert "give it validation_pairs or tracking_every" in told(small, validation_pairs=0)
    assert "pairs: at least a batch of 4, or 0, got 3" in told(replace(small, pairs=3))
    start = (replace(STUDENT, start_from="nobody"),)
    # of the recipe, not of a shape: no search
    assert "no model 'nobody'" in told(small, students=start)
    assert "no student kept to max_parameters: 10" in told(replace(small, max_parameters=10))
    assert (tmp_path / "found" / "search.png").exists()
    unknown = (FreezeConfig(("backbone.nolayer",), 1),)
    assert "freeze: no layer backbone.nolayer" in told(replace(small, pairs=4), freeze=unknown)


def test_a_student_that_diverges_is_worth_nothing(tmp_path, data, teacher, capsys):
    config = replace(CONFIG, searched=(1,), ratios=(1.0,), updates=1, rollouts=1, pairs=8)
    path = write_search(tmp_path, teacher, config, lr=1e30, lr_end=1e29)
    output = tmp_path / "found"
    command = ["search", str(path), "--data", str(data), "--output", str(output)]
    assert main([*command, "--device", "cpu"]) == 2
    assert "no student could be: loss" in capsys.readouterr().err
    assert not list(output.glob("child_*"))
    (note,) = map(json.loads, (output / "children.jsonl").read_text().splitlines())
    assert note["accuracy"] is None and "became nan" in note["reason"]


def test_a_student_goes_on_where_it_was_interrupted(tmp_path, data, teacher, monkeypatch):
    config = replace(CONFIG, searched=(1,), ratios=(0.5,), updates=1, rollouts=1, pairs=8)
    path = write_search(tmp_path, teacher, config)
    command = ["--data", str(data), "--device", "cpu", "--precision", "float32", "--threads", "1"]
    output = tmp_path / "found"
    # asked before the student, before its first step and after each of its two
    asked = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr("siamkd_core.interrupt.stop_on_signals", lambda: nullcontext(asked.__next__))
        assert main(["search", str(path), *command, "--output", str(output)]) == 130
    (left,) = output.glob("child_*")
    assert (left / "checkpoint.pt").exists()
    assert main(["search", str(path), *command, "--output", str(output)]) == 0
    assert main(["search", str(path), *command, "--output", str(tmp_path / "whole")]) == 0
    notes = [(tmp_path / name / "children.jsonl").read_text() for name in ("found", "whole")]
    assert notes[0] == notes[1]
    assert not list(output.glob("child_*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, data, teacher, capsys):
    path = write_search(tmp_path, teacher, replace(CONFIG, searched=(1,), updates=1))
    (tmp_path / "file").write_text("")
    command = ["search", str(path), "--data", str(data), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "file" / "found")]) == 2
    assert f"cannot write {tmp_path / 'file' / 'found'}" in capsys.readouterr().err


def test_the_search_of_the_repository_is_read():
    config = load_yaml(ShapeSearchConfig, ROOT / "config" / "search" / "dstfc.yaml")
    recipe = load_yaml(DistillConfig, ROOT / config.recipe)
    student = the_student(config, recipe)
    network, _ = load_model(recipe.teacher)
    assert isinstance(network.backbone, EfficientNet)
    # the full widths are the teacher's, and all that are searched are inside of its blocks
    blocks = [block for stage in list(network.backbone.stages)[1:] for block in stage]
    inside = [block.layers[0].out_channels for block in blocks]  # type: ignore[index,union-attr]
    outputs = len(recipe.students[0].widths)
    assert list(student.widths[outputs:]) == inside[: len(student.widths) - outputs]
    assert config.searched == tuple(range(outputs, len(student.widths)))
    shipped = count_parameters(SiamFC(recipe.students[0].widths, student.backbone))
    assert shipped <= config.max_parameters < count_parameters(network)

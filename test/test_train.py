"""Training a SiamFC at tiny size: it learns, it resumes, it refuses, alone and in company."""

import csv
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_support import PAIRS, run_by_two, same_weights, write_data

from siamkd_core.cli import main
from siamkd_core.config import from_mapping, load_yaml, to_mapping
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.freeze import FreezeConfig
from siamkd_core.held_out import HeldOut
from siamkd_core.learner import Learner
from siamkd_core.modelfile import find_model, load_model, read_card, write_card
from siamkd_core.schedule import ScheduleConfig
from siamkd_core.sequences import read_sequence
from siamkd_core.siamfc import count_parameters
from siamkd_core.tracker import load_tracker
from siamkd_core.tracker_config import ScoreConfig
from siamkd_core.train import TrainConfig, train
from siamkd_core.tune import try_config

CONFIG = TrainConfig(
    name="tiny",
    widths=(4, 8, 8, 8, 4),
    pairs=PAIRS,
    epochs=3,
    pairs_per_epoch=16,
    batch_size=4,
    lr=1e-2,
    lr_end=1e-3,
    stranger_weight=0.3,
    validation_pairs=4,
    workers=0,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    # drawing takes longer than the training
    monkeypatch.setattr("siamkd_core.runfolder.curves", lambda history: b"")


def run(config, data, output, **options):
    return train(config, data, output, "cpu", "float32", "abc", **options)


def test_an_interrupted_run_ends_with_the_same_weights(data, tmp_path):
    config = replace(CONFIG, ema=0.7)
    whole = run(config, data, tmp_path / "whole")
    calls = iter(range(100))
    with pytest.raises(KeyboardInterrupt, match="after step 6"):
        # asked before the first step, after each that does not end an epoch, and after each epoch
        run(config, data, tmp_path / "resumed", stop=lambda: next(calls) == 6)
    assert same_weights(whole, run(replace(config, workers=1), data, tmp_path / "resumed"))


def test_it_learns_and_the_card_says_from_what(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(CONFIG, epochs=5, lr=1.0, lr_end=0.3)
    path = run(config, data, tmp_path)
    _, card = load_model(path)
    assert card.training["commit"] == "abc"
    assert card.training["recipe"]["pairs"]["sources"][0]["folders"] == ["stills/*", "tracks/*"]
    assert card.training["pairs"] == 5 * 16
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [e.value for e in events.Scalars("loss/epoch")]
    assert len(losses) == 5 and min(losses[-2:]) < 0.97 * losses[0]
    assert {"lr", "pairs_per_second", "loss/held_out", "hits/held_out"} <= set(
        events.Tags()["scalars"]
    )


def test_fine_tuning_starts_from_the_weights_of_a_model(data, tmp_path):
    base = run(replace(CONFIG, epochs=1), data, tmp_path / "base")
    still = replace(CONFIG, name="tuned", epochs=1, lr=1e-12, lr_end=1e-12, seed=9)
    tuned = run(replace(still, start_from=str(base)), data, tmp_path / "tuned")
    (before, _), (after, card) = load_model(base), load_model(tuned)
    for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    assert card.training["started_from"]["name"] == "tiny"
    with pytest.raises(SiamkdError, match="widths"):
        run(replace(still, start_from=str(base), widths=(2, 4, 4, 4, 2)), data, tmp_path / "no")


def test_the_average_of_the_weights_is_the_model(data, tmp_path, monkeypatch):
    config = replace(CONFIG, epochs=2, lr=0.5, lr_end=0.5, ema=0.7)
    seen = []
    original = Learner.step

    def step(self, *args):
        losses = original(self, *args)
        seen.append(self.networks["tiny"].backbone[0][0].weight.detach().clone())
        return losses

    monkeypatch.setattr(Learner, "step", step)
    model, _ = load_model(run(config, data, tmp_path))
    expected = seen[0]  # the average starts with the weights after the first step
    for weights in seen[1:]:
        expected = 0.7 * expected + 0.3 * weights
    assert len(seen) == 8 and not torch.allclose(seen[-1], expected, atol=1e-3)
    assert torch.allclose(model.backbone[0][0].weight, expected, atol=1e-6)


def test_the_epoch_that_tracks_best_is_the_model(data, tmp_path, monkeypatch):
    epochs = []
    original = HeldOut._track

    def track(self, network, card):
        iou = original(self, network, card)
        assert 0 < iou < 1
        epochs.append(network.backbone[0][0].weight.detach().clone())
        return (0.3, 0.6, 0.6)[len(epochs) - 1]

    monkeypatch.setattr(HeldOut, "_track", track)
    config = replace(CONFIG, epochs=5, lr=0.5, lr_end=0.5, tracking_every=2, tracking_frames=3)
    model, card = load_model(run(config, data, tmp_path))
    # validated after the epochs 2, 4 and, because it is the last, 5
    assert len(epochs) == 3
    assert torch.equal(model.backbone[0][0].weight, epochs[1])
    best = card.training["best_epoch"]
    assert (best["epoch"], best["epochs"], best["score"]) == (4, 5, 0.6)
    assert "highest" in best["rule"]


def test_tracking_needs_a_sequence_that_is_held_out(data, tmp_path):
    pairs = replace(CONFIG.pairs, holdout=("held",))
    with pytest.raises(SiamkdError, match=r"sequence folder among pairs\.holdout"):
        run(replace(CONFIG, pairs=pairs, tracking_every=1), data, tmp_path)


def test_validation_by_tracking_is_the_evaluation(data, tmp_path):
    config = replace(CONFIG, epochs=1, tracking_every=1, tracking_frames=4)
    path = run(config, data, tmp_path)
    sequence = read_sequence(data / "tracks" / "moving")
    shortened = replace(sequence, frames=sequence.frames[:4], boxes=sequence.boxes[:4])
    tracker = load_tracker(path, "cpu", "float32")
    expected = try_config(tracker, tracker.card.tracker, [[shortened]])
    assert read_card(path).training["best_epoch"]["score"] == pytest.approx(expected, abs=1e-6)


def test_two_processes_are_one(data, tmp_path):
    config = replace(
        CONFIG, pairs_per_epoch=12, ema=0.5, lr=0.3, tracking_every=1, tracking_frames=4
    )
    one, two = tmp_path / "one", tmp_path / "two"
    printed = run_by_two("train", config, data, two, tmp_path / "recipe.yaml")
    assert printed.count("tiny.safetensors\n") == 1 and printed.count("epoch 3: ") == 1
    run(config, data, one)
    tables = [list(csv.DictReader((f / "metrics.csv").open())) for f in (one, two)]
    assert len(tables[1]) == 3
    for ours, theirs in zip(*tables, strict=True):
        for name in ("loss/epoch", "loss/response", "loss/stranger", "loss/held_out"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name
        assert float(ours["iou/held_out"]) == pytest.approx(float(theirs["iou/held_out"]), abs=0.02)
    models = [load_model(folder / "tiny.safetensors") for folder in (one, two)]
    (before, _), (after, card) = models
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert card.training["processes"] == 2
    assert [s["processes"] for s in json.loads((two / "environment.json").read_text())] == [2]


def test_a_dry_run_does_two_steps_of_everything(data, tmp_path, monkeypatch, capsys):
    done = []
    original = Learner.step
    monkeypatch.setattr(Learner, "step", lambda *a: done.append(a[2]) or original(*a))

    def load(path):
        loaded = load_model(path)
        done.append(path.name)
        return loaded

    monkeypatch.setattr("siamkd_core.run.load_model", load)
    config = replace(
        CONFIG,
        epochs=20,
        schedule=ScheduleConfig("cosine", warmup_epochs=3),
        freeze=(FreezeConfig(("backbone.0",), 7),),
        tracking_every=4,
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(to_mapping(config)))
    arguments = ["train", str(recipe), "--data", str(data), "--device", "cpu"]
    assert main([*arguments, "--dry-run"]) == 0
    assert done == [0, 1, "tiny.safetensors"]
    assert capsys.readouterr().out.endswith("dry run: ok\n")
    assert main(arguments) == 2 and "--output" in capsys.readouterr().err


def test_a_finished_run_called_again_leaves_its_card_alone(data, tmp_path):
    config = replace(CONFIG, epochs=1)
    path = run(config, data, tmp_path)
    card = replace(read_card(path), score=ScoreConfig(2.0, -1.0), measured={"mine": {"auc": 0.5}})
    write_card(card, path)
    assert run(config, data, tmp_path) == path
    assert read_card(path) == card


def test_a_model_without_its_card_is_written_again(data, tmp_path, monkeypatch):
    from siamkd_core import modelfile

    config = replace(CONFIG, epochs=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(modelfile, "_write_card", full)
        with pytest.raises(SiamkdError, match=r"No space left .* is intact: make room, and run"):
            run(config, data, tmp_path)
    assert (tmp_path / "tiny.safetensors").is_file() and not (tmp_path / "tiny.json").exists()
    assert load_model(run(config, data, tmp_path))[1].training["pairs"] == 16


def test_an_earlier_model_without_its_checkpoint_is_not_taken_for_the_result(data, tmp_path):
    config = replace(CONFIG, epochs=1)
    path = run(config, data, tmp_path)
    before = path.read_bytes()
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(SiamkdError, match=r"tiny\.safetensors of an earlier run"):
        run(replace(config, seed=7), data, tmp_path)
    assert path.read_bytes() == before


def test_the_recipe_in_a_shipped_card_is_still_a_recipe():
    card = read_card(find_model("siamfc"))
    config = from_mapping(TrainConfig, card.training["recipe"], "the card")
    assert (config.name, config.widths) == (card.name, card.widths)
    assert config.steps * config.batch_size == card.training["pairs"]


def test_another_configuration_does_not_resume(data, tmp_path):
    run(replace(CONFIG, epochs=1), data, tmp_path)
    with pytest.raises(SiamkdError, match=r"changed: .*seed"):
        run(replace(CONFIG, epochs=1, seed=5), data, tmp_path)


def test_a_seed_given_by_hand_replaces_the_recipes(data, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(to_mapping(replace(CONFIG, epochs=1, pairs_per_epoch=8))))
    arguments = ["train", str(recipe), "--data", str(data), "--device", "cpu"]
    for seed in (4, 5):
        output = str(tmp_path / str(seed))
        assert main([*arguments, "--output", output, "--seed", str(seed)]) == 0
    first, second = (load_file(tmp_path / n / "tiny.safetensors") for n in "45")
    assert read_card(tmp_path / "5" / "tiny.safetensors").training["recipe"]["seed"] == 5
    assert not torch.equal(first["backbone.6.weight"], second["backbone.6.weight"])


def test_the_recipes_of_the_repository_are_read():
    for path in (Path(__file__).parent.parent / "config" / "train").glob("*.yaml"):
        assert load_yaml(TrainConfig, path).name == path.stem


def test_the_defaults_are_the_published_recipe():
    config = TrainConfig()
    assert (config.lr, config.lr_end, config.momentum, config.weight_decay) == (
        1e-2,
        1e-5,
        0.9,
        5e-4,
    )
    assert (config.epochs, config.batch_size, config.pairs.search_size) == (50, 8, 239)
    assert config.pairs.sources[0].max_gap == 100


def test_a_pretrained_backbone_learns_from_where_it_was(data, tmp_path, monkeypatch):
    from test_efficientnet import classifier

    from siamkd_core import pretrained

    monkeypatch.setattr(pretrained, "_find", lambda _: tmp_path / "lite0.pth")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    tensors = classifier()
    torch.save(tensors, tmp_path / "lite0.pth")
    config = replace(
        CONFIG,
        epochs=1,
        pairs_per_epoch=8,
        backbone="efficientnet",
        widths=(32, 16, 24, 40, 8),
        pretrained=True,
        freeze=(
            FreezeConfig(("backbone.stem",), 1),
            FreezeConfig(("backbone.stages",), 1, statistics_only=True),
        ),
    )
    network, card = load_model(run(config, data, tmp_path / "run"))
    stem, stages = network.backbone.stem, network.backbone.stages
    assert torch.equal(stem[0].weight, tensors["_conv_stem.weight"].flip(1))
    ours, theirs = stages[0][0].layers, "_blocks.0."
    assert not torch.equal(ours[0].weight, tensors[theirs + "_depthwise_conv.weight"])
    assert torch.equal(ours[1].running_mean, tensors[theirs + "_bn1.running_mean"])
    assert not torch.equal(network.backbone.necks[0][1].running_mean, torch.zeros(8))
    assert card.backbone == "efficientnet" and card.parameters == count_parameters(network)
    assert (
        card.training["pretrained"]["sha256"]
        == sha256((tmp_path / "lite0.pth").read_bytes()).hexdigest()
    )
    with pytest.raises(ConfigError, match="choose one"):
        replace(config, start_from="siamfc")
    with pytest.raises(ConfigError, match=r"efficientnet with the widths .* must be the same"):
        run(replace(config, pretrained=False, start_from="siamfc"), data, tmp_path / "other")

"""The training loop at tiny size: it learns, it resumes, it refuses."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from siamkd_core.errors import SiamkdError
from siamkd_core.modelfile import load_model, read_card, write_card
from siamkd_core.pairs import PairsConfig, SourceConfig
from siamkd_core.tracker_config import ScoreConfig
from siamkd_core.train import CHECKPOINT, TrainConfig, learning_rate, train

CONFIG = TrainConfig(
    name="tiny",
    widths=(4, 8, 8, 8, 4),
    pairs=PairsConfig(sources=(SourceConfig(("stills/*",)),), holdout=("held",), search_size=159),
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
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("set", "held"):
        folder = root / "stills" / name
        folder.mkdir(parents=True)
        lines = []
        for number in range(4):
            image = rng.integers(60, 120, (120, 160, 3), np.uint8)
            image[40:70, 50:90] = rng.integers(0, 256, (30, 40, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), image)
            lines.append(json.dumps({"file": f"{number}.png", "boxes": [[50, 40, 40, 30]]}))
        (folder / "boxes.jsonl").write_text("\n".join(lines))
    return root


def run(config, data, output):
    return train(config, data, output, device="cpu", precision="float32", commit="abc")


class Interrupted(Exception):
    pass


def test_a_run_interrupted_in_any_epoch_ends_with_the_same_weights(data, tmp_path, monkeypatch):
    whole = load_model(run(CONFIG, data, tmp_path / "whole"))[0].state_dict()
    from siamkd_core import train as module

    for stop in (2, 9):
        output = tmp_path / f"stop{stop}"
        original, left = module._Run.step, iter(range(stop))

        def step(self, batch, lr, original=original, left=left):
            if next(left, None) is None:
                raise Interrupted
            return original(self, batch, lr)

        with monkeypatch.context() as patch:
            patch.setattr(module._Run, "step", step)
            with pytest.raises(Interrupted):
                run(CONFIG, data, output)
        resumed = load_model(run(CONFIG, data, output))[0].state_dict()
        assert all(torch.equal(whole[k], resumed[k]) for k in whole), stop


def test_it_learns_and_the_card_says_from_what(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(CONFIG, epochs=5, lr=1.0, lr_end=0.3)
    path = run(config, data, tmp_path)
    _, card = load_model(path)
    assert card.training["commit"] == "abc"
    assert card.training["recipe"]["pairs"]["sources"][0]["folders"] == ["stills/*"]
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


def test_the_average_of_the_weights_is_the_model_and_survives_an_interruption(
    data, tmp_path, monkeypatch
):
    from siamkd_core import train as module

    config = replace(CONFIG, epochs=2, lr=0.5, lr_end=0.5, ema=0.7)
    seen = []
    original = module._Run.step

    def step(self, batch, lr):
        loss = original(self, batch, lr)
        seen.append(self.network.backbone[0][0].weight.detach().clone())
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "step", step)
        model, _ = load_model(run(config, data, tmp_path / "whole"))
    expected = seen[0]  # the average starts with the weights after the first step
    for weights in seen[1:]:
        expected = 0.7 * expected + 0.3 * weights
    assert len(seen) == 8 and not torch.allclose(seen[-1], expected, atol=1e-3)
    assert torch.allclose(model.backbone[0][0].weight, expected, atol=1e-6)

    def stop_in_the_second_epoch(self, batch, lr, left=iter(range(5))):  # noqa: B008
        if next(left, None) is None:
            raise Interrupted
        return original(self, batch, lr)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "step", stop_in_the_second_epoch)
        with pytest.raises(Interrupted):
            run(config, data, tmp_path / "resumed")
    resumed, _ = load_model(run(config, data, tmp_path / "resumed"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_finished_run_called_again_leaves_its_card_alone(data, tmp_path):
    config = replace(CONFIG, epochs=1)
    path = run(config, data, tmp_path)
    card = replace(read_card(path), score=ScoreConfig(2.0, -1.0), measured={"mine": {"auc": 0.5}})
    write_card(card, path)
    assert run(config, data, tmp_path) == path
    assert read_card(path) == card


def test_another_configuration_does_not_resume(data, tmp_path):
    run(replace(CONFIG, epochs=1), data, tmp_path)
    with pytest.raises(SiamkdError, match=r"changed: .*seed"):
        run(replace(CONFIG, epochs=1, seed=5), data, tmp_path)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(data, tmp_path, monkeypatch):
    from siamkd_core import train as module

    original = module._Run.step
    steps = iter([0.5] * 5 + [float("nan")])
    monkeypatch.setattr(
        module._Run, "step", lambda self, b, lr: original(self, b, lr) * 0 + next(steps)
    )
    with pytest.raises(SiamkdError, match="loss became nan in step 5"):
        run(CONFIG, data, tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["epochs_done"] == 1


def test_learning_rate_golden():
    config = TrainConfig(epochs=4, lr=1e-2, lr_end=1e-5)
    rates = [learning_rate(config, epoch) for epoch in range(4)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])


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

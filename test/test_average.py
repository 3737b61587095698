"""The mean of models that began alike; what has none is refused, and nothing is lost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from synthetic import tiny_model
from training_support import PAIRS, write_data

from siamkd_core.average import average_models
from siamkd_core.cli import main
from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import load_model, write_card
from siamkd_core.tracker_config import TrackerConfig
from siamkd_core.train import TrainConfig, TrainTask, train

pytestmark = pytest.mark.usefixtures("without_pictures")
CONFIG = TrainConfig(
    name="tiny",
    widths=(2, 4, 4, 4, 2),
    pairs=PAIRS,
    epochs=1,
    pairs_per_epoch=8,
    batch_size=4,
    lr=0.3,
    lr_end=0.3,
    workers=0,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def run(config, data, folder):
    return train(config, data, folder, "cpu", "float32", "abc")


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Three of one recipe and one start; drawing their curves takes longer than they do."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siamkd_core.runfolder.curves", lambda history: b"")
        return [
            run(replace(CONFIG, seed=seed, start_seed=7), data, folder / str(seed))
            for seed in (1, 2, 3)
        ]


def first_weights(config, data):
    task = TrainTask(config, data, torch.device("cpu"), torch.float32, "abc")
    return {name: value.clone() for name, value in task.networks.state_dict().items()}


def test_one_start_seed_is_one_start_and_other_pairs(data):
    apart, alike, plain = (
        [first_weights(replace(CONFIG, seed=seed, start_seed=start), data) for seed in (1, 2)]
        for start in (None, 7, 1)
    )
    assert all(torch.equal(alike[0][name], alike[1][name]) for name in alike[0])
    assert any(not torch.equal(apart[0][name], apart[1][name]) for name in apart[0])
    # without it, the seed is the start's too
    assert all(torch.equal(apart[0][name], plain[0][name]) for name in apart[0])
    with pytest.raises(ConfigError, match="seed must not be negative"):
        replace(CONFIG, start_seed=-1)


def test_each_weight_is_the_mean_of_the_models(runs, tmp_path, capsys):
    command = ["average", *map(str, runs), "--name", "mean", "--output", str(tmp_path)]
    assert main(command) == 0
    assert "the mean of 3" in capsys.readouterr().out
    made = load_file(tmp_path / "mean.safetensors")
    parts = [load_file(path) for path in runs]
    assert set(made) == set(parts[0])
    for name, value in made.items():
        values = [part[name].astype(np.float64) for part in parts]
        np.testing.assert_allclose(value, sum(values) / 3, rtol=1e-6, atol=1e-9, err_msg=name)
    assert any(np.abs(parts[0][name] - parts[1][name]).max() > 1e-4 for name in made)
    assert any("running_var" in name for name in made)


def test_the_card_says_of_what_and_starts_anew(runs):
    network, card = average_models(runs, "mean")
    assert not network.training and card.name == "mean"
    averaged = card.training["averaged"]
    originals = [load_model(path)[1] for path in runs]
    assert [one["sha256"] for one in averaged] == [one.sha256 for one in originals]
    assert [one["training"]["recipe"]["seed"] for one in averaged] == [1, 2, 3]
    assert card.parameters == originals[0].parameters and card.widths == originals[0].widths
    # the tracker's parameters and the score were chosen for other weights
    assert card.tracker == TrackerConfig() and card.score is None and card.measured == {}


def test_going_on_from_one_model_is_one_start_whatever_the_seed(runs, data, tmp_path):
    config = replace(CONFIG, start_from=str(runs[0]))
    paths = [run(replace(config, seed=seed), data, tmp_path / str(seed)) for seed in (4, 5)]
    assert len(average_models(paths, "mean")[1].training["averaged"]) == 2
    with pytest.raises(ConfigError, match="did not begin with the weights of"):
        average_models([paths[0], runs[1]], "mean")


def test_what_has_no_mean_is_refused(runs, data, tmp_path):
    other = run(replace(CONFIG, seed=1), data, tmp_path / "other")
    with pytest.raises(ConfigError, match="with one start_seed"):
        average_models([runs[0], other], "mean")
    with pytest.raises(ConfigError, match="another file"):
        average_models([runs[0]], "mean")
    with pytest.raises(ConfigError, match="another file"):
        average_models([runs[0], runs[1], runs[0]], "mean")
    wide = run(replace(CONFIG, widths=(4, 4, 4, 4, 2), start_seed=7), data, tmp_path / "wide")
    with pytest.raises(ConfigError, match=r"wide.* has another widths than "):
        average_models([runs[0], wide], "mean")
    with pytest.raises(ConfigError, match="no recipe in its card"):
        average_models([tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", seed=1)], "mean")


def test_a_model_that_is_averaged_is_not_written_over(runs, capsys):
    before = runs[1].read_bytes()
    command = ["average", *map(str, runs), "--name", "tiny", "--output", str(runs[1].parent)]
    assert main(command) == 2
    assert "choose another --name or --output" in capsys.readouterr().err
    assert runs[1].read_bytes() == before


def test_another_kind_of_score_of_the_same_weights_does_not_matter(runs):
    """What was tuned or measured since is not what the mean is of."""
    card = load_model(runs[0])[1]
    tuned = replace(card, tracker=TrackerConfig(search_size=271), measured={"x": {}})
    write_card(tuned, runs[0])
    try:
        assert average_models(runs, "mean")[1].tracker == TrackerConfig()
    finally:
        write_card(card, runs[0])

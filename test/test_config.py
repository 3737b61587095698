import pytest

from siamkd_core.config import from_mapping, load_yaml, to_mapping
from siamkd_core.errors import ConfigError
from siamkd_core.tracker_config import TrackerConfig
from siamkd_core.train import TrainConfig


def test_round_trip():
    config = TrainConfig(widths=(2, 4, 6, 8, 10), epochs=3)
    assert from_mapping(TrainConfig, to_mapping(config), "here") == config


@pytest.mark.parametrize(
    "text, says",
    [
        ("epoks: 3", "unknown key 'epoks'"),
        ("pairs: {augment: {streetch: 1}}", "unknown key"),
        ("epochs: many", "epochs"),
        ("lr: quick", 'field "lr" - should be "float" instead of value "quick"'),
        ("lr: true", 'field "lr" - should be "float" instead of value "True"'),
        ("epochs: 0", "epochs >= 1"),
        ("pairs: {augment: {flip: 2}}", "augment.flip"),
        ("lr: [", "not YAML"),
        ("- a", "keys and values"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path, text, says):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_yaml(TrainConfig, path)
    assert "recipe.yaml" in str(caught.value)


def test_yaml_without_a_point_in_the_exponent_is_a_number(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-3\nlr_end: 1e-4\nepochs: 2")
    assert load_yaml(TrainConfig, path).lr == 1e-3


def test_the_shipped_recipes_are_valid():
    from pathlib import Path

    recipes = sorted((Path(__file__).parents[1] / "config" / "train").glob("*.yaml"))
    names = [load_yaml(TrainConfig, recipe).name for recipe in recipes]
    assert names == [recipe.stem for recipe in recipes] and names


def test_tracker_parameters_out_of_range():
    for wrong in ({"scales": 2}, {"window": 1.5}, {"scale_step": 1.0}, {"search_size": 100}):
        with pytest.raises(ConfigError):
            TrackerConfig(**wrong)

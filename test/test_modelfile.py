import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from siamkd_core.errors import ConfigError, ModelFileError
from siamkd_core.modelfile import (
    build_network,
    load_model,
    new_card,
    read_card,
    save_model,
    tell_apart,
)
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import RpnTrackerConfig, ScoreConfig, TrackerConfig


def test_what_is_saved_is_loaded(tiny_model):
    network, card = load_model(tiny_model)
    torch.manual_seed(0)
    fresh = SiamFC(card.widths)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
    assert not network.training


def test_a_card_survives_the_round_trip(tiny_model, tmp_path):
    network, card = load_model(tiny_model)
    changed = replace(card, name="other", score=ScoreConfig(1.5, -2.0), measured={"auc": 0.5})
    path = save_model(network, changed, tmp_path)
    assert replace(read_card(path), sha256="") == replace(changed, sha256="")


def test_a_siamrpn_and_its_own_parameters_survive_the_round_trip(tmp_path):
    card = new_card("rpn", "siamrpn", (4, 5, 6, 6, 3), head=HeadConfig("depthwise", 5))
    card = replace(card, tracker=RpnTrackerConfig(penalty_k=0.05, size_rate=0.4))
    path = save_model(build_network(card), card, tmp_path)
    network, read = load_model(path)
    assert replace(read, sha256="") == card
    assert network.head_config == card.head
    with pytest.raises(ConfigError, match="TrackerConfig, a siamrpn has RpnTrackerConfig"):
        replace(card, tracker=TrackerConfig())
    with pytest.raises(ModelFileError, match="no head"):
        build_network(replace(new_card("fc", "siamfc", (2,) * 5), head=HeadConfig()))


def test_a_changed_file_is_refused(tiny_model):
    data = bytearray(tiny_model.read_bytes())
    data[-1] ^= 1
    tiny_model.write_bytes(data)
    with pytest.raises(ModelFileError, match="sha256"):
        load_model(tiny_model)


def rewrite(path, change):
    """Change the tensors and make the card's hash fit."""
    import hashlib

    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))


def test_tensors_that_do_not_fit_are_named(tiny_model):
    def change(tensors):
        tensors["backbone.6.weight"] = tensors["backbone.6.weight"][:2].contiguous()
        tensors["stray"] = torch.zeros(3)
        del tensors["backbone.6.bias"]

    rewrite(tiny_model, change)
    with pytest.raises(ModelFileError) as caught:
        load_model(tiny_model)
    said = str(caught.value)
    assert "missing backbone.6.bias (4,)" in said
    assert "extra stray (3,)" in said
    assert "backbone.6.weight is (2, 4, 3, 3), the card's architecture has (4, 4, 3, 3)" in said


def test_a_missing_or_strange_card_is_explained(tiny_model):
    card = tiny_model.with_suffix(".json")
    values = json.loads(card.read_text())
    card.write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(ModelFileError, match="unknown key 'colour'"):
        load_model(tiny_model)
    card.write_text(json.dumps({**values, "architecture": "siamxyz"}))
    with pytest.raises(ModelFileError, match="'siamxyz'; known: siamfc, siamrpn"):
        load_model(tiny_model)
    card.write_text(json.dumps({**values, "architecture": "siamrpn"}))
    with pytest.raises(ModelFileError, match=r"tracker: unknown key .*'scale_penalty'"):
        load_model(tiny_model)
    card.write_text(json.dumps({**values, "architecture": "siamrpn", "tracker": {}}))
    with pytest.raises(ModelFileError, match="needs a head"):
        load_model(tiny_model)
    card.write_text("{")
    with pytest.raises(ModelFileError, match="not JSON"):
        load_model(tiny_model)
    card.unlink()
    with pytest.raises(ModelFileError, match="no card"):
        load_model(tiny_model)


def test_an_unknown_name_lists_the_shipped_models():
    with pytest.raises(ModelFileError, match="one of: "):
        load_model("no_such_model")


def test_models_of_one_name_are_told_apart_by_their_folders(tiny_model, tmp_path):
    network, card = load_model(tiny_model)
    other = save_model(network, card, tmp_path / "other")
    assert tell_apart(["siamfc", tiny_model]) == ["siamfc", "tiny"]
    assert tell_apart([tiny_model, "siamfc", other]) == [
        "models/tiny",
        "siamfc",
        "other/tiny",
    ]


def test_runs_of_one_seed_are_told_apart_by_their_variant(tmp_path):
    from synthetic import tiny_model as made_in

    models = [made_in(tmp_path / name / "seed0") for name in ("TS", "TS+AH")]
    assert tell_apart(models) == ["TS/seed0/tiny", "TS+AH/seed0/tiny"]
    assert tell_apart([models[0], models[0]]) == ["tiny", "tiny"]

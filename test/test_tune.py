import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import moving_boxes, write_sequence

from siamkd_core.box import Box
from siamkd_core.cli import main
from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import read_card, write_card
from siamkd_core.sequences import Sequence, read_sequences
from siamkd_core.tracker import load_tracker
from siamkd_core.tracker_config import RpnTrackerConfig, TrackerConfig
from siamkd_core.tune import RANGES, anchored, can_be_given, parse_candidate, propose, try_config


@pytest.mark.parametrize("base", [TrackerConfig(turn=25), RpnTrackerConfig(vote=2, turn=25)])
def test_proposals_are_reproducible_and_in_range(base):
    assert propose(base, 0, 7) == base
    assert propose(base, 3, 7) == propose(base, 3, 7) != propose(base, 4, 7)
    for trial in range(1, 30):
        config = propose(base, trial, 0)
        assert all(
            low <= getattr(config, n) <= high for n, (low, high) in RANGES[type(base)].items()
        )
        kept = {name: getattr(base, name) for name in RANGES[type(base)]}
        assert replace(config, **kept) == base


def test_runs_start_at_anchors_and_take_the_longer_way():
    boxes = np.arange(400, dtype=float).reshape(100, 4)
    boxes[40:43] = np.nan
    boxes[76:] = np.nan
    sequence = Sequence("dog", tuple(Path(f"{n}.png") for n in range(100)), boxes)
    runs = anchored(sequence, 20, 500)
    # none at 80, where no target follows
    assert [run.name for run in runs] == ["dog@0", "dog@20", "dog@43", "dog@60"]
    ways = [(0, 99), (20, 99), (43, 99), (60, 0)]
    for run, (first, last) in zip(runs, ways, strict=True):
        numbers = [int(path.stem) for path in run.frames]
        assert (numbers[0], numbers[-1]) == (first, last)
        assert np.array_equal(run.boxes, boxes[numbers], equal_nan=True)
    assert [len(run.frames) for run in anchored(sequence, 20, 30)] == [30] * 4
    assert [int(p.stem) for p in anchored(sequence, 60, 60)[1].frames] == list(range(60, 0, -1))
    alone = np.full((10, 4), np.nan)
    alone[3] = 1
    assert not anchored(Sequence("cat", sequence.frames[:10], alone), 5, 500)


def test_a_run_starts_where_the_box_can_be_given(tmp_path):
    boxes = moving_boxes(12)
    outside = Box(-40, 20, 16, 16)
    write_sequence(tmp_path / "one", [outside, *boxes[1:8], *[outside] * 4])
    (sequence,) = read_sequences(tmp_path)
    assert [run.name for run in anchored(sequence, 4, 500, can_be_given)] == ["one@1", "one@4"]


def test_sequences_without_a_run_are_not_named(tmp_path, tiny_model, capsys):
    outside = [Box(-40, 20, 16, 16)] * 4
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    write_sequence(tmp_path / "data" / "two", outside)
    call = ["tune", str(tiny_model), str(tmp_path / "data"), "--trials", "1", "--device", "cpu"]
    assert main(call) == 0
    facts = read_card(tiny_model).measured["tuning"]
    assert (facts["runs"], facts["sequences"]) == (1, ["one"])
    assert main([*call, "--sequences", "two"]) == 2
    assert "in one of them inside" in capsys.readouterr().err


def test_sequences_weigh_the_same_whatever_their_runs(tmp_path, tiny_model):
    tracker = load_tracker(tiny_model, "cpu")
    for name, count in (("long", 12), ("short", 4)):
        write_sequence(tmp_path / name, moving_boxes(count))
    runs = [anchored(one, 4, 500) for one in read_sequences(tmp_path)]
    assert [len(each) for each in runs] == [3, 1]
    alone = [[try_config(tracker, tracker.config, [[run]]) for run in each] for each in runs]
    found = try_config(tracker, tracker.config, runs)
    assert found == pytest.approx((np.mean(alone[0]) + alone[1][0]) / 2)
    assert found != pytest.approx(np.mean([*alone[0], *alone[1]]), abs=1e-4)


def test_the_best_trial_goes_to_the_card_and_a_second_call_resumes(tmp_path, tiny_model, capsys):
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    call = ["tune", str(tiny_model), str(tmp_path / "data"), "--trials", "3", "--device", "cpu"]
    assert main(call) == 0
    log = tiny_model.with_name("tiny_tuning.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    best = max(records, key=lambda r: r["mean_iou"])
    card = read_card(tiny_model)
    assert card.tracker == TrackerConfig(**json.loads(best["tracker"]))
    assert card.measured["tuning"]["mean_iou"] == pytest.approx(best["mean_iou"], abs=1e-4)
    assert main([*call[:-4], "--trials", "4", "--device", "cpu"]) == 0
    assert len(log.read_text().splitlines()) == 4
    # a second search starts from what the first one found
    again = read_card(tiny_model).measured["tuning"]
    assert again["mean_iou_of_the_first"] == pytest.approx(best["mean_iou"], abs=1e-4)
    capsys.readouterr()


def test_random_sets_keep_what_of_the_card_they_do_not_try(tmp_path, tiny_model, capsys):
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    card = read_card(tiny_model)
    own = replace(card.tracker, turn=25.0, size_score=0.4, window=0.3)
    write_card(replace(card, tracker=own), tiny_model)
    call = ["tune", str(tiny_model), str(tmp_path / "data"), "--trials", "3", "--device", "cpu"]
    assert main(call) == 0
    log = tiny_model.with_name("tiny_tuning.jsonl").read_text().splitlines()
    configs = [TrackerConfig(**json.loads(json.loads(line)["tracker"])) for line in log]
    assert len(configs) == 3 and configs[0] == own
    capsys.readouterr()
    assert {(one.turn, one.size_score) for one in configs} == {(25.0, 0.4)}
    assert len({one.window for one in configs}) == 3


def test_a_trial_after_a_torn_line_is_kept(tmp_path, tiny_model, capsys):
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    log = tiny_model.with_name("tiny_tuning.jsonl")
    log.write_text('{"setting": {"model')
    call = ["tune", str(tiny_model), str(tmp_path / "data"), "--trials", "2", "--device", "cpu"]
    assert main(call) == 0
    assert len(log.read_text().splitlines()) == 3
    made = log.read_text()
    assert main([*call[:3], "--candidate", "window=0.3", "--device", "cpu"]) == 0
    assert log.read_text().startswith(made)
    assert log.read_text().count("\n") == 4
    capsys.readouterr()


def test_a_trial_counts_for_the_same_targets_only(tmp_path, tiny_model, capsys):
    for folder, step in (("data", 2.0), ("other", 3.0)):
        write_sequence(tmp_path / folder / "one", moving_boxes(6, step=step))
    tried = []
    for folder in ("data", "other", "data"):
        assert main(["tune", str(tiny_model), str(tmp_path / folder), "--trials", "1"]) == 0
        tried.append(read_card(tiny_model).measured["tuning"]["mean_iou"])
    assert tried[0] == tried[2] != tried[1]
    assert len(tiny_model.with_name("tiny_tuning.jsonl").read_text().splitlines()) == 2
    capsys.readouterr()


def test_candidates_take_the_place_of_random_sets(tmp_path, tiny_model, capsys):
    write_sequence(tmp_path / "data" / "one", moving_boxes(4))
    call = ["tune", str(tiny_model), str(tmp_path / "data"), "--device", "cpu"]
    assert main([*call, "--candidate", "window=0.2", "--candidate", "window=0.3,scales=1"]) == 0
    card = read_card(tiny_model)
    assert card.tracker in (TrackerConfig(window=0.2), TrackerConfig(window=0.3, scales=1))
    assert card.measured["tuning"]["tried"] == ["window=0.2", "window=0.3,scales=1"]
    assert "trial 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("window", "name=value"),
        ("windows=0.2", "unknown key 'windows'"),
        ("window=7", "0..1"),
        ("window=wide", 'field "window" - should be'),
    ],
)
def test_an_impossible_candidate_says_so(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_candidate(text, TrackerConfig)


def test_a_candidate_is_of_the_models_family():
    config = parse_candidate("penalty_k=0.05,window=0.3", RpnTrackerConfig)
    assert config == RpnTrackerConfig(penalty_k=0.05, window=0.3)
    with pytest.raises(ConfigError, match="unknown key 'scale_step'"):
        parse_candidate("scale_step=1.1", RpnTrackerConfig)


def test_a_candidate_may_correct_sizes():
    found = parse_candidate("correct_size=0.5,vote=2", RpnTrackerConfig)
    assert found == RpnTrackerConfig(correct_size=0.5, vote=2)
    with pytest.raises(ConfigError, match="correct_size"):
        parse_candidate("correct_size=perhaps", RpnTrackerConfig)
    with pytest.raises(ConfigError, match=r"correct_size must lie in 0\.\.1, got 1\.5"):
        parse_candidate("correct_size=1.5", RpnTrackerConfig)

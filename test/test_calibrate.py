from dataclasses import replace

import numpy as np
import pytest
from synthetic import moving_boxes, write_sequence

from siamkd_core.box import Box
from siamkd_core.calibrate import (
    Calibration,
    OperatingPoint,
    calibrate,
    fit_logistic,
    fit_score,
    operating_points,
    roc_auc,
)
from siamkd_core.cli import main
from siamkd_core.errors import DataError
from siamkd_core.image import read_image
from siamkd_core.modelfile import read_card, write_card
from siamkd_core.sequences import read_sequences
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_core.tracker_config import ScoreConfig
from siamkd_core.vanish import without_target


def test_the_fit_finds_the_logistic_that_made_the_data():
    rng = np.random.default_rng(0)
    values = rng.uniform(-6, 10, 40_000)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-(1.7 * values - 3.4)))
    # both classes weigh the same, which moves the bias by the log of their ratio
    (slope,), bias = fit_logistic(values[:, None], labels)
    ratio = np.log((~labels).sum() / labels.sum())
    assert slope == pytest.approx(1.7, rel=0.05)
    assert bias == pytest.approx(-3.4 + ratio, abs=0.15)


def test_the_score_weighs_value_and_likeness():
    rng = np.random.default_rng(0)
    values, alike = rng.uniform(-6, 10, 60_000), rng.uniform(-0.2, 1, 60_000)
    labels = rng.random(60_000) < 1 / (1 + np.exp(-(0.8 * values + 9 * alike - 6)))
    score = fit_score(values, alike, labels)
    ratio = np.log((~labels).sum() / labels.sum())
    assert score.slope == pytest.approx(0.8, rel=0.05)
    assert score.likeness == pytest.approx(9, rel=0.05)
    assert score.bias == pytest.approx(-6 + ratio, abs=0.2)
    (alone,), at = fit_logistic(values[:, None], labels)
    assert (score.value_slope, score.value_bias) == (alone, at)


def test_a_likeness_that_speaks_against_a_target_is_left_out():
    rng = np.random.default_rng(0)
    values, alike = rng.uniform(-6, 10, 5_000), rng.uniform(0, 1, 5_000)
    labels = rng.random(5_000) < 1 / (1 + np.exp(-(values - 3 * alike)))
    (slope,), bias = fit_logistic(values[:, None], labels)
    assert fit_score(values, alike, labels) == ScoreConfig(slope, bias)


@pytest.mark.parametrize("asked", [False, True])
def test_what_was_fitted_is_what_the_tracker_says(tmp_path, tiny_model, monkeypatch, asked):
    """From the looks to the card, and from the card to a track."""
    write_sequence(tmp_path / "data" / "one", moving_boxes(5))
    write_sequence(tmp_path / "data" / "two", moving_boxes(5, step=-1, side=18))
    fit = ScoreConfig(0.01, -0.5, 2.0, 0.02, -0.25)
    if asked:  # a card that takes the look already is calibrated again
        write_card(replace(read_card(tiny_model), score=fit), tiny_model)
    looks = []
    find = Tracker.find

    def noted(tracker, image, learn=True, turn=True, revisit=True):
        assert not turn and not revisit  # a calibration is of one look
        track = find(tracker, image, learn, turn, revisit)
        looks.append(tracker.alike(image, track.box))
        return track

    def fitted(values, likenesses, labels):
        assert likenesses == pytest.approx(looks) and len(values) == len(labels) == len(looks)
        return fit

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "find", noted)
        patch.setattr("siamkd_core.calibrate.fit_score", fitted)
        call = ["calibrate", str(tiny_model), str(tmp_path / "data"), "--draws", "10"]
        assert main([*call, "--device", "cpu"]) == 0
    assert len(looks) == 30 and read_card(tiny_model).score == fit
    tracker = load_tracker(tiny_model, "cpu")
    sequence = read_sequences(tmp_path / "data")[0]
    first, second = (read_image(frame) for frame in sequence.frames[:2])
    tracker.init(first, Box(*sequence.boxes[0]))
    track = tracker.update(second)
    assert track.likeness == pytest.approx(tracker.alike(second, track.box))
    assert track.score == pytest.approx(tracker.score(track.value, track.likeness))


def test_separable_values_stay_finite_and_in_order():
    (slope,), bias = fit_logistic(
        np.array([[-3.0], [-2], [2], [3]]), np.array([False, False, True, True])
    )
    assert np.isfinite([slope, bias]).all() and slope > 0


def test_roc_auc_golden():
    values = np.array([1.0, 2, 3, 4])
    assert roc_auc(values, np.array([False, True, False, True])) == 0.75
    assert roc_auc(np.zeros(4), np.array([False, True, False, True])) == 0.5


def test_operating_points_golden():
    scores = np.array([0.02, 0.31, 0.5, 0.9, 0.3, 0.96])
    labels = np.array([False, True, False, True, True, False])
    points = operating_points(scores, labels)
    assert [p.threshold for p in points] == [round(0.05 * n, 2) for n in range(1, 20)]
    assert points[0] == OperatingPoint(0.05, 0.0, 2 / 3)
    assert points[5] == OperatingPoint(0.3, 0.0, 2 / 3)  # a score equal to it is not below
    assert points[6] == OperatingPoint(0.35, 2 / 3, 2 / 3)
    assert points[9] == OperatingPoint(0.5, 2 / 3, 2 / 3)
    assert points[18] == OperatingPoint(0.95, 1.0, 1 / 3)


def test_absent_needs_a_second_video(tmp_path, tiny_model):
    write_sequence(tmp_path / "one", moving_boxes(5))
    tracker = load_tracker(tiny_model, "cpu")
    with pytest.raises(DataError, match="two videos"):
        list(calibrate(tracker, read_sequences(tmp_path), 10))


def test_looks_at_present_and_absent_targets(tmp_path, tiny_model, monkeypatch):
    write_sequence(tmp_path / "one", moving_boxes(5))
    write_sequence(tmp_path / "two", moving_boxes(5, step=-1, side=18))
    tracker = load_tracker(tiny_model, "cpu")
    # random weights may well find that a higher response means less; that is another test's matter
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(1.0, 0.0))
    steps = list(calibrate(tracker, read_sequences(tmp_path), 12, seed=3))
    result = steps[-1][1]
    assert [done for done, _ in steps] == [*range(1, 13), 12]
    # the target is covered in each of the 12 frames: there is room beside it
    assert result.gone.tolist() == [False, True, False] * 12
    assert len(result.values) == 36 and not result.present.reshape(12, 3)[:, 1:].any()
    kinds = result.values.reshape(12, 3)
    assert not np.array_equal(kinds[:, 0], kinds[:, 1])
    assert result.roc_auc == roc_auc(result.values, result.present)  # a likeness has no weight here
    assert len(result.likenesses) == 36 and len(set(result.likenesses.tolist())) > 12
    assert np.abs(result.likenesses).max() <= 1
    again = list(calibrate(tracker, read_sequences(tmp_path), 12, seed=3))[-1][1]
    assert np.array_equal(result.values, again.values)


def test_a_box_that_nobody_could_give_is_drawn_again(tmp_path, tiny_model, monkeypatch):
    inside, outside = Box(20, 20, 16, 16), Box(-20, 20, 16, 16)
    write_sequence(tmp_path / "one", [inside, inside])
    write_sequence(tmp_path / "two", [inside, outside])
    tracker, given = load_tracker(tiny_model, "cpu"), []
    init = tracker.init
    monkeypatch.setattr(tracker, "init", lambda image, box: (init(image, box), given.append(box)))
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(1.0, 0.0))
    draws = [done for done, _ in calibrate(tracker, read_sequences(tmp_path), 20)]
    assert draws[-1] == len(given) == 20
    assert {box.x for box in given} == {20.0}
    for name in ("one", "two"):
        write_sequence(tmp_path / "out" / name, [outside, outside])
    with pytest.raises(
        DataError, match=r"in a row .*: (one|two), frame [01]: the box -20,20,16,16"
    ):
        list(calibrate(tracker, read_sequences(tmp_path / "out"), 20))


def test_the_second_look_of_a_draw_is_the_first_without_its_target(
    tmp_path, tiny_model, monkeypatch
):
    write_sequence(tmp_path / "one", moving_boxes(5))
    write_sequence(tmp_path / "two", moving_boxes(5, step=-1, side=18))
    tracker = load_tracker(tiny_model, "cpu")
    places, images, covered = [], [], []
    move_to, update = tracker.move_to, tracker.update

    def moved(box):
        places.append(box)
        move_to(box)

    def updated(image, learn=True, turn=True, revisit=True):
        assert not (learn or turn or revisit)
        images.append(image)
        return update(image, learn, turn, revisit)

    def without(image, box, rng):
        assert np.array_equal(image, images[-1])
        # the patch is brighter than 140 somewhere; the background nowhere
        covered.append(without_target(image, box, rng))
        return covered[-1]

    monkeypatch.setattr(tracker, "move_to", moved)
    monkeypatch.setattr(tracker, "update", updated)
    monkeypatch.setattr("siamkd_core.calibrate.without_target", without)
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(1.0, 0.0))
    list(calibrate(tracker, read_sequences(tmp_path), 6, seed=3))
    assert len(places) == len(images) == 18 and len(covered) == 6
    for draw, empty in enumerate(covered):
        first, second, third = places[3 * draw : 3 * draw + 3]
        assert first == second != third
        assert images[3 * draw + 1] is empty
        brightest = [int(image.max()) for image in images[3 * draw : 3 * draw + 3]]
        assert brightest[0] > 140 and brightest[1] <= 140 and brightest[2] > 140


@pytest.mark.parametrize("room", [True, False])
def test_the_verb_writes_what_it_found_into_the_card(
    tmp_path, tiny_model, monkeypatch, capsys, room
):
    write_sequence(tmp_path / "data" / "one", moving_boxes(5))
    write_sequence(tmp_path / "data" / "two", moving_boxes(5, step=-1, side=18))
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(1.5, -0.5))
    if not room:
        monkeypatch.setattr("siamkd_core.calibrate.without_target", lambda *_: None)
    call = ["calibrate", str(tiny_model), str(tmp_path / "data"), "--draws", "10"]
    assert main([*call, "--device", "cpu"]) == 0
    card = read_card(tiny_model)
    facts, said = card.measured["calibration"], capsys.readouterr().out
    assert card.score == ScoreConfig(1.5, -0.5)
    assert facts["looks_present"] + facts["looks_absent"] == (30 if room else 20)
    assert facts["looks_gone"] == (10 if room else 0)
    assert (facts["roc_auc_gone"] is None) != room
    assert ("had gone from" in said) == room and "nan" not in said
    assert tiny_model.with_name("tiny_score.png").read_bytes().startswith(b"\x89PNG")


def test_roc_auc_against_scenes_that_the_target_has_gone_from_golden():
    present = np.array([True, True, False, False, False])
    gone = np.array([False, False, True, False, True])
    values = np.array([3.0, 5.0, 4.0, 9.0, 3.0])
    alike = np.zeros(5)
    result = Calibration(ScoreConfig(1.0, 0.0), values, alike, present, gone)
    # of the pairs (3, 4), (3, 3), (5, 4), (5, 3) two are in order and one is a tie
    assert result.roc_auc_gone == 2.5 / 4
    assert result.roc_auc == 2.5 / 6
    never = Calibration(ScoreConfig(1.0, 0.0), values, alike, present, np.zeros(5, bool))
    assert np.isnan(never.roc_auc_gone)
    # the likeness turns the two pairs with the higher absent value round
    both = Calibration(ScoreConfig(1.0, 0.0, 9.0), values, np.array([1, 1, 0, 0, 0]), present, gone)
    assert both.roc_auc == both.roc_auc_gone == 1


def test_a_target_too_large_to_be_covered_is_not_looked_for_as_gone(
    tmp_path, tiny_model, monkeypatch
):
    write_sequence(tmp_path / "one", moving_boxes(5))
    write_sequence(tmp_path / "two", moving_boxes(5, step=-1, side=18))
    monkeypatch.setattr("siamkd_core.calibrate.without_target", lambda *_: None)
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(1.0, 0.0))
    tracker = load_tracker(tiny_model, "cpu")
    result = list(calibrate(tracker, read_sequences(tmp_path), 12, seed=3))[-1][1]
    assert len(result.values) == 24 and not result.gone.any()


def test_a_score_that_would_be_upside_down_is_refused(tmp_path, tiny_model, monkeypatch):
    folder = write_sequence(tmp_path / "one", moving_boxes(5))
    truth = folder / "groundtruth.txt"
    # OTB and LaSOT write an absent target as a box without size
    truth.write_text("\n".join(truth.read_text().splitlines()[:4]) + "\n0,0,0,0\n")
    write_sequence(tmp_path / "two", moving_boxes(5, step=-1, side=18))
    monkeypatch.setattr("siamkd_core.calibrate.fit_score", lambda *_: ScoreConfig(-1.0, 0.0))
    with pytest.raises(DataError, match="not trained"):
        list(calibrate(load_tracker(tiny_model, "cpu"), read_sequences(tmp_path), 12))

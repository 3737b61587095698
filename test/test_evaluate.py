"""One-pass evaluation and its result folder, with a tracker whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic import NAN, FakeTracker, moving_boxes, write_sequence

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError
from siamkd_core.evaluate import ResultFolder, SequenceRun, choose_sequences, run_sequence
from siamkd_core.metrics import measure
from siamkd_core.sequences import Sequence, read_sequence, read_sequences

BOXES = moving_boxes(6)
IDENTITY = {"sha256": "aa", "device": "cpu"}


@pytest.fixture
def sequence(tmp_path: Path) -> Sequence:
    return read_sequence(write_sequence(tmp_path / "data" / "patch", BOXES))


@pytest.fixture
def results(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path / "out" / "model", IDENTITY)


def finished(sequence: Sequence) -> SequenceRun:
    return run_sequence(FakeTracker(BOXES[1:]), sequence)


def test_pass_starts_on_the_given_box_and_is_never_corrected(sequence: Sequence) -> None:
    answers = [Box(1, 2, 3, 4)] * 5
    tracker, frames = FakeTracker(answers), []
    run = run_sequence(tracker, sequence, lambda: frames.append(1))
    assert tracker.inits == [BOXES[0]]
    assert run.boxes.tolist() == [list(BOXES[0])] + [list(box) for box in answers]
    assert run.scores.tolist() == [1.0] + [0.5] * 5
    assert (run.updates, len(frames)) == (5, 6)
    assert run.seconds > 0
    assert run.fps == run.updates / run.seconds


def test_absent_frames(tmp_path: Path) -> None:
    truth = [NAN, NAN, BOXES[2], NAN, BOXES[4]]
    sequence = read_sequence(write_sequence(tmp_path / "late", truth))
    tracker = FakeTracker([Box(0, 0, 9, 9), BOXES[4]])
    run = run_sequence(tracker, sequence)
    assert tracker.inits == [BOXES[2]]
    assert np.isnan(run.boxes[:2]).all() and np.isnan(run.scores[:2]).all()
    # The tracker is asked on frames without a target too; they are only not judged.
    assert tracker.updates == 2
    assert measure(run.boxes, sequence.boxes).frames == 2
    assert measure(run.boxes, sequence.boxes).mean_iou == 1


def test_a_sequence_without_any_box_is_named(tmp_path: Path) -> None:
    sequence = read_sequence(write_sequence(tmp_path / "void", [NAN, NAN]))
    with pytest.raises(SiamkdError, match="void: no frame has a true box"):
        run_sequence(FakeTracker([]), sequence)


def test_a_box_that_the_tracker_refuses_names_the_sequence(sequence: Sequence) -> None:
    class Picky(FakeTracker):
        def init(self, image: object, box: Box) -> None:
            raise SiamkdError("too small")

    with pytest.raises(SiamkdError, match="sequence patch, frame 0: too small"):
        run_sequence(Picky([]), sequence)


def test_a_broken_image_is_named(sequence: Sequence) -> None:
    sequence.frames[3].write_bytes(b"broken")
    with pytest.raises(SiamkdError, match=r"0004\.png"):
        finished(sequence)


def test_results_are_plain_text_and_read_back(sequence: Sequence, results: ResultFolder) -> None:
    assert results.load(sequence) is None
    run = results.save(sequence, finished(sequence))
    text = (results.folder / "patch.txt").read_text().splitlines()
    assert text[:2] == ["20.0000,30.0000,24.0000,24.0000", "23.0000,31.5000,24.0000,24.0000"]
    assert (results.folder / "scores" / "patch.txt").read_text().splitlines()[1] == "0.500000"
    assert [path.name for path in results.folder.glob("*.txt")] == ["patch.txt"]
    loaded = ResultFolder(results.folder, IDENTITY).load(sequence)
    assert loaded is not None
    assert np.array_equal(loaded.boxes, run.boxes)
    assert np.array_equal(loaded.scores, run.scores)
    assert (loaded.updates, loaded.seconds) == (run.updates, run.seconds)


def test_a_run_reads_back_as_it_was_returned_though_rounded(
    sequence: Sequence, results: ResultFolder
) -> None:
    run = run_sequence(FakeTracker([Box(1 / 3, 2 / 3, 1e4 / 7, 5)] * 5), sequence)
    stored, again = results.save(sequence, run), results.load(sequence)
    assert again is not None
    assert np.array_equal(stored.boxes, again.boxes)


def spoil_lines(folder: Path) -> None:
    file = folder / "patch.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def spoil_value(folder: Path) -> None:
    file = folder / "patch.txt"
    file.write_text(file.read_text().replace("20.0000", "21.0000"))


def spoil_scores(folder: Path) -> None:
    (folder / "scores" / "patch.txt").write_text("0.5\n")


def spoil_record(folder: Path) -> None:
    (folder / "run.json").write_text('{"sequences": {"patch"')


def spoil_types(folder: Path) -> None:
    (folder / "run.json").write_text('{"sequences": [1]}')


def drop_boxes(folder: Path) -> None:
    (folder / "patch.txt").unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_lines, spoil_value, spoil_scores, spoil_record, spoil_types, drop_boxes]
)
def test_partial_or_edited_results_are_run_again(
    sequence: Sequence, results: ResultFolder, spoil: Callable[[Path], None]
) -> None:
    results.save(sequence, finished(sequence))
    spoil(results.folder)
    assert results.load(sequence) is None
    results.save(sequence, finished(sequence))
    assert results.load(sequence) is not None


@pytest.mark.parametrize("change", [{"sha256": "bb"}, {"device": "cuda"}, {"precision": "float16"}])
def test_results_of_another_model_or_device_are_stale(
    sequence: Sequence, results: ResultFolder, change: dict[str, str]
) -> None:
    results.save(sequence, finished(sequence))
    assert ResultFolder(results.folder, {**IDENTITY, **change}).load(sequence) is None


def test_results_of_another_annotation_are_stale(sequence: Sequence, results: ResultFolder) -> None:
    results.save(sequence, finished(sequence))
    moved = sequence.boxes.copy()
    moved[0, 0] += 1
    assert results.load(Sequence(sequence.name, sequence.frames, moved)) is None
    longer = Sequence(
        sequence.name,
        sequence.frames + sequence.frames[-1:],
        np.vstack([sequence.boxes, sequence.boxes[-1:]]),
    )
    assert results.load(longer) is None


def test_an_interrupted_evaluation_keeps_what_was_finished(
    tmp_path: Path, results: ResultFolder
) -> None:
    for name in ("a", "b"):
        write_sequence(tmp_path / "data" / name, BOXES)
    first, second = read_sequences(tmp_path / "data")
    tracker = FakeTracker(BOXES[1:], fails_at=8)
    results.save(first, run_sequence(tracker, first))
    with pytest.raises(KeyboardInterrupt):
        run_sequence(tracker, second)
    assert results.load(first) is not None
    assert results.load(second) is None
    assert sorted(json.loads((results.folder / "run.json").read_text())["sequences"]) == ["a"]


def test_two_targets_in_one_folder(tmp_path: Path, results: ResultFolder) -> None:
    other = [Box(100, 80, 20, 20)] * 6
    write_sequence(tmp_path / "data" / "pair", BOXES, other)
    one, two = read_sequences(tmp_path / "data")
    assert (one.name, two.name) == ("pair", "pair_2")
    results.save(one, run_sequence(FakeTracker(BOXES[1:]), one))
    run = results.save(two, run_sequence(FakeTracker(other[1:]), two))
    assert measure(run.boxes, two.boxes).mean_iou == 1
    assert measure(run.boxes, one.boxes).mean_iou == 0
    assert sorted(path.stem for path in results.folder.glob("*.txt")) == ["pair", "pair_2"]


def test_choosing_sequences(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_sequence(tmp_path / name, BOXES[:1])
    all_three = read_sequences(tmp_path)
    assert choose_sequences(all_three, None) == all_three
    assert [one.name for one in choose_sequences(all_three, ["c", "a"])] == ["a", "c"]
    with pytest.raises(SiamkdError, match="no sequence d; there are: a, b, c"):
        choose_sequences(all_three, ["a", "d"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, sequence: Sequence) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SiamkdError, match="cannot write results to"):
        ResultFolder(tmp_path / "file" / "model", IDENTITY).save(sequence, finished(sequence))

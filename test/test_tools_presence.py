"""Targets that go and come back: what is played, and what is made of the answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import measure_presence
import numpy as np
import pytest
from measure_presence import Played, accuracy, order, play, playable, shown, table
from synthetic import NAN, moving_boxes, write_sequence

from siamkd_core.box import Box
from siamkd_core.longterm import LongTermTracker
from siamkd_core.modelfile import read_card, write_card
from siamkd_core.presence import PresenceConfig
from siamkd_core.sequences import read_sequence
from siamkd_core.tracker import Track
from siamkd_core.tracker_config import ScoreConfig, TrackerConfig

N = float("nan")
HERE, BESIDE, NOWHERE = (0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 10.0, 10.0), (N, N, N, N)


def test_a_sequence_is_played_forth_and_back() -> None:
    assert order(4, 10) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert order(2, 5) == [0, 1, 0, 1, 0]
    assert order(50, 3) == [0, 1, 2]


def test_the_target_is_covered_while_it_is_gone(tmp_path: Path) -> None:
    boxes = moving_boxes(8)
    sequence = read_sequence(write_sequence(tmp_path / "one", boxes))
    assert playable(sequence, 12, 3)
    for frame, truth in enumerate(boxes):
        # the patch is brighter than 140 somewhere; the background nowhere
        image, box = shown(sequence, frame, covered=False)
        assert image is not None and int(image.max()) > 140 and box == truth
        image, box = shown(sequence, frame, covered=True)
        assert image is not None and int(image.max()) <= 140 and box is None


def test_a_sequence_without_room_or_target_is_left_out(tmp_path: Path) -> None:
    large = read_sequence(write_sequence(tmp_path / "large", moving_boxes(8, side=80)))
    late = read_sequence(write_sequence(tmp_path / "late", [NAN, *moving_boxes(7)]))
    still = read_sequence(write_sequence(tmp_path / "still", moving_boxes(1)))
    assert not any(playable(one, 12, 3) for one in (large, late, still))


class Told:
    """A tracker that is always right about the place, and scores what it is told."""

    def __init__(self, boxes: list[Box], scores: list[float]) -> None:
        self.initialised, self.config = True, TrackerConfig()
        self.answers = iter(zip(boxes, scores, strict=True))

    def init(self, image: object, box: Box) -> None: ...

    def find(
        self, image: object, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        box, score = next(self.answers)
        return Track(box, score, 0.0, 0.0, {})

    def learn(self) -> float:
        return 0.0

    def move_to(self, box: Box, turned: float = 0.0) -> None: ...

    def reset(self) -> None: ...


def test_no_box_is_reported_while_the_target_is_lost(tmp_path: Path) -> None:
    boxes = moving_boxes(12)
    sequence = read_sequence(write_sequence(tmp_path / "one", boxes))
    # gone in frames 4 to 7; lost after 0.2 s below 0.3, back 0.2 s after the first above 0.6
    scores = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    config = PresenceConfig(lost_after=0.2, recover_after=0.2)
    played = play(LongTermTracker(Told(boxes[1:], scores), config), sequence, 12, 4, 0.1)
    assert played.gone == (3, 7)
    assert np.isnan(played.truth).all(1).tolist() == [False] * 3 + [True] * 4 + [False] * 4
    assert np.isnan(played.boxes).all(1).tolist() == [False] * 4 + [True] * 5 + [False] * 2
    assert played.scores.tolist() == scores
    assert (played.noticed_after, played.back_after) == (1, 2)
    assert played.overlap.tolist() == pytest.approx([1.0] * 3 + [0.0] * 6 + [1.0] * 2)


def test_measures_golden() -> None:
    one = Played(
        np.array([HERE, HERE, NOWHERE, NOWHERE, HERE, HERE]),
        np.array([NOWHERE, HERE, HERE, NOWHERE, BESIDE, HERE]),
        np.zeros(6),
        (2, 4),
    )
    # IoU -, 1, 0, -, 1/3, 1: of four reported ones, and of four that are there
    assert accuracy([one]) == pytest.approx((7 / 12, 7 / 12, 7 / 12))
    assert (one.noticed_after, one.back_after) == (1, 1)
    blind = Played(one.truth, np.full((6, 4), N), np.zeros(6), (2, 4))
    # without a box nothing reported is wrong; F is of the means, 19/24 and 7/24
    assert accuracy([one, blind]) == pytest.approx((19 / 24, 7 / 24, 2 * 19 * 7 / 24 / 26))
    # it had no box before, so it noticed nothing
    assert (blind.noticed_after, blind.back_after) == (None, None)
    row = table({"mine": [one, blind]}, rate=10.0).splitlines()[2]
    # one of two frames, and both, without a box before the target goes
    assert row == "| mine | 0.426 | 0.792 | 0.292 | 1 of 2 | 0.10 s | 1 of 2 | 0.10 s | 75.0% |"


def test_the_command_writes_table_and_picture(
    tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, side in (("one", 24), ("large", 80)):
        write_sequence(tmp_path / "data" / name, moving_boxes(8, side=side))
    output = tmp_path / "out" / "presence"
    call = [str(tmp_path / "data"), "--model", str(tiny_model), "--output", str(output)]
    assert measure_presence.main([*call, "--frames", "12", "--gone", "3"]) == 0
    written = output.with_suffix(".md").read_text(encoding="utf-8")
    assert written.strip() in capsys.readouterr().out
    assert written.splitlines()[2].startswith("| tiny |")
    assert "1 targets; left out: large." in written
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    # a score of always 0.88 is lost in the second frame below other thresholds, of three
    write_card(replace(read_card(tiny_model), score=ScoreConfig(0.0, 2.0)), tiny_model)
    slow = [*call, "--frames", "12", "--gone", "3", "--rate", "1", "--thresholds", "0.9", "0.9"]
    assert measure_presence.main([*slow, "0.95"]) == 0
    assert "| 66.7% |" in output.with_suffix(".md").read_text(encoding="utf-8")
    assert measure_presence.main([*slow, "0.8"]) == 2
    assert "recover_score" in capsys.readouterr().err
    for frames, gone in ((12, 8), (5, 1), (12, 0)):
        assert measure_presence.main([*call, "--frames", str(frames), "--gone", str(gone)]) == 2
        assert "must leave frames" in capsys.readouterr().err
    assert measure_presence.main([*call[:2], str(tiny_model), *call[2:]]) == 2
    assert "named twice" in capsys.readouterr().err
    assert measure_presence.main([*call, "--sequences", "large"]) == 2
    assert "no target" in capsys.readouterr().err

"""Tables, curves and contact sheets of an evaluation."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import NAN, moving_boxes, write_sequence

from siamkd_core.evaluate import SequenceRun
from siamkd_core.image import read_image
from siamkd_core.metrics import measure
from siamkd_core.report import Report, Row, cells, markdown, write_pictures, write_report
from siamkd_core.sequences import read_sequence

TRUTH = np.array([[10.0, 10, 20, 20]] * 4)


@pytest.fixture
def report() -> Report:
    perfect = Row("perfect", measure(TRUTH, TRUTH), updates=3, seconds=0.1)
    lost = Row("lost", measure(TRUTH + 500, TRUTH), updates=3, seconds=0.5)
    return Report("tiny", (perfect, lost), {"device": "CPU, 1 thread"})


def test_table(report: Report) -> None:
    text = markdown(report)
    assert "- device: CPU, 1 thread" in text
    assert "| perfect | 4 | 1.000 | 0.952 | 1.000 | 1.000 | 30.0 |" in text
    assert "| lost | 4 | 0.000 | 0.000 | 0.000 | 0.000 | 6.0 |" in text
    # Shares: mean over sequences. Speed: all frames over all seconds, 6 / 0.6.
    mean = "| **mean of 2** | **8** | **0.500** | **0.476** | **0.500** | **0.500** | **10.0** |"
    assert mean in text


def test_speed_that_was_not_measured_is_no_number() -> None:
    row = Row("one frame", measure(TRUTH[:1], TRUTH[:1]), updates=0, seconds=0.0)
    assert math.isnan(row.fps)
    assert cells(row)[-1] == "-"


def test_files(report: Report, tmp_path: Path) -> None:
    paths = write_report(report, tmp_path / "deep" / "siamfc_0.5")
    assert [path.name for path in paths] == ["siamfc_0.5.md", "siamfc_0.5.csv", "siamfc_0.5.png"]
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert [row["sequence"] for row in rows] == ["perfect", "lost", "mean of 2"]
    assert float(rows[0]["auc"]) == pytest.approx(20 / 21, abs=1e-6)
    assert float(rows[2]["fps"]) == 10
    picture = cv2.imread(str(paths[2]))
    assert picture is not None and picture.shape[0] > 300 and picture.std() > 5


def test_pictures_show_prediction_and_truth(tmp_path: Path) -> None:
    truth = [NAN, *moving_boxes(30)[1:]]
    sequence = read_sequence(write_sequence(tmp_path / "patch", truth))
    predicted = sequence.boxes + np.array([0, -12, 0, 0])
    path = tmp_path / "pictures" / "patch.png"
    run = SequenceRun(predicted, np.full(30, 0.5), 28, 1.0)
    write_pictures(sequence, run, path, tiles=6)
    sheet = read_image(path).astype(int)
    assert sheet.shape[1] > 4 * 320
    green = (sheet[..., 1] - np.maximum(sheet[..., 0], sheet[..., 2])) > 60
    amber = (np.minimum(sheet[..., 1], sheet[..., 2]) - sheet[..., 0]) > 80
    assert green.sum() > 200
    assert amber.sum() > 200

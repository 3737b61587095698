"""The measures, against values of the got10k toolkit 0.1.3 and of plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siamkd_core.metrics import center_error, macro_mean, measure, overlap

PREDICTED = np.array(
    [
        [50, 46, 25, 62],
        [46.5, 39.8, 25, 62],
        [34.6, 35.6, 25.5, 61],
        [40, 52, 20, 70],
        [61, 33, 31, 48],
        [90, 90, 12, 12],
        [10, 10, 200, 150],
        [72.25, 40.5, 24, 66],
        [75, 41, 24, 66],
        [100, 44, 30, 30],
    ]
)
TRUTH = np.array(
    [
        [50, 46, 25, 62],
        [46, 41, 24, 62],
        [33, 35, 24, 65],
        [38, 37, 24, 65],
        [54, 36, 25, 65],
        [62, 38, 25, 65],
        [68, 39, 24, 65],
        [72, 40, 24, 66],
        [75, 41, 24, 66],
        [81, 44, 25, 64],
    ],
    dtype=float,
)
# Printed by got10k 0.1.3 (rect_iou, center_error, ExperimentOTB._calc_curves, 21 and 51 bins).
GOT10K_IOU = [
    1.0,
    0.887894606,
    0.7812017609,
    0.5102040816,
    0.3517151541,
    0.0,
    0.052,
    0.9648034731,
    1.0,
    0.0775862069,
]
GOT10K_ERROR = [
    0.0,
    1.5620499352,
    2.7354158733,
    17.5,
    15.2397506541,
    33.3541601603,
    32.8975682992,
    0.5590169944,
    0.0,
    27.4089401473,
]
GOT10K_SUCCESS = [9, 9, 7, 7, 7, 7, 7, 7, 6, 6, 6, 5, 5, 5, 5, 5, 4, 4, 3, 3, 0]
# Plain Python over the same boxes: hypot(dx / w, dy / h), counted at 0, 0.01 .. 0.5.
NORM_COUNTS = [2] * 2 + [3] * 3 + [4] * 6 + [5] * 16 + [6] * 17 + [7] * 7


def boxes_strategy(rows: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (rows, 4), elements=st.floats(1, 300, width=32))


def test_values_of_the_got10k_toolkit() -> None:
    result = measure(PREDICTED, TRUTH)
    assert overlap(PREDICTED, TRUTH) == pytest.approx(GOT10K_IOU, abs=1e-9)
    assert center_error(PREDICTED, TRUTH) == pytest.approx(GOT10K_ERROR, abs=1e-9)
    assert (result.success * 10).round(9).tolist() == GOT10K_SUCCESS
    assert result.frames == 10
    assert result.mean_iou == pytest.approx(0.5625405282734441)
    assert result.auc == pytest.approx(0.5571428571428573)
    assert result.precision_at_20 == pytest.approx(0.7)
    assert result.precision[16] == pytest.approx(0.6)


def test_normalised_precision_by_plain_arithmetic() -> None:
    result = measure(PREDICTED, TRUTH)
    assert (result.norm_precision * 10).round(9).tolist() == NORM_COUNTS
    assert result.norm_precision_auc == pytest.approx(0.5254901960784314)


def test_agrees_with_the_got10k_toolkit_where_it_is_installed() -> None:
    got10k = pytest.importorskip("got10k.utils.metrics", reason="got10k is not installed")
    rng = np.random.default_rng(3)
    truth = rng.uniform(5, 120, (400, 4))
    predicted = truth + rng.normal(0, 15, truth.shape)
    predicted[:, 2:] = np.maximum(predicted[:, 2:], 1)
    ious, errors = got10k.rect_iou(predicted, truth), got10k.center_error(predicted, truth)
    result = measure(predicted, truth)
    assert result.mean_iou == pytest.approx(ious.mean())
    # ExperimentOTB: strictly greater for the overlap, less or equal for the distance.
    success = np.greater(ious[:, None], np.linspace(0, 1, 21)).mean(axis=0)
    precision = np.less_equal(errors[:, None], np.arange(51)).mean(axis=0)
    assert np.array_equal(result.success, success)
    assert np.array_equal(result.precision, precision)


def test_perfect_result() -> None:
    result = measure(TRUTH, TRUTH)
    assert result.mean_iou == 1
    # No IoU is greater than 1, so one of the 21 thresholds is never passed.
    assert result.auc == pytest.approx(20 / 21)
    assert result.precision.tolist() == [1.0] * 51
    assert result.norm_precision_auc == 1


def test_thresholds_are_strict_for_overlap_and_inclusive_for_distance() -> None:
    truth = np.array([[0.0, 0, 10, 10]])
    half = measure(np.array([[0.0, 0, 10, 5]]), truth)  # IoU exactly 0.5
    assert half.success[9] == 1
    assert half.success[10] == 0
    away = measure(np.array([[20.0, 0, 10, 10]]), truth)  # exactly 20 px
    assert away.precision[19] == 0
    assert away.precision_at_20 == 1


@pytest.mark.parametrize("row", [[np.nan] * 4, [0, 0, 0, 0], [np.nan, 0, 5, 5], [1, 1, np.inf, 2]])
def test_frames_without_a_true_box_are_left_out(row: list[float]) -> None:
    absent = np.array([row])
    result = measure(np.vstack([PREDICTED, TRUTH[:1]]), np.vstack([TRUTH, absent]))
    assert result.frames == 10
    assert result.mean_iou == measure(PREDICTED, TRUTH).mean_iou


@pytest.mark.parametrize("row", [[np.nan] * 4, [81, 44, 0, 0], [81, 44, -3, 64]])
def test_no_prediction_is_a_miss(row: list[float]) -> None:
    predicted = TRUTH.copy()
    predicted[-1] = row
    result = measure(predicted, TRUTH)
    assert result.mean_iou == pytest.approx(0.9)
    assert result.success[0] == pytest.approx(0.9)
    assert result.precision[-1] == pytest.approx(0.9)
    assert result.norm_precision[-1] == pytest.approx(0.9)


def test_macro_mean_weighs_sequences_alike() -> None:
    good, bad = measure(TRUTH[:2], TRUTH[:2]), measure(TRUTH + 1000, TRUTH)
    mean = macro_mean([good, bad])
    assert mean.frames == 12
    assert mean.mean_iou == pytest.approx(0.5)
    assert mean.auc == pytest.approx(10 / 21)
    assert mean.precision_at_20 == pytest.approx(0.5)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ValueError, match="alike"):
        measure(PREDICTED[:3], TRUTH)
    with pytest.raises(ValueError, match="no frame has a true box"):
        measure(PREDICTED[:1], np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="no sequences"):
        macro_mean([])


@settings(max_examples=60, deadline=None)
@given(boxes_strategy(6), boxes_strategy(6), st.floats(0.1, 10), st.floats(-200, 200))
def test_properties(a: np.ndarray, b: np.ndarray, scale: float, shift: float) -> None:
    ious = overlap(a, b)
    assert ((ious >= 0) & (ious <= 1 + 1e-12)).all()
    assert ious == pytest.approx(overlap(b, a))
    assert overlap(a, a) == pytest.approx(np.ones(6))
    offset = np.array([shift, -shift, 0, 0])
    assert overlap(a * scale + offset, b * scale + offset) == pytest.approx(ious, abs=1e-6)
    assert center_error(a * scale, b * scale) == pytest.approx(
        center_error(a, b) * scale, rel=1e-9, abs=1e-9
    )
    assert center_error(a * scale, b * scale, normalised=True) == pytest.approx(
        center_error(a, b, normalised=True), rel=1e-9, abs=1e-9
    )
    result = measure(a, b)
    for curve, direction in ((result.success, -1), (result.precision, 1)):
        assert (np.diff(curve) * direction >= 0).all()

"""Measures of single-object tracking, as pure functions of predicted and true boxes.

One-pass evaluation after OTB (Wu, Lim, Yang, "Object Tracking Benchmark", TPAMI 2015), in the
thresholds and comparisons of the `got10k` toolkit's ExperimentOTB:

* success: share of frames whose IoU is *greater than* (not equal to) each of the 21 thresholds
  0, 0.05 .. 1; AUC is the mean of the 21 shares. A perfect result therefore has an AUC of 20/21.
* precision: share of frames whose centre error is *at most* each of 0, 1 .. 50 pixels; the figure
  is the share at 20 pixels.
* normalised precision (Muller et al., "TrackingNet", ECCV 2018; LaSOT likewise): the x and y parts
  of the centre error divided by the true width and height; share of frames at most each of the 51
  thresholds 0, 0.01 .. 0.5; the figure is the mean of the 51 shares (some tools print the share at
  0.2 instead).
* mean IoU, GOT-10k's "average overlap" (AO).

Frames without a true box (nan, or a side of zero) are left out. The first frame, where the tracker
is given the box, counts, as in OTB. No box predicted (nan, or a side of zero) on a frame that has a
true one counts as IoU 0 and as a miss at every distance. Boxes are not clipped to the picture.

All arrays of boxes are (N, 4) float64, xywh, pixels, 0-based.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamkd_core.box import BoolArray, FloatArray, iou, present

IOU_THRESHOLDS: FloatArray = np.linspace(0, 1, 21, dtype=np.float64)
PIXEL_THRESHOLDS: FloatArray = np.arange(51, dtype=np.float64)
NORM_THRESHOLDS: FloatArray = np.linspace(0, 0.5, 51, dtype=np.float64)
PRECISION_PIXELS = 20


@dataclass(frozen=True)
class Measures:
    """The figures of one sequence, or their mean over several. Shares and IoU are 0..1.

    Attributes:
        frames: frames judged (those with a true box).
        success: (21,) float64, share of frames over IOU_THRESHOLDS.
        precision: (51,) float64, share of frames within PIXEL_THRESHOLDS.
        norm_precision: (51,) float64, share of frames within NORM_THRESHOLDS.
    """

    frames: int
    mean_iou: float
    success: FloatArray
    precision: FloatArray
    norm_precision: FloatArray

    @property
    def auc(self) -> float:
        return float(np.mean(self.success))

    @property
    def precision_at_20(self) -> float:
        return float(self.precision[PRECISION_PIXELS])

    @property
    def norm_precision_auc(self) -> float:
        return float(np.mean(self.norm_precision))


def measure(predicted: FloatArray, truth: FloatArray) -> Measures:
    """Judge one sequence.

    Args:
        predicted: (N, 4) float64, xywh; nan where there is no prediction.
        truth: (N, 4) float64, xywh; nan where the target is absent.

    Raises:
        ValueError: other shapes, different lengths, or no frame with a true box.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    truth = np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4) alike; got {predicted.shape} and {truth.shape}")
    judged = present(truth)
    if not judged.any():
        raise ValueError("no frame has a true box")
    predicted, truth = predicted[judged], truth[judged]
    overlaps = overlap(predicted, truth)
    errors = center_error(predicted, truth)
    norm_errors = center_error(predicted, truth, normalised=True)
    return Measures(
        frames=len(truth),
        mean_iou=float(overlaps.mean()),
        success=np.mean(overlaps[:, None] > IOU_THRESHOLDS, axis=0),
        precision=np.mean(errors[:, None] <= PIXEL_THRESHOLDS, axis=0),
        norm_precision=np.mean(norm_errors[:, None] <= NORM_THRESHOLDS, axis=0),
    )


def macro_mean(measures: Sequence[Measures]) -> Measures:
    """The mean over sequences, each weighing the same; `frames` is the sum.

    Raises:
        ValueError: no sequences.
    """
    if not measures:
        raise ValueError("the mean over no sequences is not defined")
    return Measures(
        frames=sum(one.frames for one in measures),
        mean_iou=float(np.mean([one.mean_iou for one in measures])),
        success=np.mean([one.success for one in measures], axis=0),
        precision=np.mean([one.precision for one in measures], axis=0),
        norm_precision=np.mean([one.norm_precision for one in measures], axis=0),
    )


def overlap(predicted: FloatArray, truth: FloatArray) -> FloatArray:
    """IoU of each row: (N,) float64 in [0, 1]; 0 where either row is no box."""
    both: BoolArray = np.logical_and(present(predicted), present(truth))
    values = np.zeros(len(truth))
    if both.any():
        values[both] = iou(predicted[both], truth[both])
    return values


def center_error(
    predicted: FloatArray, truth: FloatArray, *, normalised: bool = False
) -> FloatArray:
    """Distance of the centres of each row: (N,) float64; infinite where either row is no box.

    In pixels; `normalised` divides x by the true width and y by the true height beforehand.
    """
    both: BoolArray = np.logical_and(present(predicted), present(truth))
    values = np.full(len(truth), np.inf)
    found, true = predicted[both], truth[both]
    # Centre by centre, so that equal boxes are exactly 0 apart.
    offset = (found[:, :2] + found[:, 2:] / 2) - (true[:, :2] + true[:, 2:] / 2)
    if normalised:
        offset = offset / true[:, 2:]
    values[both] = np.hypot(offset[:, 0], offset[:, 1])
    return values

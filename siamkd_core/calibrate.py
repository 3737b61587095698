"""Make the score a probability: fit it on targets that are there and targets that are not.

A response map always has a highest place, so its value alone says little about presence; how much
what is found there looks like the target says more. The calibration weighs the two. It asks the
tracker itself, on sequences it was not trained on: from a place near the true target (right if the
found box overlaps the truth by half or more); in the same frame after the target was covered with
what lies beside it (`siamkd_core.vanish`); and on the frames of another sequence. A tracker that
lost its target looks at the place where it was far more often than at another scene, and is far
surer of itself there: what it sees is in part what its exemplar shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from siamkd_core.box import Box, FloatArray, iou, present
from siamkd_core.errors import BoxError, DataError
from siamkd_core.image import Image, read_image
from siamkd_core.sequences import Sequence
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import ScoreConfig
from siamkd_core.vanish import without_target

MAX_GAP = 100
"""Most frames between the exemplar and the image it is looked for in."""
TRIES = 100
"""Boxes in a row that the tracker may refuse."""


@dataclass(frozen=True)
class Calibration:
    """A fitted score and how well it separates.

    Attributes:
        score: weights and bias.
        values: (N,) float64 response logits at the chosen place.
        likenesses: (N,) float64 of what is there to the target.
        present: (N,) bool, the chosen box overlaps the target by at least half.
        gone: (N,) bool, a look at the target's own scene after it had gone.
    """

    score: ScoreConfig
    values: FloatArray
    likenesses: FloatArray
    present: np.ndarray
    gone: np.ndarray

    @property
    def roc_auc(self) -> float:
        """Probability that a present target has the higher score than an absent one."""
        return roc_auc(self.logits, self.present)

    @property
    def roc_auc_gone(self) -> float:
        """The same against the looks at scenes that the target had gone from; nan if there were
        none."""
        looks = self.present | self.gone
        return roc_auc(self.logits[looks], self.present[looks]) if self.gone.any() else float("nan")

    @property
    def scores(self) -> FloatArray:
        """(N,) float64, what the fitted score says of each look."""
        return np.asarray(1 / (1 + np.exp(-self.logits)))

    @property
    def logits(self) -> FloatArray:
        """(N,) float64, the same before the logistic, which rounds to 1 what is far above 0."""
        fit = self.score
        return np.asarray(fit.slope * self.values + fit.likeness * self.likenesses + fit.bias)


class OperatingPoint(NamedTuple):
    """What a threshold on the score does: the share of present targets with a score below it, and
    of absent ones with a score at or above it."""

    threshold: float
    missed: float
    false_alarms: float


def operating_points(scores: FloatArray, labels: np.ndarray) -> list[OperatingPoint]:
    """Thresholds 0.05, 0.1 .. 0.95, to choose those of `siamkd_core.presence` by.

    Args:
        scores: (N,) float64, 0 to 1.
        labels: (N,) bool, True where the target was present; both kinds.
    """
    return [
        OperatingPoint(
            round(float(threshold), 2),
            float((scores[labels] < threshold).mean()),
            float((scores[~labels] >= threshold).mean()),
        )
        for threshold in np.arange(1, 20) / 20
    ]


def calibrate(
    tracker: Tracker, sequences: list[Sequence], draws: int = 200, seed: int = 0
) -> Iterator[tuple[int, Calibration | None]]:
    """Yield ``(draws done, None)`` as it goes and ``(draws, result)`` at the end.

    Each draw looks once where the target is, once where it was, unless it fills too much of the
    image to be covered, and once where it never was.

    Args:
        tracker: of its card's calibration is used whether the given target scores enough for its
            `correct_size`, and whether a look does for its size (`size_score`); nothing is learnt.
        sequences: at least two videos, none of them trained on.
        draws: how many looks of each kind, of the second at most.
        seed: of what is drawn.

    Raises:
        DataError: fewer than two videos, all looks of one kind, or hardly a box that can be given.
    """
    folders = {s.frames[0].parent for s in sequences if s.frames}
    if len(folders) < 2:
        raise DataError("a calibration needs at least two videos, so that a target can be absent")
    rng = np.random.default_rng(seed)
    values, likenesses, found, gone = [], [], [], []

    def look(place: Box, image: Image, kind: bool) -> Box:
        tracker.move_to(place)
        track = tracker.update(image, learn=False, turn=False, revisit=False)
        values.append(track.value)
        seen = track.likeness  # nan where the card's score has not asked for it
        likenesses.append(tracker.alike(image, track.box) if np.isnan(seen) else seen)
        gone.append(kind)
        return track.box

    for draw in range(draws):
        a, z = _given(tracker, sequences, rng)
        x = _draw_near(a, z, rng)
        truth = Box(*a.boxes[x])
        shift = rng.uniform(-0.5, 0.5, 2) * (truth.w, truth.h)
        near = Box(truth.x + shift[0], truth.y + shift[1], truth.w, truth.h)
        image = read_image(a.frames[x])
        box = look(near, image, False)
        found.append(bool(iou(np.array(box), np.array(truth))[0] >= 0.5))

        empty = without_target(image, truth, rng)
        if empty is not None:
            look(near, empty, True)
            found.append(False)

        others = [s for s in sequences if s.frames[0].parent != a.frames[0].parent]
        b, y = _draw_frame(others, rng)
        there = Box(*b.boxes[y])
        away = Box.from_center(there.cx, there.cy, truth.w, truth.h)
        look(away, read_image(b.frames[y]), False)
        found.append(False)
        yield draw + 1, None
    seen, alike, labels = np.array(values), np.array(likenesses), np.array(found)
    if labels.all() or not labels.any():
        raise DataError("every look found the same answer; is this model trained at all?")
    score = fit_score(seen, alike, labels)
    if score.slope <= 0:
        raise DataError("a higher response means a target less often; this model is not trained")
    yield draws, Calibration(score, seen, alike, labels, np.array(gone))


def fit_score(values: FloatArray, likenesses: FloatArray, labels: np.ndarray) -> ScoreConfig:
    """The score of both; of the values alone where a greater likeness does not speak for a target,
    or all weight would go to it.

    Args:
        values, likenesses: (N,) float64.
        labels: (N,) bool, both kinds present.
    """
    (alone,), at = fit_logistic(values[:, None], labels)
    (slope, likeness), bias = fit_logistic(np.stack([values, likenesses], 1), labels)
    if likeness > 0 and slope > 0:
        return ScoreConfig(slope, bias, likeness, alone, at)
    return ScoreConfig(alone, at)


def fit_logistic(
    features: FloatArray, labels: np.ndarray, steps: int = 50
) -> tuple[list[float], float]:
    """Maximum likelihood of ``P(label) = sigmoid(weights . features + bias)``, both classes
    weighing the same; targets are smoothed as by Platt (1999), so separable values stay finite.

    Args:
        features: (N, F) float64.
        labels: (N,) bool, both kinds present.
        steps: of Newton's method.

    Returns:
        the F weights, and the bias.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-12
    x = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], axis=1)
    positives, negatives = labels.sum(), (~labels).sum()
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weight = np.where(labels, 0.5 / positives, 0.5 / negatives)
    beta: FloatArray = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weight * (p - target))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(len(beta))
        beta = beta - np.linalg.solve(hessian, gradient)
    weights = beta[:-1] / spread
    return weights.tolist(), float(beta[-1] - weights @ mean)


def roc_auc(values: FloatArray, labels: np.ndarray) -> float:
    """Share of (present, absent) pairs where the present one has the higher value; ties half."""
    higher = values[labels][:, None] - values[~labels][None, :]
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def _draw_frame(sequences: list[Sequence], rng: np.random.Generator) -> tuple[Sequence, int]:
    sequence = sequences[int(rng.integers(len(sequences)))]
    there = np.flatnonzero(present(sequence.boxes))
    if not len(there):
        raise DataError(f"{sequence.name} has no frame with its target")
    return sequence, int(rng.choice(there))


def _given(
    tracker: Tracker, sequences: list[Sequence], rng: np.random.Generator
) -> tuple[Sequence, int]:
    """Give the tracker a target that it takes, and say of which frame."""
    for _ in range(TRIES):
        sequence, frame = _draw_frame(sequences, rng)
        try:
            tracker.init(read_image(sequence.frames[frame]), Box(*sequence.boxes[frame]))
            return sequence, frame
        except BoxError as error:
            # annotated, and outside of the image
            refused = f"{sequence.name}, frame {frame}: {error}"
    raise DataError(f"{TRIES} boxes in a row are no targets to be given, the last: {refused}")


def _draw_near(sequence: Sequence, frame: int, rng: np.random.Generator) -> int:
    there = np.flatnonzero(present(sequence.boxes))
    return int(rng.choice(there[np.abs(there - frame) <= MAX_GAP]))

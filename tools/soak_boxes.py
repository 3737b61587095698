"""The soak's boxes, good and bad, with what must come of each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from patch_scene import SIDE, place
from soak_camera import SECOND, Shown
from soak_ledger import Demand
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

LATE = 0.3
"""Seconds that a box may be drawn late: well within the ring at 60 Hz."""
AHEAD = 60 * SECOND
AGO = 7 * 24 * 3600 * SECOND
"""Nanoseconds by which a stamp is ahead or old; the latter longer ago than all gaps together, as in
a gap an image has not arrived, which is told otherwise."""
BAD = {
    "tiny": "under one pixel",
    "not finite": "not finite",
    "empty": "must be positive",
    "outside": "outside",
    "old": " old; ",
    "future": "ahead",
}


def make_box(
    kind: str, label: str, shown: Sequence[Shown], size: tuple[int, int], chance: random.Random
) -> tuple[Demand, Any]:
    """A message for `~/init`, and what must come of it.

    Args:
        kind: ``box`` for the newest image, ``late box`` for one of the last, or ``bad box``.
        label: that the box goes under.
        shown: the latest images, at least one.
        size: of the images, (width, height).
    """
    recent = [one for one in shown if shown[-1].stamp - one.stamp <= LATE * SECOND]
    frame = chance.choice(recent) if kind == "late box" else shown[-1]
    x, y = place(frame.number, *size)
    values = [x + SIDE / 2, y + SIDE / 2, float(SIDE), float(SIDE)]
    stamp = 0
    if kind == "late box":
        stamp = frame.stamp
        demand = Demand("good boxes, earlier image", label, may=" old; ")
    elif kind == "box":
        demand = Demand("good boxes, newest image", label)
    else:
        fault = chance.choice(sorted(BAD))
        demand = Demand(f"bad boxes, {fault}", label, BAD[fault])
        if fault == "tiny":
            values[2:] = [0.5, 0.5]
        elif fault == "not finite":
            values[chance.randrange(4)] = chance.choice([math.nan, math.inf])
        elif fault == "empty":
            values[3] = 0.0
        elif fault == "outside":
            values[0] = -500.0
        else:
            stamp = frame.stamp + (AHEAD if fault == "future" else -AGO)
    message = Detection2D()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    centre = message.bbox.center.position
    centre.x, centre.y, message.bbox.size_x, message.bbox.size_y = values
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = label
    message.results.append(hypothesis)
    return demand, message

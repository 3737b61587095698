"""Between vision_msgs boxes (centre and size) and `siamkd_core.box.Box` (left, top, size).

vision_msgs does not say whether pixel 0's centre is 0 or 0.5. Here it is 0.5, as everywhere in this
package: a box over the whole of a 640x480 image has its centre at (320, 240).
"""

from __future__ import annotations

import math
from typing import Any

from siamkd_core.box import Box, check_target_box
from siamkd_core.errors import BoxError
from siamkd_ros.rejected import Rejected

MAX_TEXT = 64
"""Characters of a label or id."""


def box_from_detection(detection: Any) -> Box:
    """The box of a vision_msgs/Detection2D. A rotated one gives the upright box that encloses it.

    Raises:
        Rejected: `box_not_finite` or `box_size`.
    """
    bbox = detection.bbox
    cx, cy, theta = bbox.center.position.x, bbox.center.position.y, bbox.center.theta
    w, h = bbox.size_x, bbox.size_y
    if not all(math.isfinite(value) for value in (cx, cy, theta, w, h)):
        raise Rejected(
            "box_not_finite",
            f"the box (centre {cx:g}, {cy:g}, size {w:g}x{h:g}, angle {theta:g}) is not finite",
        )
    if w <= 0 or h <= 0:
        raise Rejected("box_size", f"the box has size {w:g}x{h:g}; it must be positive")
    cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
    upright = Box.from_center(cx, cy, w * cos + h * sin, w * sin + h * cos)
    if not all(math.isfinite(value) for value in upright):
        raise Rejected("box_size", f"the box has size {w:g}x{h:g}, beyond any image")
    return upright


def check_box(box: Box, width: int, height: int) -> Box:
    """`box` if it can be a target in a `width` x `height` image.

    Raises:
        Rejected: `box_size` or `box_outside`.
    """
    try:
        return check_target_box(box, width, height)
    except BoxError as error:
        inside = 0 <= box.cx <= width and 0 <= box.cy <= height
        raise Rejected("box_size" if inside else "box_outside", str(error)) from error


def label_from_detection(detection: Any) -> str:
    """The class the operator named, or `target`. Cut, as it goes out again with every frame."""
    results = detection.results
    label = results[0].hypothesis.class_id if results else ""
    return str(label)[:MAX_TEXT] or "target"


def id_from_detection(detection: Any) -> str:
    """What the sender calls this box, to know the answer by. Cut too."""
    return str(detection.id)[:MAX_TEXT]


def fill_detection(detection: Any, box: Box, score: float, label: str, hypothesis: Any) -> None:
    """Write `box` and `score` into a vision_msgs/Detection2D.

    Args:
        hypothesis: an empty vision_msgs/ObjectHypothesisWithPose to fill and append.
    """
    write_box(detection.bbox, box)
    hypothesis.hypothesis.class_id = label
    hypothesis.hypothesis.score = float(score)
    detection.results.append(hypothesis)


def write_box(bbox: Any, box: Box) -> None:
    """Write `box` into a vision_msgs/BoundingBox2D."""
    # anything but a float (an int, a numpy.float32) makes rclpy abort the process when it publishes
    bbox.center.position.x, bbox.center.position.y = float(box.cx), float(box.cy)
    bbox.size_x, bbox.size_y = float(box.w), float(box.h)

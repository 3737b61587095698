"""The processes of the latency measurement: nodes that note their times in a file as they end."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from latency_run import NETWORK

from siamkd_ros import runtime
from siamkd_ros.intake import nanoseconds


def play(role: str, notes: Path, default_malloc: bool) -> int:
    """Be the camera, the bare subscriber or the tracker until Ctrl-C; the exit code.

    Args:
        notes: file that is written as it ends.
        default_malloc: leave malloc's thresholds as they are.
    """
    if default_malloc:
        runtime.keep_image_memory = lambda: False
    # each makes what it alone needs: a bare subscriber that has PyTorch loaded is not bare
    made = {"camera": _camera, "bare": _bare, "tracker": _tracker}[role]()

    class Noting(made):  # type: ignore[misc,valid-type]
        def close(self) -> None:
            super().close()
            notes.write_text(json.dumps(self.notes))

    return runtime.run(Noting, sys.argv)


def _camera() -> Any:
    from siamkd_ros.camera_node import CameraNode

    class NotingCamera(CameraNode):
        """Notes the stamps of its images."""

        def __init__(self) -> None:
            self.notes: list[int] = []
            super().__init__()

        def publish(self, image: Any, age: float = 0.0) -> Any:
            message = super().publish(image, age)
            self.notes.append(nanoseconds(message.header.stamp))
            return message

    return NotingCamera


def _tracker() -> Any:
    from siamkd_ros.tracker_node import TrackerNode

    class NotingTracker(TrackerNode):
        """Notes each frame's stamp, its seconds in the network, and the process's page faults."""

        def __init__(self) -> None:
            self.notes: list[tuple[int, float, int]] = []
            super().__init__()

        def target(self, frame: Any, track: Any, target: str, label: str) -> None:
            super().target(frame, track, target, label)
            if track is not None:
                network = sum(track.seconds[stage] for stage in NETWORK)
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                self.notes.append((frame.stamp, network, faults))

    return NotingTracker


def _bare() -> Any:
    from rclpy.node import Node
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    from siamkd_ros.qos import newest_image

    class Bare(Node):  # type: ignore[misc]
        """Answers each image with an empty message."""

        def __init__(self) -> None:
            super().__init__("bare")
            self.notes: list[int] = []
            self._out = self.create_publisher(Detection2DArray, "tracker/target", 10)
            self.create_subscription(Image, "image", self._on_image, newest_image())

        def _on_image(self, message: Any) -> None:
            self._out.publish(Detection2DArray(header=message.header))

        def close(self) -> None:
            """Nothing to stop."""

    return Bare

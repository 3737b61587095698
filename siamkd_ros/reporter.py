"""What the node says about itself: `~/status`, `/diagnostics`, and the log. It speaks in every
lifecycle state, so that silence means that the process is gone."""

from __future__ import annotations

import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from siamkd_ros.diagnostics import Report, Task, status_task
from siamkd_ros.qos import latched
from siamkd_ros.rejected import Rejected

WARN_EVERY = 5.0


class Reporter:
    """Publishers and log of one node.

    Args:
        hardware_id: for DiagnosticStatus: the image topic.
    """

    def __init__(self, node: Node, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._prefix = node.get_fully_qualified_name().lstrip("/")
        self._status = node.create_publisher(DiagnosticStatus, "~/status", latched())
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._warned: dict[str, float] = {}
        self._last: tuple[Any, str] | None = None

    def status(self, report: Report, model: str) -> None:
        """Publish ~/status; a change of state or target is one log line."""
        self._status.publish(self._message(status_task(report, model)))
        state = (report.state, report.target)
        if state != self._last:
            self._last = state
            self._node.get_logger().info(f"{report.state.value}: {report.reason}")

    def diagnostics(self, tasks: tuple[Task, ...]) -> None:
        """Publish /diagnostics."""
        message = DiagnosticArray(status=[self._message(task) for task in tasks])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def rejected(self, error: Rejected) -> None:
        self.warn(error.reason, f"refused ({error.reason}): {error}")

    def failed(self, error: Exception) -> None:
        """An error that nobody foresaw; the node goes on."""
        if not self._node.context.ok():
            return  # a signal came: nothing can be published any more, and that is all it says
        trace = "".join(traceback.format_exception(error))
        self.warn(type(error).__name__, f"unexpected error, going on:\n{trace}")

    def warn(self, key: str, text: str, every: float = WARN_EVERY) -> None:
        """Log a warning, each kind at most once in `every` seconds."""
        now = time.monotonic()
        if now - self._warned.get(key, -every) >= every:
            self._warned[key] = now
            self._node.get_logger().warning(text)

    def _message(self, task: Task) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([task.level]),
            name=f"{self._prefix}: {task.name}",
            message=task.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in task.values.items()],
        )

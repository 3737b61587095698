"""The demo's node processes: started in a ROS graph of their own, watched, and always stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TAIL = 12
"""Lines of a dead process's log that are shown."""
STOP_LIMITS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))

Value = bool | int | float | str


class ProcessDied(Exception):
    """A node process ended by itself; the message holds the end of its log."""


def isolate(profile: Path) -> None:
    """Give this process and its children a ROS graph of their own, on this machine only.

    To be called before rclpy starts.

    Args:
        profile: Fast DDS profiles, with a shared memory segment that large images fit into.
    """
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    # Jazzy's older switch would override the one above.
    for name in ("ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"):
        os.environ.pop(name, None)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)


class Child:
    """One node of siamkd_ros as a process of its own, its output in `<folder>/<name>.log`."""

    def __init__(self, name: str, parameters: Mapping[str, Value], folder: Path) -> None:
        """`name` is that of the node, `parameters` are its ROS parameters."""
        self.name = name
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", f"siamkd_ros.{name}_node", *ros_arguments(parameters)]
        with open(self.log, "w") as output:
            # A session of its own: Ctrl-C goes to the demo, which then stops its children in order.
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def resident_megabytes(self) -> float:
        """Memory of the process on Linux, MB; 0 once it ended."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def check(self, may_finish: bool = False) -> None:
        """Raise ProcessDied if the process ended, or, with `may_finish`, ended with an error."""
        code = self._process.poll()
        if code is None or (may_finish and code == 0):
            return
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise ProcessDied(
            f"the process '{self.name}' {how}. The end of {self.log}:\n    " + "\n    ".join(lines)
        )

    def stop(self) -> None:
        """End the process, politely first, and wait until it is gone."""
        for number, limit in STOP_LIMITS:
            if not self.running:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(limit)
            except subprocess.TimeoutExpired:
                continue


def ros_arguments(parameters: Mapping[str, Value]) -> list[str]:
    """`--ros-args -p name:=value ...`, values as YAML; strings quoted, or `0` would be a number."""
    pairs = [f"{name}:={json.dumps(value)}" for name, value in parameters.items()]
    return ["--ros-args", *(word for pair in pairs for word in ("-p", pair))]

"""The nodes as commands: without ROS, a sentence instead of a traceback."""

from __future__ import annotations

import importlib
import sys


def tracker() -> None:
    _run("tracker_node")


def camera() -> None:
    _run("camera_node")


def box_picker() -> None:
    _run("box_picker_node")


def select_box() -> None:
    _run("select_box_node")


def _run(module: str) -> None:
    try:
        node = importlib.import_module(f"siamkd_ros.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("siamkd_core", "siamkd_ros"):
            raise
        sys.exit(
            f"the nodes need ROS 2, and its Python module {error.name!r} is missing: source "
            "/opt/ros/<distro>/setup.bash first (and the workspace's install/setup.bash). Without "
            "ROS, the command line is: siamkd --help"
        )
    node.main()

"""siamkd_ros.entry: the nodes' commands on a machine without ROS."""

from __future__ import annotations

import importlib

import pytest

from siamkd_ros import entry


@pytest.mark.parametrize(
    "command", [entry.tracker, entry.camera, entry.box_picker, entry.select_box]
)
def test_without_ros_the_command_says_what_to_do(command, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'rclpy'", name="rclpy")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SystemExit) as end:
        command()
    assert "'rclpy' is missing" in str(end.value.code)
    assert "setup.bash" in str(end.value.code)


def test_a_fault_of_our_own_is_not_blamed_on_ros(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named", name="siamkd_ros.nothing")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        entry.tracker()

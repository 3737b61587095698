"""launch/tracker.launch.py with real launch_ros, where that is installed (apt ROS; no wheel)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from ros_support import PATIENCE, ROOT, Observer, place, rclpy, tiny_model, values, write_clip

launch = pytest.importorskip("launch", reason="needs ROS 2's launch (apt, not a wheel)")
pytest.importorskip("launch_ros", reason="needs ROS 2's launch_ros (apt, not a wheel)")

LAUNCH_FILE = ROOT / "launch/tracker.launch.py"
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *arguments = sys.argv[1:]
source = PythonLaunchDescriptionSource(file)
pairs = [argument.split(":=", 1) for argument in arguments]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=pairs)])
)
sys.exit(service.run())
"""


def description() -> Any:
    spec = spec_from_file_location("tracker_launch", LAUNCH_FILE)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def installed() -> bool:
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        prefix = Path(get_package_prefix("siamkd_ros"))
    except PackageNotFoundError:
        return False
    return (prefix / "lib/siamkd_ros/tracker").exists()


def test_every_argument_is_described() -> None:
    arguments = description().get_launch_arguments()
    names = {argument.name for argument in arguments}
    assert names >= {"image", "model", "namespace", "params_file", "use_sim_time", "respawn"}
    for argument in arguments:
        assert len(argument.description) > 15, argument.name
        assert argument.default_value is not None, argument.name


@pytest.fixture
def observer() -> Iterator[Observer]:
    rclpy.init()
    made = Observer("robot")
    yield made
    made.close()
    rclpy.shutdown()


@pytest.mark.skipif(not installed(), reason="siamkd_ros is not installed: colcon build, source it")
def test_one_line_starts_camera_and_tracker(observer: Observer, tmp_path: Path) -> None:
    parameters = yaml.safe_load((ROOT / "config/tracker.yaml").read_text())
    own = parameters["/**/tracker"]["ros__parameters"]
    own |= {"model": str(tiny_model(tmp_path)), "threads": 1}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(parameters))
    arguments = {
        "namespace": "robot",
        "image": "front/image",
        "params_file": tmp_path / "own.yaml",
        "camera_source": write_clip(tmp_path / "clip", range(4)),
        "camera_loop": "true",
    }
    command = [sys.executable, "-c", RUN, str(LAUNCH_FILE)]
    command += [f"{name}:={value}" for name, value in arguments.items()]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path / "log")}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        observer.wait_for(lambda: observer.targets, "an image's result", 2 * PATIENCE)
        observer.give(place(0))
        observer.wait_for(lambda: observer.targets[-1].detections, "the target")
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE)
    text = (tmp_path / "output").read_text(errors="replace")
    assert code == 0, text
    assert values(observer.statuses[-1])["model"] == "tiny"
    assert "/robot/front/image" in text
    assert text.count("process has finished cleanly") == 2, text

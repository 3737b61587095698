"""The launch files with real launch_ros, where that is installed (apt ROS; no wheel)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_support import PATIENCE, ROOT, Observer, place, rclpy, tiny_model, values, write_clip

launch = pytest.importorskip("launch", reason="needs ROS 2's launch (apt, not a wheel)")
pytest.importorskip("launch_ros", reason="needs ROS 2's launch_ros (apt, not a wheel)")

TRACKER, DEMO = (ROOT / f"launch/{name}.launch.py" for name in ("tracker", "demo"))
RUN = """
import os
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *arguments = sys.argv[1:]
source = PythonLaunchDescriptionSource(file)
pairs = [argument.split(":=", 1) for argument in arguments]
included = IncludeLaunchDescription(source, launch_arguments=pairs)
if scope := os.environ.get("SCOPE"):
    from launch_ros.actions import PushRosNamespace
    included = GroupAction([PushRosNamespace(scope), included])
service = LaunchService()
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


def module(path: Path) -> Any:
    spec = spec_from_file_location("under_test", path)
    assert spec and spec.loader
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def installed() -> bool:
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        prefix = Path(get_package_prefix("siamkd_ros"))
    except PackageNotFoundError:
        return False
    return (prefix / "lib/siamkd_ros/tracker").exists()


def test_every_argument_is_described() -> None:
    arguments = module(TRACKER).ARGUMENTS
    assert {argument.name for argument in arguments} >= {
        "image",
        "model",
        "backend",
        "namespace",
        "params_file",
        "use_sim_time",
        "autostart",
        "rviz",
        "respawn",
    }
    for argument in arguments:
        assert len(argument.description) > 15, argument.name
        assert argument.default_value is not None, argument.name


def test_the_demos_arguments_are_the_trackers() -> None:
    theirs = {argument.name for argument in module(TRACKER).ARGUMENTS}
    assert set(module(DEMO).ARGUMENTS.values()) <= theirs


@pytest.mark.parametrize(
    ("arguments", "executables"),
    [
        ({}, {"tracker"}),
        ({"rviz": "true"}, {"tracker", "box_picker", "rviz2"}),
        ({"camera_source": "clip.mp4"}, {"tracker", "camera"}),
    ],
)
def test_what_is_started(arguments: dict[str, str], executables: set[str]) -> None:
    made = module(TRACKER)
    made.get_package_prefix = str  # of RViz, which a headless machine may lack
    context = launch.LaunchContext()
    for argument in made.ARGUMENTS:
        argument.execute(context)
    context.launch_configurations.update(arguments)
    started = [one for one in made.nodes(context) if isinstance(one, made.Node)]
    assert {node.node_executable for node in started} == executables


@pytest.mark.parametrize(("given", "wanted"), [("", None), ("true", True), ("false", False)])
def test_autostart_overrides_the_params_file_only_if_given(given: str, wanted: bool | None) -> None:
    made = module(TRACKER)
    context = launch.LaunchContext()
    for argument in made.ARGUMENTS:
        argument.execute(context)
    context.launch_configurations.update({"autostart": given, "respawn": "false"})
    made.Node = lambda **options: options
    (tracker,) = made.nodes(context)
    assert tracker["parameters"][0] == context.launch_configurations["params_file"]
    overrides = {name: one[name] for one in tracker["parameters"][1:] for name in one}
    assert overrides.get("autostart") is wanted


@pytest.mark.parametrize("value", ["", "other"])
def test_what_is_given_reaches_the_tracker_and_the_rest_is_the_params_files(value: str) -> None:
    made = module(TRACKER)
    context = launch.LaunchContext()
    for argument in made.ARGUMENTS:
        argument.execute(context)
    own = ("model", "backend", "device", "image_transport")
    context.launch_configurations.update(dict.fromkeys(own, value))
    context.launch_configurations["params_file"] = "mine.yaml"
    context.launch_configurations.update({"image": "/front/image", "namespace": "robot"})
    context.launch_configurations.update({"use_sim_time": "true", "respawn": "false"})
    made.Node = lambda **options: options
    (tracker,) = made.nodes(context)
    file, *others = tracker["parameters"]
    overrides = {name: one[name] for one in others for name in one}
    assert file == "mine.yaml"
    assert overrides == {"use_sim_time": True, **(dict.fromkeys(own, value) if value else {})}
    assert tracker["namespace"] == "robot"
    assert ("image", "/front/image") in tracker["remappings"]
    assert ("camera_info", "/front/camera_info") in tracker["remappings"]


needs_install = pytest.mark.skipif(
    not installed(), reason="siamkd_ros is not installed: colcon build, source it"
)


@needs_install
def test_without_rviz_nothing_is_left_running(tmp_path: Path) -> None:
    """Its absence is told before anything else starts."""
    from ament_index_python.packages import get_package_prefix

    prefix = Path(get_package_prefix("siamkd_ros"))
    if (prefix / "share/ament_index/resource_index/packages/rviz2").exists():
        pytest.skip("RViz is installed beside siamkd_ros")
    prefixes = {"AMENT_PREFIX_PATH": str(prefix)}
    process = launched(
        TRACKER, tmp_path, prefixes, params_file=parameters_file(tmp_path), rviz="true"
    )
    code = process.wait(PATIENCE)
    text = (tmp_path / "output").read_text(errors="replace")
    assert code != 0 and "rviz2 is not installed: install ros-<distro>-rviz2" in text, text
    assert "process started" not in text


@needs_install
def test_a_tracker_with_a_wrong_model_is_not_started_again(tmp_path: Path) -> None:
    process = launched(TRACKER, tmp_path, model="a_typing_error")
    process.wait(PATIENCE)
    text = (tmp_path / "output").read_text(errors="replace")
    assert "no model 'a_typing_error'" in text and "exit code 2" in text, text
    assert text.count("process started") == 1, text


@needs_install
def test_a_tracker_that_dies_is_started_again_and_a_launch_that_ends_ends_it(
    observer: Observer, tmp_path: Path
) -> None:
    """In the namespace of the group that the launch file was included in."""
    scope = {"SCOPE": "robot"}
    process = launched(TRACKER, tmp_path, scope, params_file=parameters_file(tmp_path))
    output = tmp_path / "output"
    try:
        observer.wait_for(lambda: observer.statuses, "the tracker", 2 * PATIENCE)
        (first,) = re.findall(r"process started with pid \[(\d+)\]", output.read_text())
        os.kill(int(first), signal.SIGKILL)
        observer.statuses.clear()
        observer.wait_for(lambda: observer.statuses, "another tracker", 2 * PATIENCE)
    finally:
        text = ended(process, tmp_path)
    assert text.count("process started") == 2 and "process has died" in text, text


@pytest.fixture
def observer() -> Iterator[Observer]:
    rclpy.init()
    made = Observer("robot")
    yield made
    made.close()
    rclpy.shutdown()


def launched(
    file: Path, folder: Path, variables: dict[str, str] | None = None, **arguments: Any
) -> subprocess.Popen[bytes]:
    """The launch file in a process of its own, its output in `folder`/output."""
    command = [sys.executable, "-c", RUN, str(file)]
    command += [f"{name}:={value}" for name, value in arguments.items()]
    environment = {**os.environ, "ROS_LOG_DIR": str(folder / "log"), **(variables or {})}
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def ended(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The output, after Ctrl-C and a clean end."""
    process.send_signal(signal.SIGINT)
    code = process.wait(PATIENCE)
    text = (folder / "output").read_text(errors="replace")
    assert code == 0, text
    return text


def parameters_file(folder: Path) -> Path:
    parameters = yaml.safe_load((ROOT / "config/tracker.yaml").read_text())
    own = parameters["/**/tracker"]["ros__parameters"]
    own |= {"model": str(tiny_model(folder)), "threads": 1}
    (folder / "own.yaml").write_text(yaml.safe_dump(parameters))
    return folder / "own.yaml"


@needs_install
def test_one_line_starts_camera_and_tracker(observer: Observer, tmp_path: Path) -> None:
    process = launched(
        TRACKER,
        tmp_path,
        namespace="robot",
        image="front/image",
        params_file=parameters_file(tmp_path),
        camera_source=write_clip(tmp_path / "clip", range(4)),
        camera_loop="true",
    )
    try:
        observer.wait_for(lambda: observer.targets, "an image's result", 2 * PATIENCE)
        observer.give(place(0))
        observer.wait_for(lambda: observer.targets[-1].detections, "the target")
    finally:
        text = ended(process, tmp_path)
    assert values(observer.statuses[-1])["model"] == "tiny"
    assert "/robot/front/image" in text
    assert text.count("process has finished cleanly") == 2, text


@needs_install
def test_the_demo_waits_for_a_lifecycle_manager_if_told(observer: Observer, tmp_path: Path) -> None:
    process = launched(
        DEMO,
        tmp_path,
        source=write_clip(tmp_path / "clip", range(4)),
        rviz="false",
        namespace="robot",
        autostart="false",
        params_file=parameters_file(tmp_path),
    )
    changes = observer.create_client(ChangeState, "tracker/change_state")
    try:
        observer.wait_for(lambda: observer.statuses, "the tracker", 2 * PATIENCE)
        assert "no model is loaded" in observer.state
        observer.wait_for(changes.service_is_ready, "the tracker's services")
        observer.be_known()
        for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request()
            request.transition.id = number
            assert observer.call(changes, request).success
        observer.wait_for(lambda: observer.targets, "an image's result", 2 * PATIENCE)
    finally:
        ended(process, tmp_path)

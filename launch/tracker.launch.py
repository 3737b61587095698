"""Start the tracker, and with it what is asked for: RViz with the box picker, a camera from a clip.

ros2 launch siamkd_ros tracker.launch.py image:=/camera/image_raw rviz:=true
"""

from __future__ import annotations

import posixpath

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription

PACKAGE = "siamkd_ros"
RESPAWN_DELAY = 2.0
"""Seconds until a tracker that died is started again."""
ENDED, MISTAKEN = 0, 2
"""Exit codes that no other start would change: told to end; a wrong parameter or model."""
# Fast DDS 2 (Humble, Jazzy) and 3 (Kilted on)
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
TRUTH = ("true", "false")


def share(*path: str) -> PathJoinSubstitution:
    """A file in the installed package."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), *path])


ARGUMENTS = (
    DeclareLaunchArgument(
        "image", default_value="image", description="Topic of the images (sensor_msgs/Image)."
    ),
    DeclareLaunchArgument(
        "camera_info",
        default_value="",
        description="Topic of the camera_info; empty: beside the image topic.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=("", "raw", "compressed"),
        description="compressed takes <image>/compressed; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="Model name or .safetensors file; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        choices=("", "auto", "torch", "onnxruntime", "openvino"),
        description="What runs the model; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="auto, cpu, cuda or cuda:N; empty: as in params_file.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes."),
    DeclareLaunchArgument(
        "params_file",
        default_value=share("config", "tracker.yaml"),
        description="YAML file with the nodes' parameters.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="false",
        choices=TRUTH,
        description="Take the time from /clock (simulation, bag).",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=("", *TRUTH),
        description="Configure and activate the tracker (true), or leave it to a lifecycle manager "
        "(false); empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=TRUTH,
        description="Also start RViz and box_picker, to give the target by two clicks.",
    ),
    DeclareLaunchArgument(
        "optical_frame",
        default_value="camera",
        description="With rviz: RViz's fixed frame, and the frame of the picture's plane. The "
        "frame_id of your images, where tf knows it.",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="true",
        choices=TRUTH,
        description="Start the tracker again, two seconds later, if it dies; not if it was told to "
        "end, or for a mistake in its parameters.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=("debug", "info", "warn", "error", "fatal"),
        description="Least severity of the log lines.",
    ),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value="true",
        choices=TRUTH,
        description="Run with config/fastdds.xml (shared memory for large images), unless "
        "FASTRTPS_DEFAULT_PROFILES_FILE names another. A camera of yours needs it just as much.",
    ),
    DeclareLaunchArgument(
        "camera_source",
        default_value="",
        description="Also play this video, folder or /dev/videoN as the camera.",
    ),
    DeclareLaunchArgument(
        "camera_rate",
        default_value="0.0",
        description="Images per second of camera_source; 0.0: its own rate.",
    ),
    DeclareLaunchArgument(
        "camera_loop",
        default_value="false",
        choices=TRUTH,
        description="Play camera_source over and over.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[Action]:
    """The nodes, from the arguments' values at launch time."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def flag(name: str) -> bool:
        return value(name) == "true"

    def given(*names: str) -> dict[str, str]:
        return {name: value(name) for name in names if value(name)}

    if flag("rviz"):
        check_rviz()
    environment = {}
    named = any(variable in context.environment for variable in PROFILE_VARIABLES)
    if flag("fastdds_profile") and not named:
        environment = dict.fromkeys(PROFILE_VARIABLES, share("config", "fastdds.xml"))
    image, namespace = value("image"), value("namespace")
    info = value("camera_info") or posixpath.join(posixpath.dirname(image), "camera_info")
    common = {
        "package": PACKAGE,
        "namespace": namespace,
        "remappings": [("image", image), ("camera_info", info)],
        "ros_arguments": ["--log-level", value("log_level")],
        "additional_env": environment,
        "output": "screen",
        "emulate_tty": True,
    }
    clock = {"use_sim_time": flag("use_sim_time")}
    autostart = {"autostart": flag("autostart")} if value("autostart") else {}
    shared = [value("params_file"), clock, given("image_transport")]
    tracker = Node(
        executable="tracker",
        name="tracker",
        parameters=[
            *shared,
            given("model", "backend", "device") | autostart,
        ],
        respawn=flag("respawn"),
        respawn_delay=RESPAWN_DELAY,
        **common,
    )
    started: list[Action] = [tracker]
    if flag("respawn"):
        started.insert(0, given_up(tracker))
    if flag("rviz"):
        frame = value("optical_frame")
        picker = [*shared, {"frame_id": frame}]
        started.append(
            Node(executable="box_picker", name="box_picker", parameters=picker, **common)
        )
        started.append(rviz(namespace, frame, clock))
    if value("camera_source"):
        clip = {
            "source": value("camera_source"),
            "rate": float(value("camera_rate")),
            "loop": flag("camera_loop"),
            "wait_for_subscribers": 2 if flag("rviz") else 1,
        }
        parameters = [value("params_file"), clock, clip]
        started.append(Node(executable="camera", name="camera", parameters=parameters, **common))
    return started


def given_up(node: Node) -> Action:
    """Let a node that ended itself stay so: launch's respawn does not ask why a process ended, and
    starts one with a wrong parameter over and over."""

    def ended(event: ProcessExited, context: LaunchContext) -> Action | None:
        if event.returncode not in (ENDED, MISTAKEN):
            return None
        # within the delay, this keeps it from being started
        return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(node)))

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def check_rviz() -> None:
    """Raise RuntimeError if RViz is not installed. Launch finds that out when the tracker runs
    already, and ends without ending it."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError(
            "rviz:=true, but rviz2 is not installed: install ros-<distro>-rviz2, or say rviz:=false"
            " and give the target by select_box or on the topic ~/init; nothing was started"
        ) from error


def rviz(namespace: str, frame: str, clock: dict[str, bool]) -> Node:
    """RViz with the shipped view. Its namespace makes the display's relative topics ours."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=namespace,
        arguments=["-d", share("config", "tracker.rviz"), "-f", frame],
        parameters=[clock],
        output="log",
    )

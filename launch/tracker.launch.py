"""Start the tracker, and a camera that plays a clip if one is named.

ros2 launch siamkd_ros tracker.launch.py image:=/camera/image_raw
ros2 launch siamkd_ros tracker.launch.py camera_source:=/path/to/clip.mp4
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

PACKAGE = "siamkd_ros"
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
        "model",
        default_value="",
        description="Model name or .safetensors file; empty: as in params_file.",
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
        "respawn",
        default_value="true",
        choices=TRUTH,
        description="Start the tracker again, two seconds later, if it dies.",
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


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes, from the arguments' values at launch time."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def flag(name: str) -> bool:
        return value(name) == "true"

    environment = {}
    named = any(variable in context.environment for variable in PROFILE_VARIABLES)
    if flag("fastdds_profile") and not named:
        environment = dict.fromkeys(PROFILE_VARIABLES, share("config", "fastdds.xml"))
    common = {
        "package": PACKAGE,
        "namespace": value("namespace"),
        "remappings": [("image", value("image"))],
        "ros_arguments": ["--log-level", value("log_level")],
        "additional_env": environment,
        "output": "screen",
        "emulate_tty": True,
    }
    clock = {"use_sim_time": flag("use_sim_time")}
    given = {name: value(name) for name in ("model", "device") if value(name)}
    tracker = Node(
        executable="tracker",
        name="tracker",
        parameters=[value("params_file"), clock, given],
        respawn=flag("respawn"),
        respawn_delay=2.0,
        **common,
    )
    if not value("camera_source"):
        return [tracker]
    clip = {
        "source": value("camera_source"),
        "rate": float(value("camera_rate")),
        "loop": flag("camera_loop"),
        "wait_for_subscribers": 1,
    }
    camera = Node(
        executable="camera", name="camera", parameters=[value("params_file"), clock, clip], **common
    )
    return [tracker, camera]

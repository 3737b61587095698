"""A clip or webcam, the tracker, and RViz to give it a target: everything in one line.

ros2 launch siamkd_ros demo.launch.py source:=/path/to/clip.mp4
ros2 launch siamkd_ros demo.launch.py source:=/dev/video0
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

TRUTH = ("true", "false")
# This file's arguments, and tracker.launch.py's behind them; the rest of those can be given, too.
ARGUMENTS = {
    "source": "camera_source",
    "rate": "camera_rate",
    "loop": "camera_loop",
    "rviz": "rviz",
}


def generate_launch_description() -> LaunchDescription:
    tracker = PathJoinSubstitution([FindPackageShare("siamkd_ros"), "launch", "tracker.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source", description="Video, folder of images, or /dev/videoN (required)."
            ),
            DeclareLaunchArgument(
                "rate", default_value="0.0", description="Images per second; 0.0: the source's own."
            ),
            DeclareLaunchArgument(
                "loop",
                default_value="true",
                choices=TRUTH,
                description="Play a clip over and over; of no use for a webcam.",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="true",
                choices=TRUTH,
                description="Start RViz and box_picker, to give the target by two clicks.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(tracker),
                launch_arguments=[
                    (theirs, LaunchConfiguration(ours)) for ours, theirs in ARGUMENTS.items()
                ],
            ),
        ]
    )

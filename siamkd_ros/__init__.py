"""The ROS 2 nodes around siamkd_core: `tracker` follows a target, `camera` plays a clip."""

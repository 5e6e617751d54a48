"""The typed configuration of the node: groups, presets, parameter files, ROS parameters."""

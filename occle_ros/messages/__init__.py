"""Builders of ROS messages."""

"""ROS bags without ROS: mcap and db3 files, their metadata, reading and writing."""

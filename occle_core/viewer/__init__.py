"""Viewing occupancies: sources of frames, a self-contained HTML page, and the rerun viewer. No ROS."""

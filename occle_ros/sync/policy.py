"""The synchronizer that the configuration asks for."""

from __future__ import annotations

from typing import Any

from occle_ros.config.node_config import NodeConfig
from occle_ros.sync.approximate_time import ApproximateTimeFrameSynchronizer
from occle_ros.sync.lidar_led import MILLISECOND, FrameSynchronizer


def synchronizer_for(config: NodeConfig) -> FrameSynchronizer[Any] | ApproximateTimeFrameSynchronizer[Any]:
    """The synchronizer that the configuration asks for.

    Raises:
        ConfigError: policy approximate without message_filters.
    """
    names = config.camera_names
    tolerance = round(config.sync.tolerance_ms * MILLISECOND)
    offsets = [round(config.cameras[name].time_offset_ms * MILLISECOND) for name in names]
    if config.sync.policy == "approximate":
        return ApproximateTimeFrameSynchronizer(names, tolerance, offsets)
    return FrameSynchronizer(names, tolerance, round(config.sync.deadline_ms * MILLISECOND), offsets)

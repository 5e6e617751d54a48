"""The synchronizer that the configuration asks for."""

from __future__ import annotations

from typing import Any

from occle_ros.config.node_config import NodeConfig
from occle_ros.sync.approximate_time import ApproximateCollector
from occle_ros.sync.lidar_led import MILLISECOND, Collector


def collector_for(config: NodeConfig) -> Collector[Any] | ApproximateCollector[Any]:
    """The collector that the configuration asks for.

    Raises:
        ConfigError: policy approximate without message_filters.
    """
    names = config.camera_names
    tolerance = round(config.sync.tolerance_ms * MILLISECOND)
    offsets = [round(config.cameras[name].time_offset_ms * MILLISECOND) for name in names]
    if config.sync.policy == "approximate":
        return ApproximateCollector(names, tolerance, offsets)
    return Collector(names, tolerance, round(config.sync.deadline_ms * MILLISECOND), offsets)

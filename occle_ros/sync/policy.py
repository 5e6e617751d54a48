# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Factory of the synchronizers: configuration -> synchronizer."""

from __future__ import annotations

from typing import Any

from occle_ros.config.node_config import NodeConfig
from occle_ros.sync.approximate_time import ApproximateTimeFrameSynchronizer
from occle_ros.sync.lidar_led import MILLISECOND, FrameSynchronizer

AnySynchronizer = FrameSynchronizer[Any, Any] | ApproximateTimeFrameSynchronizer[Any, Any]
_NEVER = 1 << 62


def make_synchronizer(config: NodeConfig) -> AnySynchronizer:
    """Synchronizer of parameter sync.policy.

    Raises:
        ConfigError: policy approximate_time without message_filters.
    """
    if config.sync.policy == "approximate_time":
        return ApproximateTimeFrameSynchronizer(config.camera_names, _tolerance(config), _offsets(config), lidars=_lidars(config))
    deadline = round(config.sync.deadline_ms * MILLISECOND)
    offsets, lidars = _offsets(config), _lidars(config)
    return FrameSynchronizer(
        config.camera_names, _tolerance(config), deadline, offsets, lidars=lidars, lidar_tolerance=_lidar_tolerance(config)
    )


def make_offline_synchronizer(config: NodeConfig) -> FrameSynchronizer[Any, Any]:
    """LiDAR-led synchronizer without a deadline, with larger buffers: a frame closes when it is complete or the input ends."""
    return FrameSynchronizer(
        config.camera_names, _tolerance(config), _NEVER, _offsets(config), max_open=64, max_images=256, lidars=_lidars(config),
        lidar_tolerance=_lidar_tolerance(config),
    )  # fmt: skip


def _tolerance(config: NodeConfig) -> int:
    return round(config.sync.tolerance_ms * MILLISECOND)


def _lidar_tolerance(config: NodeConfig) -> int:
    return round(config.sync.lidar_tolerance_ms * MILLISECOND)


def _offsets(config: NodeConfig) -> list[int]:
    return [round(config.cameras[name].time_offset_ms * MILLISECOND) for name in config.camera_names]


def _lidars(config: NodeConfig) -> dict[str, int]:
    return {name: round(config.lidars[name].time_offset_ms * MILLISECOND) for name in config.lidar_names}

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses of the scans for `occle doctor`: rate, age and jumps, and whether the rolling map can work with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.pose_check import break_between
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.calibrated_rig import TransformLookup
from occle_ros.config.node_config import NodeConfig
from occle_ros.tools.topic_listener import ClockListener
from occle_ros.topics.inputs import Problem

MIN_RATE = 5.0
"""Poses a second below which a turning robot's map is smeared: they are interpolated evenly between two."""
MAX_GAP = 1.0
"""Seconds between two poses above which that is a problem."""


class PoseSource(TransformLookup, Protocol):
    """TF with the newest stamps."""

    def latest(self, target: str, source: str) -> int | None:
        """Newest stamp that it is known for."""


class PoseListener:
    """Watches T_world_lidar while others spin.

    Args:
        transforms: TF; None where it cannot be received.
        config: gives the frames and the limits of jumps.
        clock: of the stamps.
        body: frame that the LiDAR is mounted on, where a rig file has the mounting; empty: the LiDAR's own frame is watched.
    """

    def __init__(self, transforms: PoseSource | None, config: NodeConfig, clock: ClockListener, body: str = "") -> None:
        self._transforms, self._config, self._clock = transforms, config, clock
        self._lidar_frame = body or config.tf.lidar_frame
        self._stamps: list[int] = []
        self._ages: list[float] = []

    def sample(self, scan: Any) -> None:
        """Notice a new pose; called after every message.

        Args:
            scan: the newest PointCloud2, or None.
        """
        self._lidar_frame = self._lidar_frame or ("" if scan is None else scan.header.frame_id)
        if self._transforms is None or not self._lidar_frame:
            return
        newest = self._transforms.latest(self._config.tf.world_frame, self._lidar_frame)
        if newest is not None and newest not in self._stamps[-1:]:
            self._stamps.append(newest)
            self._ages.append((self._clock.now() - newest) / 1e9)

    def verdict(self, scans: Sequence[int]) -> tuple[str, Problem | None]:
        """What is known of the poses, as text, and why the map cannot work with them.

        Args:
            scans: their stamps, ascending, at least one.
        """
        world, lidar = frame_name(self._config.tf.world_frame), frame_name(self._lidar_frame)
        if world == lidar:
            return f"the scans lie in tf.world_frame ({world}): the map can work", None
        if self._transforms is None:
            return "the map cannot work", Problem("poses come from TF, and tf2_msgs is not installed")
        found, missing = self._poses(scans, world, lidar)
        if not found:
            remedy = f"publish {world} -> robot on /tf (odometry), or set parameter tf.world_frame"
            return "the map cannot work", Problem(f"the scans have no pose: {missing}", remedy)
        rate, age = self._rate(), float(np.median(self._ages)) if self._ages else 0.0
        known = f"{len(found)} of {len(scans)} scans have a pose"
        text = f"poses {world} -> {lidar}: {rate:.1f} Hz, {age * 1e3:.0f} ms old; {known}"
        problem = self._problem(found, rate, age)
        return f"{text}: the map {'works badly' if problem else 'can work'}", problem

    def _poses(self, scans: Sequence[int], world: str, lidar: str) -> tuple[list[tuple[int, NDArray[np.float64]]], str]:
        assert self._transforms is not None
        found, missing = [], ""
        for stamp in scans:
            try:
                found.append((stamp, self._transforms.lookup(world, lidar, stamp)))
            except LookupError as error:
                missing = str(error)
        return found, missing

    def _rate(self) -> float:
        span = (max(self._stamps) - min(self._stamps)) / 1e9 if self._stamps else 0.0
        return (len(self._stamps) - 1) / span if span > 0 else 0.0

    def _problem(self, found: Sequence[tuple[int, NDArray[np.float64]]], rate: float, age: float) -> Problem | None:
        limits = self._config.map
        pairs = list(itertools.pairwise(found))
        jumps = [(a, b) for a, b in pairs if break_between(limits, a, *b) == "pose_jump"]
        if jumps:
            far = max(float(np.linalg.norm(b[1][:3, 3] - a[1][:3, 3])) for a, b in jumps)
            return Problem(
                f"the pose jumped {len(jumps)} times, by up to {far:.1f} m between two scans",
                "set parameter tf.world_frame to a continuous frame (odom, not map), or repair the odometry",
            )
        if age > limits.pose_timeout_ms / 1e3:
            return Problem(
                f"poses are {age:.2f} s old when they arrive, more than map.pose_timeout_ms",
                f"set parameter map.pose_timeout_ms:={round(age * 2e3)}, or repair the stamps of the odometry",
            )
        gap = float(np.diff(np.sort(self._stamps)).max(initial=0)) / 1e9
        if gap > MAX_GAP:
            return Problem(f"no pose came for {gap:.1f} s", "publish odometry without gaps")
        if self._stamps and rate < MIN_RATE:
            return Problem(
                f"poses come at {rate:.1f} Hz and are interpolated in between", f"publish them at {MIN_RATE:.0f} Hz or more"
            )
        return None

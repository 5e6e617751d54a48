# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TF listener: tf2_ros where it is installed, else `TransformBuffer` with subscriptions of tf2_msgs.

Without either (there is no PyPI wheel of tf2_msgs) calibration files or parameters have to give the extrinsics.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.transforms import JUMP, TransformBuffer, TransformError, frame_name, matrix_from_transform, used_nearest

TF_TIMEOUT = 100_000_000
"""Nanoseconds to wait for the transform at a scan's stamp."""


class Tf2Transforms:
    """`TransformBuffer.lookup` on a tf2_ros buffer, for machines with a ROS installation."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._failure = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        # tf2 ignores what is older than what it has: after a bag has restarted, all of it. Its own buffer does not see the jump.
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-JUMP), on_clock_change=True)
        self._on_jump = node.get_clock().create_jump_callback(back, post_callback=lambda jump: self._buffer.clear())
        self._first: dict[tuple[str, str], Transform] = {}
        self._moves: set[tuple[str, str]] = set()
        self.notes: set[str] = set()
        """As `TransformBuffer.notes`."""

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0, wait: bool = True) -> NDArray[np.float64]:
        """As `TransformBuffer.lookup`; without a slack it waits for the transform at that stamp, unless `wait` is False."""
        target, source = frame_name(target), frame_name(source)
        try:
            found = self._query(target, source, stamp, TF_TIMEOUT if wait and not slack else 0)
        except TransformError:
            if not slack:
                raise
            found = self._query(target, source, None, 0)
            gap = abs(stamp_of(found) - (stamp or 0))
            if (target, source) in self._moves:
                if gap > slack:
                    raise
                self.notes.add(used_nearest(f"{target} -> {source}", slack))
        if slack and self._first.setdefault((target, source), found.transform) != found.transform:
            self._moves.add((target, source))
        return matrix_from_transform(found.transform)

    def latest(self, target: str, source: str) -> int | None:
        """As `TransformBuffer.latest`."""
        try:
            found = self._buffer.get_latest_common_time(frame_name(target), frame_name(source))
        except self._failure:
            return None
        return found.nanoseconds or None

    def _query(self, target: str, source: str, stamp: int | None, timeout: int) -> Any:
        when, wait = (Time(), Duration()) if stamp is None else (Time(nanoseconds=stamp), Duration(nanoseconds=timeout))
        try:
            return self._buffer.lookup_transform(target, source, when, wait)
        except self._failure as error:
            raise TransformError(f"no transform from {source!r} to {target!r}: {error}") from error


def listen_to_transforms(node: Node) -> TransformBuffer | Tf2Transforms:
    """TransformBuffer of /tf_static and /tf, received by `node`, which has to spin: tf2_ros where installed, else our own.

    Raises:
        ImportError: tf2_msgs is not installed (there is no PyPI wheel of it), so TF cannot be received.
    """
    try:
        return Tf2Transforms(node)
    except ImportError:
        from tf2_msgs.msg import TFMessage
    transforms = TransformBuffer()

    def on_transforms(message: TFMessage, fixed: bool) -> None:
        try:
            transforms.add(message, fixed)
        except ConversionError as error:
            node.get_logger().warning(f"transform ignored: {error}")

    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(TFMessage, "/tf_static", partial(on_transforms, fixed=True), latched)
    node.create_subscription(TFMessage, "/tf", partial(on_transforms, fixed=False), QoSProfile(depth=100))
    return transforms

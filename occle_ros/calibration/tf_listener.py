"""TF -> transforms: tf2_ros where it is installed, else `TransformBuffer` fed from tf2_msgs.

With neither (the PyPI wheels have no tf2_msgs) there is no TF, and calibration files or parameters take its place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.transforms import TransformBuffer, frame_name, matrix_from_transform, used_nearest
from occle_core.sensors.transforms import TransformError as TransformError

PATIENCE = 100_000_000
"""Nanoseconds that a scan waits for the transform of its time."""


class Tf2Transforms:
    """The same `lookup` on tf2_ros, for machines that have a ROS installation."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._failure = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._first: dict[tuple[str, str], Transform] = {}
        self._moves: set[tuple[str, str]] = set()
        self.notes: set[str] = set()
        """As `TransformBuffer.notes`."""

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0) -> NDArray[np.float64]:
        """As `TransformBuffer.lookup`; without a slack, odometry of this moment is waited for."""
        target, source = frame_name(target), frame_name(source)
        try:
            found = self._ask(target, source, stamp, 0 if slack else PATIENCE)
        except TransformError:
            if not slack:
                raise
            found = self._ask(target, source, None, 0)
            gap = abs(stamp_of(found) - (stamp or 0))
            if (target, source) in self._moves:
                if gap > slack:
                    raise
                self.notes.add(used_nearest(f"{target} -> {source}", slack))
        if slack and self._first.setdefault((target, source), found.transform) != found.transform:
            self._moves.add((target, source))
        return matrix_from_transform(found.transform)

    def _ask(self, target: str, source: str, stamp: int | None, patience: int) -> Any:
        from rclpy.duration import Duration
        from rclpy.time import Time

        when, wait = (Time(), Duration()) if stamp is None else (Time(nanoseconds=stamp), Duration(nanoseconds=patience))
        try:
            return self._buffer.lookup_transform(target, source, when, wait)
        except self._failure as error:
            raise TransformError(f"no transform from {source!r} to {target!r}: {error}") from error


def listen_to_transforms(node: Node) -> TransformBuffer | Tf2Transforms:
    """Transforms that follow /tf_static and /tf through `node`, which has to spin: tf2_ros where installed, else our own.

    Raises:
        ImportError: this Python has no tf2_msgs (there is no PyPI wheel of it), so that nothing can receive TF.
    """
    try:
        return Tf2Transforms(node)
    except ImportError:
        from tf2_msgs.msg import TFMessage
    transforms = TransformBuffer()

    def take(message: TFMessage, fixed: bool) -> None:
        try:
            transforms.add(message, fixed)
        except ConversionError as error:
            node.get_logger().warning(f"a transform is ignored: {error}")

    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(TFMessage, "/tf_static", partial(take, fixed=True), latched)
    node.create_subscription(TFMessage, "/tf", partial(take, fixed=False), QoSProfile(depth=100))
    return transforms

"""ROS packages that not every installation has, in one place: what stands in for them, and what differs between ROS releases.

- tf2_ros: used where it is installed, else `Transforms` with tf2_msgs; with neither (the PyPI wheels) there is no TF.
- message_filters: `sync.policy: approximate` is refused without it; the default policy (sync.py) does not need it.
- cv_bridge, sensor_msgs_py: never used; images.py and clouds.py read the same messages without their dependence on one
  NumPy and OpenCV build. The contract test compares them where both can be had.
"""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from occle_ros.config import ConfigError
from occle_ros.messages import ConversionError, stamp_of
from occle_ros.transforms import TransformError as TransformError
from occle_ros.transforms import Transforms, frame_name, matrix_from_transform, used_nearest
from occle_ros.transforms import transform_from_matrix as transform_from_matrix

try:
    from rclpy.event_handler import SubscriptionEventCallbacks as SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks as SubscriptionEventCallbacks


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
        """As `Transforms.notes`."""

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0) -> NDArray[np.float64]:
        """As `Transforms.lookup`; without a slack, odometry of this moment is waited for."""
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


def listen_to_transforms(node: Node) -> Transforms | Tf2Transforms:
    """Transforms that follow /tf_static and /tf through `node`, which has to spin: tf2_ros where installed, else our own.

    Raises:
        ImportError: this Python has no tf2_msgs (there is no PyPI wheel of it), so that nothing can receive TF.
    """
    try:
        return Tf2Transforms(node)
    except ImportError:
        from tf2_msgs.msg import TFMessage
    transforms = Transforms()

    def take(message: TFMessage, fixed: bool) -> None:
        try:
            transforms.add(message, fixed)
        except ConversionError as error:
            node.get_logger().warning(f"a transform is ignored: {error}")

    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(TFMessage, "/tf_static", partial(take, fixed=True), latched)
    node.create_subscription(TFMessage, "/tf", partial(take, fixed=False), QoSProfile(depth=100))
    return transforms


def message_filters() -> ModuleType:
    """The ROS package message_filters.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("message_filters")
    except ImportError as error:
        raise ConfigError(
            f"parameter sync.policy: approximate needs the ROS package message_filters ({error}); `sudo apt install "
            "ros-$ROS_DISTRO-message-filters` and source that installation, or leave sync.policy at its default"
        ) from error

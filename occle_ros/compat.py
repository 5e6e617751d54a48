"""ROS packages that not every installation has, in one place: what stands in for them, and what differs between ROS releases.

- tf2_ros: used where it is installed, else `Transforms` with tf2_msgs; with neither (the PyPI wheels) there is no TF.
- message_filters: `sync.policy: approximate` is refused without it; the default policy (sync.py) does not need it.
- cv_bridge, sensor_msgs_py: never used; images.py and clouds.py read the same messages without their dependence on one
  NumPy and OpenCV build. The contract test compares them where both can be had.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from occle_ros.config import ConfigError
from occle_ros.messages import ConversionError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks as SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks as SubscriptionEventCallbacks


class TransformError(LookupError):
    """Two frames that no chain of known transforms connects; the message lists the frames that are known."""


class Transforms:
    """The latest transform of every frame to its parent, without history or interpolation."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def add(self, message: Any) -> None:
        """Take every transform of a /tf or /tf_static message; a newer one replaces the older.

        Raises:
            ConversionError: a transform is not finite or has no rotation.
        """
        for transform in message.transforms:
            child, parent = _frame(transform.child_frame_id), _frame(transform.header.frame_id)
            self._parents[child] = (parent, matrix_from_transform(transform.transform))

    def lookup(self, target: str, source: str) -> NDArray[np.float64]:
        """T_target_source (4, 4): maps points from `source` to `target`.

        Raises:
            TransformError: no chain connects the frames.
        """
        target, source = _frame(target), _frame(source)
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise TransformError(
                f"no transform from {source!r} to {target!r}; the frames known from /tf_static and /tf are: {self}"
            )
        return np.linalg.inv(up_target[common]) @ up_source[common]

    def __str__(self) -> str:
        return ", ".join(f"{parent} -> {child}" for child, (parent, _) in sorted(self._parents.items())) or "none"

    def _ancestors(self, frame: str) -> dict[str, NDArray[np.float64]]:
        """Every frame above `frame`, itself first, with T_ancestor_frame."""
        T = np.eye(4)
        found = {frame: T}
        while frame in self._parents:
            frame, step = self._parents[frame]
            if frame in found:
                raise TransformError(f"the transforms form a loop at {frame!r}: {self}")
            T = step @ T
            found[frame] = T
        return found


class Tf2Transforms:
    """The same `lookup` on tf2_ros, for machines that have a ROS installation."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._failure = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def lookup(self, target: str, source: str) -> NDArray[np.float64]:
        """As `Transforms.lookup`: the latest T_target_source (4, 4)."""
        from rclpy.time import Time

        try:
            return matrix_from_transform(self._buffer.lookup_transform(_frame(target), _frame(source), Time()).transform)
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

    def take(message: TFMessage) -> None:
        try:
            transforms.add(message)
        except ConversionError as error:
            node.get_logger().warning(f"a transform is ignored: {error}")

    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(TFMessage, "/tf_static", take, latched)
    node.create_subscription(TFMessage, "/tf", take, QoSProfile(depth=100))
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


def matrix_from_transform(message: Transform) -> NDArray[np.float64]:
    """geometry_msgs Transform -> (4, 4).

    Raises:
        ConversionError: the quaternion has no length or a number is not finite.
    """
    t, q = message.translation, message.rotation
    values = np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w], np.float64)
    length = float(np.linalg.norm(values[3:]))
    if not np.isfinite(values).all() or length < 1e-6:
        raise ConversionError(f"not a transform: translation {values[:3].tolist()}, quaternion {values[3:].tolist()}")
    x, y, z, w = values[3:] / length
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = values[:3]
    return T


def transform_from_matrix(T: NDArray[np.float64]) -> Transform:
    """(4, 4) rigid transform -> geometry_msgs Transform."""
    R = np.asarray(T, np.float64)[:3, :3]
    # The largest eigenvector of this symmetric matrix is the quaternion closest to R, also when R is only nearly orthonormal.
    (a, b, c), (d, e, f), (g, h, i) = R
    N = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(N)[1][:, -1]
    message = Transform()
    message.translation.x, message.translation.y, message.translation.z = (float(v) for v in T[:3, 3])
    sign = 1.0 if w >= 0 else -1.0
    message.rotation.x, message.rotation.y, message.rotation.z, message.rotation.w = (float(sign * v) for v in (x, y, z, w))
    return message


def _frame(name: str) -> str:
    """tf2 knows no leading slash; drivers from ROS 1 times still send one."""
    return name.lstrip("/")

"""ROS packages that not every installation has, in one place: what stands in for them, and what differs between ROS releases.

- tf2_ros: used where it is installed, else `Transforms` with tf2_msgs; with neither (the PyPI wheels) there is no TF.
- message_filters: `sync.policy: approximate` is refused without it; the default policy (sync.py) does not need it.
- cv_bridge, sensor_msgs_py: never used; images.py and clouds.py read the same messages without their dependence on one
  NumPy and OpenCV build. The contract test compares them where both can be had.
"""

from __future__ import annotations

import bisect
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

try:
    from rclpy.event_handler import SubscriptionEventCallbacks as SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks as SubscriptionEventCallbacks


PATIENCE = 100_000_000
"""Nanoseconds that a scan waits for the transform of its time."""


class TransformError(LookupError):
    """Two frames that no chain of known transforms connects; the message lists the frames that are known."""


class Transforms:
    """Every frame's transforms to its parent, over time.

    Args:
        kept: how many, the latest, are kept of each frame; None: all.
    """

    def __init__(self, kept: int | None = 1000) -> None:
        self._kept = kept
        self._parents: dict[str, tuple[str, list[tuple[int, NDArray[np.float64]]]]] = {}
        self._fixed: set[str] = set()

    def add(self, message: Any, fixed: bool = False) -> None:
        """Take every transform of a /tf message or, `fixed`, of a /tf_static one, which holds at all times.

        Raises:
            ConversionError: a transform is not finite or has no rotation.
        """
        for transform in message.transforms:
            child, parent = _frame(transform.child_frame_id), _frame(transform.header.frame_id)
            T = matrix_from_transform(transform.transform)
            before, known = self._parents.get(child, ("", []))
            if fixed or before != parent:
                known = []
            bisect.insort_right(known, (stamp_of(transform), T), key=_when)
            self._parents[child] = (parent, known[-self._kept :] if self._kept else known)
            (self._fixed.add if fixed else self._fixed.discard)(child)

    def lookup(self, target: str, source: str, stamp: int | None = None) -> NDArray[np.float64]:
        """T_target_source (4, 4): maps points from `source` to `target`.

        Args:
            target, source: frames.
            stamp: nanoseconds; between the times that transforms are known for, they are interpolated. None: the latest.

        Raises:
            TransformError: no chain connects the frames, or not at that time.
        """
        target, source = _frame(target), _frame(source)
        up_target, up_source = self._ancestors(target, stamp), self._ancestors(source, stamp)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise TransformError(
                f"no transform from {source!r} to {target!r}; the frames known from /tf_static and /tf are: {self}"
            )
        return np.linalg.inv(up_target[common]) @ up_source[common]

    def __str__(self) -> str:
        return ", ".join(f"{parent} -> {child}" for child, (parent, _) in sorted(self._parents.items())) or "none"

    def _ancestors(self, frame: str, stamp: int | None) -> dict[str, NDArray[np.float64]]:
        """Every frame above `frame`, itself first, with T_ancestor_frame."""
        T = np.eye(4)
        found = {frame: T}
        while frame in self._parents:
            step = self._step(frame, stamp)
            frame = self._parents[frame][0]
            if frame in found:
                raise TransformError(f"the transforms form a loop at {frame!r}: {self}")
            T = step @ T
            found[frame] = T
        return found

    def _step(self, child: str, stamp: int | None) -> NDArray[np.float64]:
        """T_parent_child."""
        parent, known = self._parents[child]
        if stamp is None or child in self._fixed:
            return known[-1][1]
        after = bisect.bisect_left(known, stamp, key=_when)
        if after < len(known) and known[after][0] == stamp:
            return known[after][1]
        if not 0 < after < len(known):
            raise TransformError(
                f"the transform {parent} -> {child} is known from {known[0][0] / 1e9:.3f} to {known[-1][0] / 1e9:.3f} s, not at "
                f"{stamp / 1e9:.3f} s"
            )
        (first, one), (second, other) = known[after - 1 : after + 1]
        return _between(one, other, (stamp - first) / (second - first))


class Tf2Transforms:
    """The same `lookup` on tf2_ros, for machines that have a ROS installation."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._failure = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def lookup(self, target: str, source: str, stamp: int | None = None) -> NDArray[np.float64]:
        """As `Transforms.lookup`; odometry of this moment is waited for."""
        from rclpy.duration import Duration
        from rclpy.time import Time

        when, patience = (Time(), Duration()) if stamp is None else (Time(nanoseconds=stamp), Duration(nanoseconds=PATIENCE))
        try:
            found = self._buffer.lookup_transform(_frame(target), _frame(source), when, patience)
            return matrix_from_transform(found.transform)
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


def _between(one: NDArray[np.float64], other: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The rigid transform at a share 0..1 of the way from one to the other; for the small turns between two messages."""
    ends = []
    for T in (one, other):
        q = transform_from_matrix(T).rotation
        ends.append(np.array([q.x, q.y, q.z, q.w]))
    first, second = ends
    mixed = (1 - share) * first + share * (second if first @ second > 0 else -second)
    message = Transform()
    message.rotation.x, message.rotation.y, message.rotation.z, message.rotation.w = (float(v) for v in mixed)
    T = matrix_from_transform(message)
    T[:3, 3] = (1 - share) * one[:3, 3] + share * other[:3, 3]
    return T


def _when(entry: tuple[int, NDArray[np.float64]]) -> int:
    return entry[0]


def _frame(name: str) -> str:
    """tf2 knows no leading slash; drivers from ROS 1 times still send one."""
    return name.lstrip("/")

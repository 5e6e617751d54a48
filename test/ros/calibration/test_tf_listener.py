# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_dataset import rigid
from geometry_msgs.msg import Transform, TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.clock import ROSClock
from rclpy.clock_type import ClockType
from rclpy.time import Time

from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformBuffer, TransformError, matrix_from_transform
from occle_ros.calibration import tf_listener
from occle_ros.messages.common import time_from
from occle_ros.messages.transforms import transform_from_matrix

SECOND = 1_000_000_000


def message(*links: tuple[str, str, np.ndarray], stamp: int = 0) -> SimpleNamespace:
    """What a tf2_msgs/TFMessage holds (its package has no wheel)."""
    transforms = []
    for parent, child, T in links:
        one = TransformStamped(child_frame_id=child, transform=transform_from_matrix(T))
        one.header.frame_id, one.header.stamp = parent, time_from(stamp)
        transforms.append(one)
    return SimpleNamespace(transforms=transforms)


def node_of(clock: ROSClock) -> SimpleNamespace:
    return SimpleNamespace(get_clock=lambda: clock)


def driven(seconds: float) -> np.ndarray:
    """A car that drives 10 m/s along x and turns 0.2 rad/s."""
    T = np.eye(4)
    T[:2, :2] = [[np.cos(0.2 * seconds), -np.sin(0.2 * seconds)], [np.sin(0.2 * seconds), np.cos(0.2 * seconds)]]
    T[0, 3] = 10 * seconds
    return T


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_matrices_survive_as_quaternions(seed):
    T = rigid(seed)
    back = transform_from_matrix(T)
    q = back.rotation
    assert abs(q.x**2 + q.y**2 + q.z**2 + q.w**2 - 1) < 1e-12
    np.testing.assert_allclose(matrix_from_transform(back), T, atol=1e-12)


@pytest.mark.parametrize(("axis", "image"), [((1, 0, 0), (0, 0, 1)), ((0, 1, 0), (-1, 0, 0)), ((0, 0, 1), (0, 1, 0))])
def test_a_quarter_turn_goes_the_right_way(axis, image):
    """Right hand rule: about x, y goes to z; about y, z... is checked with x to -z; about z, x goes to y."""
    half = np.sqrt(0.5)
    turn = Transform()
    turn.rotation.x, turn.rotation.y, turn.rotation.z, turn.rotation.w = (*(half * a for a in map(float, axis)), half)
    start = {(1, 0, 0): (0, 1, 0), (0, 1, 0): (0, 0, -1), (0, 0, 1): (1, 0, 0)}[axis]
    np.testing.assert_allclose(matrix_from_transform(turn)[:3, :3] @ start, image, atol=1e-12)


def test_half_turns_have_a_quaternion():
    for axis in range(3):
        T = -np.eye(4)
        T[axis, axis] = T[3, 3] = 1
        np.testing.assert_allclose(matrix_from_transform(transform_from_matrix(T)), T, atol=1e-12)


def test_a_transform_without_a_rotation_is_refused():
    nothing = Transform()
    nothing.rotation.w = 0.0
    with pytest.raises(ConversionError, match="not a transform"):
        matrix_from_transform(nothing)


def test_chains_are_followed_up_and_down():
    T_base_lidar, T_lidar_left, T_base_right = rigid(1), rigid(2), rigid(3)
    transforms = TransformBuffer()
    transforms.add(message(("base_link", "lidar", T_base_lidar), ("lidar", "left", T_lidar_left)))
    transforms.add(message(("/base_link", "/right", T_base_right)))
    np.testing.assert_allclose(transforms.lookup("base_link", "left"), T_base_lidar @ T_lidar_left, atol=1e-9)
    expected = np.linalg.inv(T_base_lidar @ T_lidar_left) @ T_base_right
    np.testing.assert_allclose(transforms.lookup("left", "right"), expected, atol=1e-9)
    np.testing.assert_array_equal(transforms.lookup("lidar", "lidar"), np.eye(4))


def test_a_newer_transform_replaces_the_older():
    transforms = TransformBuffer()
    transforms.add(message(("a", "b", rigid(1))))
    transforms.add(message(("a", "b", rigid(2))))
    np.testing.assert_allclose(transforms.lookup("a", "b"), rigid(2), atol=1e-9)


def test_poses_are_those_of_the_time_that_is_asked_for():
    transforms = TransformBuffer()
    T_base_lidar = rigid(7)
    transforms.add(message(("base", "lidar", T_base_lidar), stamp=99 * SECOND), fixed=True)
    for tenth in (3, 1, 2):  # not in order
        transforms.add(message(("map", "base", driven(tenth / 10)), stamp=tenth * SECOND // 10))
    for seconds in (0.1, 0.2, 0.15, 0.225, 0.3):
        found = transforms.lookup("map", "lidar", int(seconds * SECOND))
        np.testing.assert_allclose(found, driven(seconds) @ T_base_lidar, atol=1e-6)
    np.testing.assert_allclose(transforms.lookup("map", "base"), driven(0.3), atol=1e-9)
    for seconds in (0.09, 0.31):
        with pytest.raises(TransformError, match=r"map -> base is known from 0\.100 to 0\.300 s, not at"):
            transforms.lookup("map", "lidar", int(seconds * SECOND))


def test_old_transforms_are_let_go():
    transforms = TransformBuffer(kept=2)
    for tenth in range(5):
        transforms.add(message(("map", "base", driven(tenth / 10)), stamp=tenth * SECOND // 10))
    np.testing.assert_allclose(transforms.lookup("map", "base", 3 * SECOND // 10), driven(0.3), atol=1e-9)
    with pytest.raises(TransformError, match=r"from 0\.300 to 0\.400"):
        transforms.lookup("map", "base", 2 * SECOND // 10)


def test_unconnected_frames_and_loops_are_named():
    transforms = TransformBuffer()
    with pytest.raises(TransformError, match="known from /tf_static and /tf are: none"):
        transforms.lookup("a", "b")
    transforms.add(message(("a", "b", rigid(1)), ("c", "d", rigid(2))))
    with pytest.raises(TransformError, match=r"from 'd' to 'b'.*a -> b, c -> d"):
        transforms.lookup("b", "d")
    transforms.add(message(("b", "a", rigid(1))))
    with pytest.raises(TransformError, match="loop"):
        transforms.lookup("b", "d")


def test_without_tf_packages_listening_says_so(monkeypatch):
    for package in ("tf2_ros", "tf2_msgs", "tf2_msgs.msg"):
        monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    with pytest.raises(ImportError, match="tf2_msgs"):
        tf_listener.listen_to_transforms(SimpleNamespace())


def test_tf2_ros_serves_where_it_is_installed(monkeypatch):
    """The same answers come through tf2_ros' interface, here played by a stand-in of tf2_ros itself."""
    ours = TransformBuffer()
    ours.add(message(("base", "lidar", rigid(4))))
    asked = []

    class Buffer:
        def lookup_transform(self, target, source, time, timeout):
            if source == "nowhere":
                raise KeyError("nowhere")
            asked.append((time.nanoseconds, timeout.nanoseconds))
            return message((target, source, ours.lookup(target, source))).transforms[0]

    fake = ModuleType("tf2_ros")
    fake.Buffer, fake.TransformException, fake.TransformListener = Buffer, KeyError, lambda buffer, node: None
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    listener = tf_listener.listen_to_transforms(node_of(ROSClock()))
    np.testing.assert_allclose(listener.lookup("/base", "lidar"), rigid(4), atol=1e-9)
    np.testing.assert_allclose(listener.lookup("base", "lidar", 5_000_000_007), rigid(4), atol=1e-9)
    assert asked == [(0, 0), (5_000_000_007, tf_listener.TF_TIMEOUT)]
    with pytest.raises(TransformError, match="nowhere"):
        listener.lookup("base", "nowhere")


def test_tf2_ros_gives_the_latest_transform_where_a_scans_own_time_is_not_known_and_that_is_right(monkeypatch):
    sent: list[tuple[int, np.ndarray]] = []

    class Buffer:
        def lookup_transform(self, target, source, time, timeout):
            stamp, T = sent[-1]
            if time.nanoseconds not in (0, stamp):
                raise KeyError("extrapolation")
            return message((target, source, T), stamp=stamp).transforms[0]

    fake = ModuleType("tf2_ros")
    fake.Buffer, fake.TransformException, fake.TransformListener = Buffer, KeyError, lambda buffer, node: None
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    listener = tf_listener.listen_to_transforms(node_of(ROSClock()))
    sent.append((SECOND, rigid(1)))
    with pytest.raises(TransformError, match="extrapolation"):
        listener.lookup("base", "lidar", 9 * SECOND)
    np.testing.assert_allclose(listener.lookup("base", "lidar", 9 * SECOND, slack=1), rigid(1), atol=1e-9)  # it never changed
    assert not listener.notes
    sent.append((2 * SECOND, rigid(2)))
    np.testing.assert_allclose(listener.lookup("base", "lidar", 2 * SECOND, slack=1), rigid(2), atol=1e-9)
    np.testing.assert_allclose(listener.lookup("base", "lidar", 2 * SECOND + 5, slack=5), rigid(2), atol=1e-9)
    assert "base -> lidar" in next(iter(listener.notes))
    with pytest.raises(TransformError, match="extrapolation"):
        listener.lookup("base", "lidar", 2 * SECOND + 6, slack=5)


def test_tf2_ros_forgets_the_time_before_the_clock_was_set_back(monkeypatch):
    """tf2 ignores transforms that are ten seconds older than its newest: all of a bag's second turn."""
    cleared: list[float] = []
    fake = ModuleType("tf2_ros")
    fake.Buffer = lambda: SimpleNamespace(clear=lambda: cleared.append(now))
    fake.TransformException, fake.TransformListener = KeyError, lambda buffer, node: None
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    clock, now = ROSClock(), 0.0
    listener = tf_listener.listen_to_transforms(node_of(clock))
    clock._set_ros_time_is_active(True)
    cleared.clear()
    for now in (50.0, 60.0, 59.5, 80.0, 50.0, 51.0):
        clock.set_ros_time_override(Time(seconds=now, clock_type=ClockType.ROS_TIME))
    assert cleared == [50.0]
    assert isinstance(listener, tf_listener.Tf2Transforms)

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scans of one and of two LiDARs: motion compensation by every source of poses, merging, and what is masked and counted."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from lidar_rig import (
    START,
    T_BASE_LIDAR,
    T_LIDAR_REAR,
    cloud,
    driven,
    in_the_frame,
    main_scan,
    no_tf,
    odometry,
    rear_scan,
    transforms,
)
from moving_room import pose
from tf_messages import tf_message

from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.pipeline.scans import MergedScan, read_scans
from occle_ros.sync.lidar_led import SyncedMessages

REAR = {"lidar_names": ["rear"]}


def read(
    main: Any, *further: Any, tf: Any = None, odom: TransformBuffer | None = None, poses: LidarPoses | None = None, **settings: Any
) -> MergedScan:
    """The merged scan of a frame of these messages."""
    frames = {"grid_frame": "velodyne", **settings.pop("frames", {})}
    config = NodeConfig.model_validate({"camera_names": [], "tf": frames, **settings})
    poses = poses or LidarPoses(config, Calibration(config, tf))
    lead = next(message for message in (main, *further) if message is not None)
    return read_scans(SyncedMessages(stamp_of(lead), main, (), {}, further), config, np.eye(4), poses, "velodyne")


def off(scan: MergedScan, world: np.ndarray, seconds: float) -> float:
    """The largest distance of the points from where they are at a time, metres."""
    return float(np.linalg.norm(scan.points[:, :3] - in_the_frame(world, seconds), axis=1).max())


@pytest.mark.parametrize(("stamp_at", "place"), [(0.0, "start"), (0.05, "middle"), (0.099, "end")])
def test_tf_takes_the_motion_out(stamp_at, place):
    message, world = main_scan(stamp_at=stamp_at)
    scan = read(message, tf=transforms())
    assert (off(scan, world, stamp_at) < 0.005, scan.deskew) == (True, "")
    assert off(read(message, tf=transforms(), lidar={"deskew": "off"}), world, stamp_at) > 0.4
    assert scan.found == (f"the points' times of lidar: field 'time' float32: relative, in s; the stamp is the scan's {place}",)


def test_poses_that_are_not_there_yet():
    """Live, the newest transform is often older than the scan's last point: the motion is continued for up to 0.1 s."""
    message, world = main_scan(0.1)
    assert off(read(message, tf=transforms(last=0.15)), world, 0.1) < 0.01
    assert off(read(message, tf=transforms(last=0.105)), world, 0.1) < 0.01
    late = read(message, tf=transforms(last=0.02))
    assert late.deskew == "no_pose"
    assert late.deskew_problem.startswith("the transform odom -> velodyne is known from 0.800 to 1.020 s, not at 1.0")
    assert off(late, world, 0.1) > 0.4


def test_odometry_takes_the_motion_out():
    message, world = main_scan()
    tf = TransformBuffer()
    tf.add(tf_message("base_link", "velodyne", T_BASE_LIDAR), fixed=True)
    settings = {"lidar": {"odometry_topic": "/odom"}}
    config = NodeConfig.model_validate({"camera_names": [], "tf": {"grid_frame": "velodyne"}, **settings})
    poses = LidarPoses(config, Calibration(config, tf))
    before = read(message, poses=poses, **settings)
    assert before.deskew == "no_pose" and "no odometry was received on /odom" in before.deskew_problem
    for second in driven():
        poses.add_odometry(odometry(second))
    assert off(read(message, poses=poses, **settings), world, 0.0) < 0.005
    T = poses.pose("velodyne", START + 123_000_000)
    np.testing.assert_allclose(T, pose(0.123), atol=1e-3)
    lost = LidarPoses(config, Calibration(config, no_tf()))
    lost.add_odometry(odometry(0.0))
    problem = read(message, poses=lost, **settings).deskew_problem
    assert "odometry is of 'base_link', and the LiDAR's place on it is not known" in problem


def test_the_scans_themselves_give_the_poses():
    pytest.importorskip("kiss_icp")
    settings = {"lidar": {"deskew": "kiss_icp"}}
    config = NodeConfig.model_validate({"camera_names": [], "tf": {"grid_frame": "velodyne"}, **settings})
    poses = LidarPoses(config, Calibration(config))
    results = []
    for number in range(4):
        message, world = main_scan(number * 0.1, columns=300)
        results.append((read(message, poses=poses, **settings), off(read(message, lidar={"deskew": "off"}), world, number * 0.1)))
    assert results[0][0].deskew == "no_pose" and "one pose only" in results[0][0].deskew_problem
    error, before = off(results[3][0], world, 0.3), results[3][1]
    assert results[3][0].deskew == "" and error < 0.6 * before, (error, before)


def test_without_kiss_icp_the_extra_is_named(monkeypatch):
    for module in ("kiss_icp", "kiss_icp.kiss_icp", "kiss_icp.config.parser"):
        monkeypatch.setitem(sys.modules, module, None)
    config = NodeConfig.model_validate({"lidar": {"deskew": "kiss_icp"}, "tf": {"grid_frame": "velodyne"}, "cameras": {
        "cam2": {"T_camera_lidar": np.eye(4).reshape(-1).tolist()}}})  # fmt: skip
    with pytest.raises(ConfigError, match=r"parameter lidar.deskew: .*pip install 'occle_ros\[odometry\]'"):
        LidarPoses(config, Calibration(config))
    config = NodeConfig.model_validate({"lidar": {"deskew": "odometry"}, "tf": {"grid_frame": "velodyne"}})
    with pytest.raises(ConfigError, match="needs the topic in"):
        LidarPoses(config, Calibration(config))


@pytest.mark.parametrize(
    ("how", "settings", "counted", "said"),
    [
        ("plain", {}, "", "^$"),  # motion-compensated by the driver, like KITTI's files: nothing to say
        ("plain", {"lidar": {"deskew": "tf"}}, "no_time", r"lidar.deskew is tf, but the points have no times"),
        ("zero", {}, "bad_time", r"times of lidar: field 'time' float32 is 0 for all points; the driver does not set it"),
        ("timed", {}, "no_pose", r"no chain of transforms; publish the robot's motion in TF \(frame 'odom'"),
        ("timed", {"frames": {"world_frame": "map"}}, "no_pose", r"frame 'map', parameter tf.world_frame"),
    ],
)
def test_what_cannot_be_compensated_is_counted_and_said(how, settings, counted, said):
    message, _ = main_scan(times=how != "plain")
    if how == "zero":
        message, _ = main_scan()
        points = np.frombuffer(bytes(message.data), np.float32).reshape(-1, 5)
        message = cloud(points[:, :4], np.zeros(len(points), np.float32), START)
    scan = read(message, tf=no_tf(), **settings)
    assert scan.deskew == counted
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(scan.deskew_problem)
    np.testing.assert_array_equal(scan.points, read(message, tf=no_tf(), lidar={"deskew": "off"}).points)


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("given", ["TF", "parameter"])
def test_two_lidars_become_one_scan(times, given):
    """40 ms apart, each compensated to the main one's stamp."""
    main, world = main_scan(0.1, times=times)
    rear, seen = rear_scan(0.06, times=times)
    settings = REAR if given == "TF" else REAR | {"lidars": {"rear": {"T_lidar": T_LIDAR_REAR.reshape(-1).tolist()}}}
    scan = read(main, rear, tf=transforms(rear=given == "TF"), **settings)
    assert len(scan.points) == main.width + rear.width and scan.deskew == "" and not scan.masked
    assert scan.origins.lidar.tolist() == [0] * main.width + [1] * rear.width
    np.testing.assert_allclose(scan.origins.positions, [np.zeros(3), T_LIDAR_REAR[:3, 3]], atol=1e-6)
    expected = np.concatenate([in_the_frame(world, 0.1), in_the_frame(seen, 0.1)])
    error = np.linalg.norm(scan.points[:, :3] - expected, axis=1)
    if times:
        assert error.max() < 0.005
    else:  # what moved during a turn stays, what moved between the two does not
        still = read(main, rear, tf=transforms(rear=given == "TF"), lidar={"deskew": "off"}, **settings)
        before = np.linalg.norm(still.points[:, :3] - expected, axis=1)
        first = slice(main.width, main.width + 16)  # the rear one's first firing, at its stamp
        assert error[first].max() < 0.005 < 0.3 < before[first].max()


def test_one_of_two_lidars_is_enough():
    main, world = main_scan()
    rear, seen = rear_scan()
    alone = read(main, None, tf=transforms(), **REAR)
    assert off(alone, world, 0.0) < 0.005 and alone.origins is None
    led = read(None, rear, tf=transforms(), **REAR)
    assert off(led, seen, 0.0) < 0.005
    np.testing.assert_allclose(led.origins.positions[led.origins.lidar[0]], T_LIDAR_REAR[:3, 3], atol=1e-6)
    lost = read(main, rear, tf=transforms(rear=False), **REAR)
    assert lost.masked == {"rear": "no_transform"} and off(lost, world, 0.0) < 0.005
    assert "publish the transform velodyne -> rear_lidar, or set parameter lidars.rear.T_lidar" in lost.problems["rear"]
    rear.fields = rear.fields[1:]
    broken = read(main, rear, tf=transforms(), **REAR)
    assert broken.masked == {"rear": "unreadable_scan"} and "rear/points has no field x" in broken.problems["rear"]
    main.fields = main.fields[1:]
    rear, seen = rear_scan()
    broken = read(main, rear, tf=transforms(), **REAR)
    assert broken.masked == {"lidar": "unreadable_scan"} and off(broken, seen, 0.0) < 0.005
    rear.fields = rear.fields[1:]
    with pytest.raises(ConversionError, match="has no field x"):
        read(main, rear, tf=transforms(), **REAR)


def test_the_robots_body_is_taken_out_of_every_lidar_before_it_moves():
    main, _ = main_scan()
    inside = np.array([[0.5, 0, 0, 1]] * 3, np.float32)
    T = np.linalg.inv(T_LIDAR_REAR)
    behind = inside.copy()
    behind[:, :3] = inside[:, :3] @ T[:3, :3].T + T[:3, 3]
    times = np.array([0, 0.05, 0.1], np.float32)
    settings = REAR | {"lidar": {"exclude_box": [0, -0.5, -0.5, 1, 0.5, 0.5]}}
    scan = read(cloud(inside, times, START), cloud(behind, times, START, "rear_lidar"), tf=transforms(), **settings)
    assert (len(scan.points), scan.dropped) == (0, {"exclude_box": 6})
    assert read(main, cloud(behind, times, START, "rear_lidar"), tf=transforms(), **settings).dropped == {"exclude_box": 3}
    # What the rear LiDAR alone sees of the robot.
    own = {**REAR, "lidars": {"rear": {"exclude_box": [0, -0.5, -0.5, 1, 0.5, 0.5]}}}
    scan = read(cloud(inside, times, START), cloud(behind, times, START, "rear_lidar"), tf=transforms(), **own)
    assert (len(scan.points), scan.dropped) == (3, {"exclude_box": 3})


def test_two_lidars_with_the_same_default_frame_are_said():
    main, _ = main_scan()
    rear, _ = rear_scan()
    rear.header.frame_id = "velodyne"
    said = "the scans of rear are in the frame of the main LiDAR's, 'velodyne': they are taken as they are"
    assert any(text.startswith(said) for text in read(main, rear, tf=transforms(), **REAR).found)
    given = REAR | {"lidars": {"rear": {"T_lidar": T_LIDAR_REAR.reshape(-1).tolist()}}}
    assert not any(text.startswith(said) for text in read(main, rear, tf=transforms(), **given).found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lidar_names": ["lidar"]}, "none 'lidar' or a camera's"),
        ({"lidar_names": ["a", "a"]}, "different identifiers"),
        ({"lidars": {"rear": {"topic": "x"}}}, r"lidars rear are configured but not in lidar_names \(\)"),
        ({**REAR, "lidars": {"rear": {"T_lidar": [1, 2]}}}, "lidars.rear.T_lidar needs 16 numbers"),
        ({"camera_names": ["rear"], **REAR}, "or a camera's"),
    ],
)
def test_settings_that_contradict_themselves(settings, said):
    with pytest.raises(ValueError, match=said):
        NodeConfig.model_validate(settings)

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Motion distortion in simulated streets, and its compensation against the rays' own hits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from occle_train.streets.drive import Drive
from occle_train.streets.moving_scan import lidar_trajectory, moving_scan
from occle_train.streets.sensors.lidar import scan

from occle_core.geometry.trajectory import Trajectory, exp_se3
from occle_core.sensors.deskew import deskew, motion_table

DURATION = 0.1


@pytest.fixture(scope="module")
def street():
    """A drive, its scene, its LiDAR without noise, and where that is at first."""
    drive = Drive("kitti", 5, 0, 2, 0.05)
    lidar = replace(drive.rig.lidar, columns=500, range_noise=0.0)
    return drive, drive.snapshot(0)[0], lidar, drive.base_pose(0) @ drive.rig.T_base_lidar


def curve(T: np.ndarray, speed: float, turn: float) -> Trajectory:
    """From pose T on, at constant speed and rate of turning, known every 10 ms."""
    seconds = np.arange(-10, 21) / 100
    steps = exp_se3(np.array([[speed, 0, 0, 0, 0, turn]]) * seconds[:, None])
    return Trajectory(np.round(seconds * 1e9).astype(np.int64), T @ steps)


def test_a_sensor_at_rest_sees_the_static_scan(street):
    _, snapshot, lidar, T = street
    still = scan(snapshot, lidar, T, np.random.default_rng(3))
    found, offsets = moving_scan(snapshot, lidar, curve(T, 0, 0), 0, DURATION, np.random.default_rng(3))
    np.testing.assert_allclose(found.points, still.points, atol=2e-3)
    np.testing.assert_array_equal(found.column, still.column)
    np.testing.assert_allclose(offsets, found.column * (DURATION / lidar.columns), atol=1e-7)


@pytest.mark.parametrize("reference", [0.0, 0.1])
def test_ten_metres_and_thirty_degrees_per_second_leave_less_than_two_centimetres_at_twenty_metres(street, reference):
    _, snapshot, lidar, T = street
    trajectory = curve(T, 10.0, np.radians(30))
    found, offsets = moving_scan(snapshot, lidar, trajectory, 0, DURATION, np.random.default_rng(3))
    moved = deskew(found.points, offsets, motion_table(trajectory, 0, 0.0, DURATION, round(reference * 1e9)))
    T_world_reference = trajectory.at([round(reference * 1e9)])[0]
    before, after = (_off_the_surfaces(snapshot, T_world_reference, points) for points in (found.points, moved))
    # At edges a ray passes beside what a point lies on, whatever was compensated: nine in ten have a surface behind them.
    assert np.quantile(after, 0.9) < 0.02 < 0.2 < np.quantile(before, 0.9)
    # Against the hits of the rays themselves, all of them.
    poses = trajectory.at(np.round(offsets.astype(np.float64) * 1e9).astype(np.int64))
    world = np.einsum("nij,nj->ni", poses[:, :3, :3], found.points[:, :3].astype(np.float64)) + poses[:, :3, 3]
    inverse = np.linalg.inv(T_world_reference)
    truth = world @ inverse[:3, :3].T + inverse[:3, 3]
    near = np.linalg.norm(truth, axis=1) < 22
    assert np.linalg.norm(moved[:, :3] - truth, axis=1)[near].max() < 0.005
    assert np.linalg.norm(found.points[:, :3] - truth, axis=1)[near].max() > 1.2


def test_the_drives_own_motion(street):
    drive, _, _, T = street
    trajectory = lidar_trajectory(drive, 0, DURATION)
    np.testing.assert_allclose(trajectory.at([round(drive.times[0] * 1e9)])[0], T, atol=1e-3)
    there = drive.base_pose(1) @ drive.rig.T_base_lidar
    np.testing.assert_allclose(trajectory.at([round(drive.times[1] * 1e9)])[0], there, atol=0.02)


def _off_the_surfaces(snapshot, T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far points around 20 m from a pose are from what the ray in their direction hits, metres."""
    distance = np.linalg.norm(points[:, :3], axis=1)
    near = (distance > 15) & (distance < 25)
    directions = (points[near, :3] / distance[near, None]) @ T[:3, :3].T.astype(np.float32)
    _, hit = snapshot.cast(T[:3, 3], directions.astype(np.float32))
    return np.abs(hit - distance[near])

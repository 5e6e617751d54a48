# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Motion compensation against walls in closed form, and its compiled kernel against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_kernels import load_or_skip
from moving_room import TURN_TIME, pose, room_scan, trajectory

from occle_core.geometry.trajectory import PoseGapError, exp_se3
from occle_core.native import library
from occle_core.sensors.deskew import deskew, motion_table

MS = 1_000_000


@pytest.mark.parametrize("reference", [0.0, 0.05, 0.1, 0.15])
def test_walls_are_where_they_are(reference):
    """The order of the points does not matter: drivers send them by firing, or ring by ring."""
    points, seconds, world = room_scan()
    order = np.random.default_rng(0).permutation(len(points))
    points, seconds, world = points[order], seconds[order], world[order]
    motion = motion_table(trajectory(), 0, 0.0, TURN_TIME, round(reference * 1e9))
    there = np.linalg.inv(pose(reference))
    expected = world @ there[:3, :3].T + there[:3, 3]
    off = np.linalg.norm(points[:, :3] - expected, axis=1)
    moved = deskew(points, seconds, motion)
    error = np.linalg.norm(moved[:, :3] - expected, axis=1)
    assert error.max() < 0.002
    assert off.max() > 0.7  # what is repaired; with the reference at an end of the scan twice as much
    np.testing.assert_array_equal(moved[:, 3], points[:, 3])


def test_a_stamp_at_the_end_and_a_mounted_sensor():
    points, seconds, world = room_scan(100)
    T_car_sensor = exp_se3(np.array([[0.5, -1, 0.3, 0.1, 0.2, 1.0]]))[0]
    from_sensor = np.linalg.inv(T_car_sensor)
    mounted = points.copy()
    mounted[:, :3] = points[:, :3] @ from_sensor[:3, :3].T + from_sensor[:3, 3]
    motion = motion_table(trajectory(), 100 * MS, -0.1, 0.0, 40 * MS, T_car_sensor)
    there = np.linalg.inv(pose(0.04))
    expected = world @ there[:3, :3].T + there[:3, 3]
    np.testing.assert_allclose(deskew(mounted, seconds - np.float32(0.1), motion)[:, :3], expected, atol=0.002)


def test_without_times_a_scan_moves_as_one():
    points, _, _ = room_scan(50)
    motion = motion_table(trajectory(), 20 * MS, 0.0, 0.0, 70 * MS)
    T = np.linalg.inv(pose(0.07)) @ pose(0.02)
    np.testing.assert_allclose(deskew(points, None, motion)[:, :3], points[:, :3] @ T[:3, :3].T + T[:3, 3], atol=1e-5)


def test_poses_may_end_a_little_before_the_scan_and_no_more():
    points, seconds, _ = room_scan(100)
    known, short = trajectory(), trajectory(last=0.06)
    exact = deskew(points, seconds, motion_table(known, 0, 0.0, TURN_TIME, 0))
    np.testing.assert_allclose(deskew(points, seconds, motion_table(short, 0, 0.0, TURN_TIME, 0)), exact, atol=1e-4)
    with pytest.raises(PoseGapError, match=r"poses are known from -0\.050 to -0\.010 s, not from 0\.000 to 0\.100 s"):
        motion_table(trajectory(last=-0.01), 0, 0.0, TURN_TIME, 0)


def test_it_writes_into_a_part_of_a_merged_cloud():
    points, seconds, _ = room_scan(30)
    motion = motion_table(trajectory(), 0, 0.0, TURN_TIME, 0)
    merged = np.full((len(points) + 7, 4), -1, np.float32)
    assert deskew(points, seconds, motion, merged[3:-4]).base is merged
    np.testing.assert_array_equal(merged[3:-4], deskew(points, seconds, motion))
    assert (merged[:3] == -1).all() and (merged[-4:] == -1).all()
    assert deskew(points[:0], seconds[:0], motion).shape == (0, 4)
    with pytest.raises(ValueError, match="as many"):
        deskew(points, seconds[1:], motion)


def test_numpy_and_the_compiled_kernel_agree_bit_by_bit(monkeypatch):
    load_or_skip()
    points, seconds, _ = room_scan()
    times = seconds + np.random.default_rng(1).normal(0, 0.03, len(seconds)).astype(np.float32)  # some outside the table
    motion = motion_table(trajectory(), 0, 0.0, TURN_TIME, 50 * MS)
    inputs = (points, np.asfortranarray(points), np.hstack([points, points])[:, :4])
    compiled = [deskew(each, times, motion) for each in inputs]
    monkeypatch.setenv(library.VARIABLE, "off")
    for each, found in zip(inputs, compiled):
        np.testing.assert_array_equal(deskew(each, times, motion), found)

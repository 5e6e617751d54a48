# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Clouds of voxels: written, and read back as the occupancy."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.sensors.messages import ConversionError, nanoseconds
from occle_ros.messages.clouds import cloud_from_occupancy, cloud_from_points, occupancy_from_cloud
from occle_ros.messages.common import time_from


def occupancy(seed: int = 0) -> Occupancy:
    rng = np.random.default_rng(seed)
    names = taxonomy.load("semantickitti")
    grid = VoxelGrid((0.0, -3.2, -2.0), (12, 16, 8), 0.4)
    labels = np.where(rng.random(grid.shape) < 0.2, rng.integers(1, 20, grid.shape), 0).astype(np.uint8)
    confidence = np.where(labels > 0, rng.random(grid.shape), 0).astype(np.float16)
    return Occupancy.of_volumes(labels, confidence, grid, names, stamp=12_345_678_901, frame_id="velodyne")


def test_occupancy_survives_the_wire():
    given = occupancy()
    received = deserialize_message(serialize_message(cloud_from_occupancy(given)), PointCloud2)
    back = occupancy_from_cloud(received, given.grid, given.taxonomy)
    np.testing.assert_array_equal(back.labels, given.labels)
    np.testing.assert_array_equal(back.confidence, given.confidence)
    assert (back.stamp, back.frame_id) == (given.stamp, given.frame_id)


def test_voxel_cloud_is_laid_out_as_documented():
    given = occupancy()
    message = cloud_from_occupancy(given)
    expected = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("label", 12, 2), ("confidence", 16, 7), ("rgb", 20, 7)]
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == expected
    first = np.argwhere(given.labels > 0)[0]
    x, y, z, label, confidence, blue, green, red = struct.unpack_from("<fffBxxxfBBB", bytes(message.data))
    np.testing.assert_allclose([x, y, z], (first + 0.5) * 0.4 + given.grid.origin, rtol=1e-6)
    assert label == given.labels[tuple(first)] and confidence == given.confidence[tuple(first)]
    assert [red, green, blue] == given.taxonomy.colors[label].tolist()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_written_voxels_are_what_a_slow_reader_finds(seed):
    given = occupancy(seed)
    message = cloud_from_occupancy(given)
    found = [struct.unpack_from("<fffBxxxf", bytes(message.data), at) for at in range(0, len(message.data), message.point_step)]
    expected = []
    for i, j, k in np.ndindex(*given.grid.shape):
        if given.labels[i, j, k]:
            centre = [o + 0.4 * (n + 0.5) for o, n in zip(given.grid.origin, (i, j, k))]
            expected.append((*centre, given.labels[i, j, k], given.confidence[i, j, k]))
    np.testing.assert_allclose(found, np.array(expected, np.float64), rtol=1e-5, atol=1e-6)


def test_unknown_cells_come_after_the_voxels_and_survive_the_wire():
    given = occupancy()
    given = replace(given, unseen=(given.labels == given.taxonomy.free) & (np.arange(given.grid.shape[0]) % 2 == 0)[:, None, None])
    labels = given.labels
    known, whole = cloud_from_occupancy(given), cloud_from_occupancy(given, unknown=True)
    assert known.width == given.occupied.sum()
    assert whole.width == known.width + np.count_nonzero(labels == 255) > known.width > 0
    assert whole.data[: len(known.data)] == known.data
    back = occupancy_from_cloud(whole, given.grid, given.taxonomy)
    np.testing.assert_array_equal(back.labels, labels)
    assert not back.confidence[labels == 255].any()


def test_voxels_of_another_grid_or_taxonomy_are_refused():
    message = cloud_from_occupancy(occupancy())
    with pytest.raises(ConversionError, match="outside the"):
        occupancy_from_cloud(message, VoxelGrid((0, 0, 0), (4, 4, 4), 0.4), occupancy().taxonomy)
    with pytest.raises(ConversionError, match="not one of occ3d_nuscenes"):
        occupancy_from_cloud(message, occupancy().grid, taxonomy.load("occ3d_nuscenes"))
    with pytest.raises(ConversionError, match="not a cloud of labelled voxels"):
        occupancy_from_cloud(cloud_from_points(np.zeros((1, 4)), 0, "l"), occupancy().grid, occupancy().taxonomy)


@given(st.integers(0, 2**31 * 1_000_000_000 - 1))
def test_stamps_are_exact(stamp):
    time = time_from(stamp)
    assert nanoseconds(time) == stamp == time.sec * 10**9 + time.nanosec


def test_a_stamp_that_is_no_ros_time_is_refused():
    with pytest.raises(ConversionError, match="nanoseconds"):
        time_from(2**31 * 1_000_000_000)

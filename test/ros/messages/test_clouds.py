# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Points of PointCloud2 messages of any layout, read and written."""

from __future__ import annotations

import re
import struct
from array import array
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField

from occle_core.sensors.clouds import intensity_problem, points_from_cloud
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.messages.clouds import cloud_from_points

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}  # PointField datatype -> struct code


def slow_points(message: PointCloud2) -> tuple[np.ndarray, dict[str, int]]:
    """Point by point with struct, as the message's definition reads; rows of which row_step says nothing usable are packed."""
    order = ">" if message.is_bigendian else "<"
    fields = {f.name: f for f in message.fields}
    rows, dropped = [], Counter()
    packed = message.width * message.point_step
    row_step = packed if message.row_step in (0, packed * message.height) else message.row_step
    for v in range(message.height):
        for u in range(message.width):
            at = v * row_step + u * message.point_step
            values = []
            for name in ("x", "y", "z", "intensity"):
                if name not in fields:
                    values.append(0.0)
                    continue
                f = fields[name]
                values.append(struct.unpack_from(order + CODES[f.datatype], bytes(message.data), at + f.offset)[0])
            with np.errstate(over="ignore"):
                row = np.array(values, np.float64).astype(np.float32)
            if row[0] == row[1] == row[2] == 0:
                dropped["no_return"] += 1
            elif np.isfinite(row).all():
                rows.append(row)
            else:
                dropped["not_finite"] += 1
    return np.array(rows, np.float32).reshape(-1, 4), dict(dropped)


@st.composite
def messages(draw) -> PointCloud2:
    height, width = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    coordinate = draw(st.sampled_from([7, 8]))
    layout = [("x", coordinate), ("y", coordinate), ("z", coordinate)]
    if draw(st.booleans()):
        layout.append(("intensity", draw(st.sampled_from(sorted(CODES)))))
    layout += [("ring", 4)] * draw(st.integers(0, 1))
    offset, fields = 0, []
    for name, datatype in draw(st.permutations(layout)):
        offset += draw(st.integers(0, 3))
        fields.append(PointField(name=name, offset=offset, datatype=datatype, count=1))
        offset += struct.calcsize(CODES[datatype])
    message = PointCloud2(height=height, width=width, fields=fields, is_bigendian=draw(st.booleans()))
    message.point_step = offset + draw(st.integers(0, 4))
    packed = message.point_step * width
    rows = draw(st.sampled_from(["padded", "none", "the whole cloud"]))
    padding = draw(st.integers(0, 7)) if rows == "padded" else 0
    message.row_step = {"padded": packed + padding, "none": 0, "the whole cloud": packed * height}[rows]
    size = height * (packed + padding)
    raw = bytearray(draw(st.binary(min_size=size, max_size=size)))
    order = ">" if message.is_bigendian else "<"
    for number in draw(st.lists(st.integers(0, max(height * width - 1, 0)), max_size=4)) if height * width else ():
        # Random bytes are mostly tiny or huge numbers; put some ordinary ones and some beams without an echo in.
        at = number // width * (packed + padding) + number % width * message.point_step
        values = draw(st.sampled_from([(0.0, 0.0, 0.0), (-0.0, 0.0, -0.0), (0.0, 0.0, 1.5), (7.0, 0.0, 0.0), (3.5, -80.0, 0.25)]))
        for name, value in zip("xyz", values):
            f = next(f for f in fields if f.name == name)
            struct.pack_into(order + CODES[f.datatype], raw, at + f.offset, value)
    message.data = array("B", bytes(raw))
    return message


@settings(max_examples=300, deadline=None)
@given(messages())
def test_points_of_any_layout_are_those_of_a_slow_reader(message):
    with np.errstate(invalid="ignore"):
        points, dropped = points_from_cloud(message)
    expected, expected_dropped = slow_points(message)
    assert points.dtype == np.float32 and dropped == expected_dropped
    np.testing.assert_array_equal(points, expected)


@settings(max_examples=100, deadline=None)
@given(messages(), st.integers(1, 60))
def test_data_that_is_shorter_than_the_points_is_refused(message, missing):
    packed = message.height * message.width * message.point_step
    message.data = message.data[: max(packed - missing, 0)]
    if packed:
        with pytest.raises(ConversionError, match=r"truncated|do not fit row_step"):
            points_from_cloud(message)


def test_points_survive_the_wire():
    points = np.random.default_rng(0).normal(0, 20, (1000, 4)).astype(np.float32)
    message = cloud_from_points(points, 1_700_000_000_123_456_789, "velodyne")
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert received == message and received.header.frame_id == "velodyne"
    assert stamp_of(received) == 1_700_000_000_123_456_789
    back, dropped = points_from_cloud(received)
    np.testing.assert_array_equal(back, points)
    assert dropped == {}


def test_useless_points_are_left_out_and_counted_by_reason_and_intensity_is_scaled():
    nan, inf = np.nan, np.inf
    rows = [[1, 2, 3, 255], [nan, 0, 0, 1], [0, inf, 0, 1], [0, 0, 0, 9], [0, 0, 0, nan], [0, 0, 2, 0], [4, 5, 6, 51]]
    message = cloud_from_points(np.array(rows, np.float32), 0, "l")
    got, dropped = points_from_cloud(message, intensity_scale=1 / 255)
    np.testing.assert_allclose(got, [[1, 2, 3, 1], [0, 0, 2, 0], [4, 5, 6, 0.2]], rtol=1e-6)
    assert dropped == {"not_finite": 2, "no_return": 2}


def test_an_empty_cloud_gives_no_points():
    points, dropped = points_from_cloud(cloud_from_points(np.zeros((0, 4), np.float32), 0, "l"))
    assert points.shape == (0, 4) and dropped == {}


def test_a_cloud_of_height_0_with_data_is_not_taken_for_empty():
    cloud = cloud_from_points(np.ones((3, 4), np.float32), 0, "l")
    cloud.height = 0
    with pytest.raises(ConversionError, match="has a width of 3 and a height of 0; an unorganised cloud's is 1"):
        points_from_cloud(cloud)


def test_a_cloud_without_z_or_with_truncated_data_is_refused_with_its_fields():
    message = cloud_from_points(np.zeros((5, 4), np.float32), 0, "l")
    message.data = message.data[:-1]
    with pytest.raises(ConversionError, match=r"truncated.*x float32@0.*need 80 bytes, it has 79"):
        points_from_cloud(message)
    message.fields = [f for f in message.fields if f.name != "z"]
    with pytest.raises(ConversionError, match=r"no field z; its fields are x float32@0, y float32@4, intensity float32@12"):
        points_from_cloud(message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datatype": PointField.INT32}, "must be one f4 or f8"),
        ({"offset": 13}, "does not fit a point of 16 bytes"),
        ({"count": 3}, "must be one"),
    ],
)
def test_impossible_fields_are_refused(change, words):
    message = cloud_from_points(np.zeros((5, 4), np.float32), 0, "l")
    for name, value in change.items():
        setattr(message.fields[0], name, value)
    with pytest.raises(ConversionError, match=words):
        points_from_cloud(message)


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.floats(width=32, allow_nan=False)] * 4), max_size=20), st.integers(0, 2**31))
def test_written_points_are_what_a_slow_reader_finds(rows, stamp):
    message = cloud_from_points(np.array(rows, np.float32).reshape(-1, 4), stamp, "lidar")
    assert (message.height, message.width, message.row_step, message.is_bigendian) == (1, len(rows), 16 * len(rows), False)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1), ("intensity", 12, 7, 1)
    ]  # fmt: skip
    assert list(struct.iter_unpack("<ffff", bytes(message.data))) == rows


def cloud_of(rows: np.ndarray, height: int = 1) -> PointCloud2:
    """A structured array as a cloud, fields at the array's own offsets."""
    kinds = {"f4": 7, "f8": 8, "u1": 2, "u2": 4, "u4": 6}
    fields = [
        PointField(name=name, offset=offset, datatype=kinds[dtype.str[1:]], count=1)
        for name, (dtype, offset) in rows.dtype.fields.items()
    ]
    size = rows.dtype.itemsize
    width = len(rows) // height
    return PointCloud2(
        height=height, width=width, fields=fields, point_step=size, row_step=size * width, data=array("B", rows.tobytes())
    )


LAYOUTS = {
    "velodyne": [("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4"), ("ring", "u2"), ("time", "f4")],
    "ouster": {
        "names": ["x", "y", "z", "intensity", "t", "reflectivity", "ring"], "itemsize": 48,
        "formats": ["f4", "f4", "f4", "f4", "u4", "u2", "u2"], "offsets": [0, 4, 8, 16, 20, 24, 26],
    },
    "hesai": {
        "names": ["x", "y", "z", "intensity", "timestamp", "ring"], "itemsize": 32,
        "formats": ["f4", "f4", "f4", "u1", "f8", "u2"], "offsets": [0, 4, 8, 12, 16, 24],
    },
    "livox": [("x", "f4"), ("y", "f4"), ("z", "f4"), ("reflectivity", "u1"), ("tag", "u1"), ("line", "u1")],
    "short name": [("x", "f8"), ("y", "f8"), ("z", "f8"), ("i", "u2")],
}  # fmt: skip
"""Layouts of common drivers' clouds."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_drivers_layouts_are_read_with_their_intensity(layout):
    rows = np.zeros(6, LAYOUTS[layout])
    for number, name in enumerate(rows.dtype.names):
        rows[name] = np.arange(6) * 3 + number
    points, dropped = points_from_cloud(cloud_of(rows, height=2))
    intensity = next(name for name in ("intensity", "reflectivity", "i") if name in rows.dtype.names)
    np.testing.assert_array_equal(points, np.stack([rows[name] for name in ("x", "y", "z", intensity)], 1))
    assert dropped == {}


def test_the_common_layout_is_not_copied():
    message = cloud_from_points(np.ones((5, 4), np.float32), 0, "l")
    points, _ = points_from_cloud(message)
    assert np.shares_memory(points, np.frombuffer(message.data, np.uint8))


def test_an_organised_cloud_with_nan_gives_its_finite_points():
    rows = np.zeros(12, LAYOUTS["velodyne"])
    rows["x"] = np.arange(12)
    rows["y"][::4] = np.nan
    points, dropped = points_from_cloud(cloud_of(rows, height=3))
    assert points[:, 0].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11] and dropped == {"not_finite": 3}


@pytest.mark.parametrize("row_step", [0, 16 * 6 * 11])
def test_organised_clouds_of_drivers_that_miscount_the_row_step(row_step):
    """velodyne leaves it 0, PointCloud2Modifier's resize sets it to the whole cloud (ros2/common_interfaces 320)."""
    points = np.random.default_rng(0).normal(0, 10, (6 * 11, 4)).astype(np.float32)
    message = cloud_from_points(points, 0, "l")
    message.height, message.width, message.row_step = 6, 11, row_step
    np.testing.assert_array_equal(points_from_cloud(message)[0], points)
    message.data = message.data + array("B", [0])
    with pytest.raises(ConversionError, match=r"do not fit row_step 0|truncated"):
        points_from_cloud(message)


def test_a_cloud_of_one_row_needs_no_row_step():
    message = cloud_from_points(np.ones((5, 4), np.float32), 0, "l")
    message.row_step = 7
    assert len(points_from_cloud(message)[0]) == 5
    message.height, message.width = 5, 1
    with pytest.raises(ConversionError, match="do not fit row_step 7"):
        points_from_cloud(message)


def test_a_map_is_refused_before_anything_is_allocated():
    message = cloud_from_points(np.ones((1, 4), np.float32), 0, "l")
    message.width = 4_000_000_000
    with pytest.raises(ConversionError, match=r"/map has 4000000000 points.*parameter lidar.topic"):
        points_from_cloud(message, topic="/map")


@pytest.mark.parametrize(
    ("highest", "scale", "words"),
    [
        (1.0, 1.0, None),
        (1.3, 1.0, None),
        (255.0, 1.0, "lidar.intensity_scale:=0.00392157"),
        (100.0, 1.0, r"\(1/255\)"),
        (3000.0, 1.0, r"\(1/4095\)"),
        (40000.0, 1.0, r"\(1/65535\)"),
        (1.0, 1 / 255, None),  # scaled already
        (200.0, 255.0, r"intensity_scale:=1 \(1/1\)"),  # multiplied instead of divided
        (1 / 255, 1 / 255, "lidar.intensity_scale:=1"),
        (0.0, 1.0, None),  # no intensity at all: nothing to scale
    ],
)
def test_intensities_that_the_network_does_not_know_are_told(highest, scale, words):
    points = np.zeros((10, 4), np.float32)
    points[3, 3] = highest
    problem = intensity_problem(points, scale)
    assert problem is None if words is None else re.search(words, problem), problem


def test_intensity_of_no_points_is_no_problem():
    assert intensity_problem(np.zeros((0, 4), np.float32), 1.0) is None

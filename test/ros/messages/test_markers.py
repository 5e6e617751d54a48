# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import numpy as np
import pytest
from geometry_msgs.msg import Point
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from visualization_msgs.msg import Marker, MarkerArray

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_ros.messages.markers import CdrWriter, delete_all, marker_array, surface_cells, write_marker

TYPES = get_typestore(Stores.ROS2_KILTED)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


def occupancy(labels: np.ndarray, resolution: float = 0.5) -> Occupancy:
    grid = VoxelGrid((0.0, -1.0, -2.0), labels.shape, resolution)
    names = taxonomy.load("semantickitti")
    return Occupancy.of_volumes(labels, (labels > 0).astype(np.float16), grid, names, stamp=3_000_000_001, frame_id="velodyne")


def cube_list(
    stamp: int, frame: str, namespace: str, number: int, points: np.ndarray, edge: float, rgba: tuple[float, ...]
) -> Marker:
    marker = Marker(ns=namespace, id=number, type=Marker.CUBE_LIST, action=Marker.ADD if len(points) else Marker.DELETE)
    marker.header.frame_id = frame
    marker.header.stamp.sec, marker.header.stamp.nanosec = divmod(stamp, 10**9)
    marker.scale.x = marker.scale.y = marker.scale.z = edge
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = rgba
    marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in points]
    return marker


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(NAMES, NAMES, st.integers(0, 3), st.integers(0, 2**31 - 1)), max_size=3), st.integers(0, 2**31 * 10**9 - 1)
)
def test_bytes_are_those_of_two_other_serialisers(markers, stamp):
    """Frame and namespace lengths move every later field, so that all alignments occur."""
    writer = CdrWriter()
    writer.pack("I", len(markers))
    expected = MarkerArray()
    for frame, namespace, count, number in markers:
        points = np.arange(3 * count, dtype=float).reshape(-1, 3) / 7
        write_marker(writer, stamp, frame, namespace, number, points, 0.4, (1.0, 0.5, 0.25, 0.75))
        expected.markers.append(cube_list(stamp, frame, namespace, number, points, 0.4, (1.0, 0.5, 0.25, 0.75)))
    data = writer.data()
    assert deserialize_message(data, MarkerArray) == expected
    reference = serialize_message(expected)
    # rclpy leaves memory's old content in its padding; rosbags writes zeros there, as we do.
    assert len(data) == len(reference)
    name = "visualization_msgs/msg/MarkerArray"
    assert bytes(TYPES.serialize_cdr(TYPES.deserialize_cdr(reference, name), name)) == data


def test_every_class_keeps_its_id_and_absent_classes_are_deleted():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, 0], labels[2, 3, 4], labels[5, 5, 5] = 9, 9, 15
    drawn = marker_array(occupancy(labels), alpha=0.5)
    markers = {marker.id: marker for marker in deserialize_message(drawn.data, MarkerArray).markers}
    assert sorted(markers) == list(range(1, 20)) and drawn.cubes == 3
    assert {i for i, m in markers.items() if m.action == Marker.ADD} == {9, 15}
    assert all(m.action == Marker.DELETE and not m.points for i, m in markers.items() if i not in (9, 15))
    nine = markers[9]
    assert (nine.ns, nine.type, nine.header.frame_id, nine.scale.x) == ("occupancy", Marker.CUBE_LIST, "velodyne", 0.5)
    assert (nine.header.stamp.sec, nine.header.stamp.nanosec) == (3, 1)
    assert [(p.x, p.y, p.z) for p in nine.points] == [(0.25, -0.75, -1.75), (1.25, 0.75, 0.25)]
    assert nine.pose.orientation.w == 1.0
    colour = [nine.color.r, nine.color.g, nine.color.b, nine.color.a]
    np.testing.assert_allclose(colour, [*(taxonomy.load("semantickitti").colors[9] / 255), 0.5], rtol=1e-6)


def test_free_and_unknown_cells_draw_nothing():
    labels = np.full((3, 3, 3), 255, np.uint8)
    labels[1] = 0
    drawn = marker_array(occupancy(labels))
    assert (drawn.cubes, drawn.hidden, drawn.left_out) == (0, 0, 0)
    assert all(m.action == Marker.DELETE for m in deserialize_message(drawn.data, MarkerArray).markers)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 5)] * 3), st.floats(0.3, 1.0), st.integers(0, 99))
def test_surface_cells_are_the_occupied_ones_with_a_free_neighbour(shape, density, seed):
    occupied = np.random.default_rng(seed).random(shape) < density
    expected = []
    for cell in np.ndindex(shape):
        neighbours = [np.add(cell, step) for step in [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]]
        inside = [n for n in neighbours if (n >= 0).all() and (n < shape).all()]
        if occupied[cell] and not (len(inside) == 6 and all(occupied[tuple(n)] for n in inside)):
            expected.append(cell)
    assert list(zip(*np.unravel_index(surface_cells(occupied), shape))) == expected


def test_only_the_surface_is_drawn_unless_told():
    labels = np.full((5, 5, 5), 13, np.uint8)
    drawn = marker_array(occupancy(labels))
    assert (drawn.cubes, drawn.hidden) == (125 - 27, 27)
    assert marker_array(occupancy(labels), surface_only=False).cubes == 125


@pytest.mark.parametrize("limit", [0, 1, 10])
def test_beyond_the_limit_the_nearest_win_and_the_rest_is_counted(limit):
    labels = np.zeros((40, 2, 1), np.uint8)
    labels[::2, 0, 0] = np.arange(20) % 5 + 1
    drawn = marker_array(occupancy(labels), limit=limit)
    points = [p.x for m in deserialize_message(drawn.data, MarkerArray).markers for p in m.points]
    assert (drawn.cubes, drawn.left_out) == (limit, 20 - limit)
    assert sorted(points) == [0.25 + i for i in range(limit)]


def test_twenty_thousand_cubes_cost_a_fraction_of_their_serialization():
    """The bytes are the same as those of `serialize_message`, which takes a Point for each cube: the reason for the splicing."""
    labels = np.zeros((128, 128, 16), np.uint8)
    at = np.random.default_rng(0).choice(labels.size, 20_000, replace=False)
    labels.reshape(-1)[at] = at % 19 + 1
    given = occupancy(labels)

    def milliseconds(action) -> float:
        began = time.perf_counter()
        action()
        return (time.perf_counter() - began) * 1e3

    points = np.random.default_rng(0).random((20_000, 3))

    def splice() -> None:
        writer = CdrWriter()
        writer.pack("I", 1)
        write_marker(writer, 0, "velodyne", "occupancy", 1, points, 0.4, (1.0, 1.0, 1.0, 1.0))
        writer.data()

    def serialize() -> None:
        serialize_message(MarkerArray(markers=[cube_list(0, "velodyne", "occupancy", 1, points, 0.4, (1.0, 1.0, 1.0, 1.0))]))

    usual = min(milliseconds(serialize) for _ in range(3))
    assert min(milliseconds(splice) for _ in range(9)) < usual / 40
    assert min(milliseconds(lambda: marker_array(given)) for _ in range(9)) < usual / 8  # with finding, sorting and colouring them


def test_everything_can_be_taken_back():
    (marker,) = deserialize_message(delete_all(3_000_000_001, "velodyne"), MarkerArray).markers
    assert marker.action == Marker.DELETEALL
    assert (marker.header.frame_id, marker.header.stamp.sec, marker.header.stamp.nanosec) == ("velodyne", 3, 1)

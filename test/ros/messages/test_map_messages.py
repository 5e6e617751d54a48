# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Messages of the map against what their readers do with them: nav2's static layer, and viewers of whole maps and updates."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from map_rig import cells_of

from benchmark.mapping.static_layer import FREE, LETHAL, NO_INFORMATION, StaticLayer
from occle_core import taxonomy
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, MapSnapshot, RollingMap
from occle_core.mapping.changes import bounding_box, in_window
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, UNKNOWN, HeightBand, project_bands
from occle_core.mapping.objects import MapObject
from occle_core.occupancy import Occupancy
from occle_ros.messages.clouds import distance_cloud
from occle_ros.messages.common import header
from occle_ros.messages.map_messages import GridStream, VoxelStream
from occle_ros.messages.objects import objects_message, objects_type

CLASSES = taxonomy.load("semantickitti")
ROAD, CAR = CLASSES.id("road"), CLASSES.id("car")
GRID = VoxelGrid((0.0, -3.2, -1.6), (16, 16, 8), 0.4)
COSTS = {OBSTACLE: LETHAL, DRIVABLE: FREE, UNKNOWN: NO_INFORMATION}


def drive(frames: int) -> list[MapSnapshot]:
    """Maps of a robot that drives along x past a car which comes the other way."""
    world, shots = RollingMap(CLASSES, MapConfig(size=(12.0, 8.0, 4.0)), "odom"), []
    for number in range(frames):
        labels = np.zeros(GRID.shape, np.uint8)
        labels[:, :, 0] = ROAD
        at = 14 - 2 * number
        labels[max(at, 0) : max(at + 4, 0), 9:13, 1:5] = CAR
        p = np.where(labels > 0, np.float16(0.95), np.float16(0))
        stamp, T = number * 100_000_000, np.eye(4)
        T[0, 3] = 0.5 * number
        occupancy = Occupancy.of_volumes(labels, p, GRID, CLASSES, stamp=stamp, free_score=0.02)
        occupancy = replace(occupancy, occupied_scores=occupancy.sparse.scores)
        assert world.update(occupancy, Frame(stamp, np.zeros((0, 4), np.float32)), T).accepted
        shots.append(world.snapshot())
    return shots


def layer_of(shot: MapSnapshot) -> np.ndarray:
    return project_bands(shot, [HeightBand(0.3, 2.0)])[0]


def install(monkeypatch: pytest.MonkeyPatch, package: str, **fields: tuple[str, ...]) -> None:
    """A message package whose classes have these fields alone: any other name is an AttributeError, as with rosidl's."""
    module = ModuleType(f"{package}.msg")
    for name, names in fields.items():
        setattr(module, name, type(name, (), {"__slots__": names, "__init__": _fill}))
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, f"{package}.msg", module)


def _fill(message: Any, **given: Any) -> None:
    for name, value in given.items():
        setattr(message, name, value)


@pytest.fixture
def map_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields of map_msgs/OccupancyGridUpdate (it has no wheel)."""
    install(monkeypatch, "map_msgs", OccupancyGridUpdate=("header", "x", "y", "width", "height", "data"))


@pytest.mark.parametrize("cycle", [1, 2, 3])
def test_nav2s_static_layer_has_the_map_after_every_cycle(map_msgs: None, cycle: int) -> None:
    """Whole grids every fifth frame and updates in between, of a window that moves, and costmap cycles at another rate."""
    stream, nav2, kinds = GridStream(), StaticLayer(), set()
    for number, shot in enumerate(drive(16)):
        layer = layer_of(shot)
        kinds |= set(np.unique(layer).tolist())
        if number % 5 == 0:
            nav2.incoming_map(stream.whole(layer, shot))
            entered = shot.grid.upper[0]  # columns beyond wait for the next whole grid
        elif (update := stream.update(layer, shot)) is not None:
            nav2.incoming_update(update)
        if number % cycle:
            continue
        nav2.cycle()
        if number % 5 == 0 or cycle == 1:
            for (i, j), value in np.ndenumerate(layer):
                x, y = (o + (n + 0.5) * 0.4 for o, n in zip(shot.grid.origin[:2], (i, j)))
                if x < entered:
                    assert nav2.cost_at(x, y) == COSTS[value], (number, i, j)
                else:
                    assert nav2.cost_at(x, y) is None
    assert nav2.refused == 0 and kinds == {OBSTACLE, DRIVABLE, UNKNOWN}


def test_a_lost_update_is_mended_by_the_next_one_and_none_comes_without_change(map_msgs: None) -> None:
    shots = drive(6)
    stream, nav2 = GridStream(), StaticLayer()
    assert stream.update(layer_of(shots[0]), shots[0]) is None  # before the first whole grid
    nav2.incoming_map(stream.whole(layer_of(shots[0]), shots[0]))
    assert stream.update(layer_of(shots[0]), shots[0]) is None
    for shot in shots[1:5]:
        stream.update(layer_of(shot), shot)  # lost
    nav2.incoming_update(stream.update(layer_of(shots[5]), shots[5]))
    other = StaticLayer()
    other.incoming_map(GridStream().whole(layer_of(shots[5]), shots[5]))
    for x in np.arange(shots[5].grid.origin[0] + 0.2, shots[0].grid.upper[0], 0.4):
        for y in np.arange(-3.8, 4.0, 0.4):
            assert nav2.cost_at(x, y) == other.cost_at(x, y)


def test_cells_that_change_back_are_sent_again(map_msgs: None) -> None:
    shots = drive(2)
    still = MapSnapshot(shots[1].log_odds, shots[1].labels, shots[1].votes, shots[0].grid, CLASSES, shots[0].config, 1)
    first = layer_of(shots[0])
    stream = GridStream()
    stream.whole(first, shots[0])
    changed = first.copy()
    changed[3:5, 6] = OBSTACLE if first[3, 6] != OBSTACLE else DRIVABLE
    update = stream.update(changed, still)
    assert (update.x, update.y, update.width, update.height) == (3, 6, 2, 1)
    back = stream.update(first, still)
    assert (back.x, back.y, list(np.array(back.data).view(np.uint8))) == (3, 6, [(0, 100, 255)[[0, 1, 255].index(first[3, 6])]] * 2)


def test_without_map_msgs_there_are_whole_grids_alone() -> None:
    (shot,) = drive(1)
    stream = GridStream()
    assert stream.whole(layer_of(shot), shot).info.width == 30
    if "map_msgs" not in sys.modules:
        assert stream.update(layer_of(shot), shot) is None


def test_whole_voxels_and_any_later_update_are_the_map() -> None:
    shots = drive(8)
    stream = VoxelStream()
    assert stream.update(shots[0]) is None
    whole = cells_of(stream.whole(shots[0]), 0.4)
    for shot in shots[1:]:
        low = [round(v / 0.4) for v in shot.grid.origin]
        now = whole | cells_of(stream.update(shot), 0.4)
        inside = {cell: label for cell, label in now.items() if label and all(np.array(cell) >= low)}
        expected = {
            tuple(int(v) for v in cell + np.array(low)): int(label)
            for cell, label in zip(np.argwhere(shot.occupied), shot.labels[shot.occupied])
        }
        assert inside == expected


def test_windows_are_compared_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(1, 9, (5, 4, 3))
    for new in ((0, 0, 0), (2, -1, 0), (-5, 0, 0), (9, 9, 9), (1, 3, -2)):
        moved = in_window(cells, (0, 0, 0), new, 0)
        for at in np.ndindex(cells.shape):
            old = np.add(at, new)
            inside = (old >= 0).all() and (old < cells.shape).all()
            assert moved[at] == (cells[tuple(old)] if inside else 0)
    mask = np.zeros((6, 7), bool)
    assert bounding_box(mask) is None
    mask[2, 5] = mask[4, 1] = True
    assert bounding_box(mask) == (slice(2, 5), slice(1, 6))


def test_distances_are_an_organised_cloud() -> None:
    distance, ground = np.arange(12, dtype=np.float32).reshape(4, 3), np.full((4, 3), np.nan, np.float32)
    message = distance_cloud(distance, ground, VoxelGrid((-2.0, 5.0, 0.0), (4, 3, 2), 0.5), header(7, "odom"))
    assert (message.width, message.height, message.row_step, message.is_dense) == (4, 3, 64, False)
    assert [field.name for field in message.fields] == ["x", "y", "z", "distance"]
    rows = np.frombuffer(message.data, "<f4").reshape(3, 4, 4)
    assert rows[2, 1].tolist()[:2] == [-1.25, 6.25] and np.isnan(rows[2, 1, 2]) and rows[2, 1, 3] == distance[1, 2]


THING = MapObject(CAR, (1.0, 2.0, 3.0), (4.0, 2.0, 1.5), np.pi / 2, 30, 0.75)


def test_objects_are_cubes_without_vision_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)  # cannot be imported
    assert objects_type() == "visualization_msgs/msg/MarkerArray"
    clear, cube = objects_message([THING], CLASSES, 5, "odom").markers
    assert (clear.action, cube.type, cube.action, cube.ns) == (3, 1, 0, "car")
    assert (cube.pose.position.y, cube.scale.x, cube.pose.orientation.z) == (2.0, 4.0, pytest.approx(np.sqrt(0.5)))
    assert [len(objects_message([], CLASSES, 5, "odom").markers)] == [1]


def test_objects_are_detections_with_vision_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fields of vision_msgs 4 (it has no wheel)."""
    install(
        monkeypatch, "vision_msgs", BoundingBox3D=("center", "size"), Detection3D=("header", "results", "bbox", "id"),
        Detection3DArray=("header", "detections"), ObjectHypothesis=("class_id", "score"),
        ObjectHypothesisWithPose=("hypothesis", "pose"),
    )  # fmt: skip
    assert objects_type() == "vision_msgs/msg/Detection3DArray"
    (detection,) = objects_message([THING], CLASSES, 5, "odom").detections
    assert (detection.results[0].hypothesis.class_id, detection.results[0].hypothesis.score) == ("car", 0.75)
    assert (detection.bbox.size.x, detection.bbox.center.position.z, detection.header.frame_id) == (4.0, 3.0, "odom")

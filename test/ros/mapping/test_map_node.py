# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map of a live node: its topics hold what occle_core's map holds when it is given the same frames."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documented import assert_rows
from map_rig import KINDS, SMALL, STEP, Robot, cells_of
from node_rig import SECOND, lively_bundle, node_arguments, write_calibration
from ros_process import Process, own_domain, ready_node

from occle_core import taxonomy
from occle_core.bundle import load_bundle, save_bundle
from occle_core.frame import Frame
from occle_core.mapping import MapConfig, MapSnapshot, RollingMap
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, UNKNOWN, HeightBand, project_bands
from occle_core.mapping.storage import load_map
from occle_core.predictor import Predictor
from occle_core.sensors.messages import stamp_of
from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
EVERY = {"map.max_rate_hz": 0.0} | {
    f"map.{name}.max_rate_hz": 0.0 for name in ("voxels", "markers", "occupancy_grid", "distance", "objects")
}
VALUES = np.full(256, 9, np.int8)
VALUES[[OBSTACLE, DRIVABLE, UNKNOWN]] = 100, 0, -1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("map")
    lively_bundle(folder / "bundle")
    spec, network, _ = load_bundle(folder / "bundle")
    with torch.no_grad():  # a map needs some confidence, and a planner ground
        network.head.bias[taxonomy.load("semantickitti").id("road")] += 3
    save_bundle(folder / "bundle", spec, network)
    write_calibration(folder / "calibration.yaml")
    with pytest.MonkeyPatch.context() as environment, own_domain(environment):
        yield folder


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[tuple[Process, Robot]]:
    """One node for all tests, which run in their order."""
    given = {**SMALL, **EVERY, "map.file": str(place / "street.occlemap")}
    arguments = node_arguments(place / "bundle", place / "calibration.yaml", **given)
    command = ["-m", "benchmark.node.posed_node", *arguments[arguments.index("--ros-args") :]]
    with ready_node(command, place / "node.log") as node, ros_node("robot") as ours:
        yield node, Robot(ours)


def expected(place: Path, frames: list[tuple[int, float, np.ndarray]]) -> MapSnapshot:
    """The map of frames (stamp, x, points) without a node."""
    predictor = Predictor.load(place / "bundle", threads=1)
    world = RollingMap(predictor.taxonomy, MapConfig(size=(40.0, 40.0, 6.0)), "odom")
    for stamp, x, points in frames:
        frame, T = Frame(stamp, points, [], []), np.eye(4)
        T[0, 3] = x
        assert world.update(predictor.predict(frame), frame, T).accepted
    return world.snapshot()


def test_the_topics_hold_the_map(place: Path, running: tuple[Process, Robot]) -> None:
    _, robot = running
    assert robot.until(robot.scans.get_subscription_count)
    robot.frame(posed=False)
    assert robot.values()[1] == "idle: nobody subscribes to ~/map/*"
    assert not robot.poses.get_subscription_count()  # TF is listened to for a subscriber
    robot.view(*KINDS)
    robot.connect()
    frames = []
    for number in range(3):
        points = robot.frame(number=number)
        frames.append((robot.stamp, robot.x, points))
        robot.newest("objects")
    shot = expected(place, frames)
    cells = named_cells(shot)
    assert len(cells) > 1000

    whole = robot.newest("voxels")
    assert (whole.header.frame_id, stamp_of(whole)) == ("odom", robot.stamp)
    assert cells_of(whole, 0.4) == cells

    (layer,) = project_bands(shot, [HeightBand(0.3, 2.0)])
    grid = robot.newest("occupancy_grid")
    assert (grid.info.width, grid.info.height, grid.header.frame_id) == (100, 100, "odom")
    assert grid.info.origin.position.x == pytest.approx(shot.grid.origin[0])
    np.testing.assert_array_equal(np.array(grid.data, np.int8).reshape(100, 100), VALUES[layer].T)
    assert len(np.unique(grid.data)) >= 2

    distance = robot.newest("distance")
    assert (distance.width, distance.height, distance.point_step) == (100, 100, 16)
    rows = np.frombuffer(distance.data, "<f4").reshape(100, 100, 4)
    np.testing.assert_array_equal(rows[..., 3] == 0, (layer == OBSTACLE).T)
    assert rows[3, 7, :2] == pytest.approx(np.array(shot.grid.origin[:2]) + (np.array([7, 3]) + 0.5) * 0.4)

    assert 0 < sum(len(marker.points) for marker in robot.newest("markers").markers) <= len(cells)
    assert robot.map["objects"][-1].markers[0].header.frame_id == "odom"
    level, message, values = robot.values()
    assert (level, message, values["frames"]) == (b"\0", "running in odom", "3")

    # A viewer that comes late gets the whole map without another frame.
    robot.unview("voxels")
    robot.view("voxels")
    assert cells_of(robot.newest("voxels"), 0.4) == cells
    # Without whole maps the newest update alone completes the last one.
    robot.unview("voxels")
    for number in (3, 4):
        frames.append((robot.stamp + STEP, robot.x + 1.0, robot.frame(number=number)))
        update = robot.newest("voxels_updates")
    shot = expected(place, frames)
    low = np.round(np.array(shot.grid.origin) / 0.4).astype(int)
    now = {cell: label for cell, label in {**cells, **cells_of(update, 0.4)}.items() if label and (cell >= low).all()}
    assert now == named_cells(shot)
    assert now != cells


def test_services(place: Path, running: tuple[Process, Robot]) -> None:
    _, robot = running
    robot.view("voxels")
    robot.frame()
    mapped = robot.newest("voxels").width
    success, text = robot.call("save_map")
    file = place / "street.occlemap"
    assert success and text == f"{file} ({mapped} occupied cells, {file.stat().st_size / 1e6:.1f} MB)"
    assert np.count_nonzero(load_map(file).occupied) == mapped
    # What was cleared or loaded is seen at once.
    assert robot.call("clear_map")[0]
    assert robot.until(lambda: robot.map["voxels"][-1].width == 0)
    assert robot.call("load_map")[0]
    assert robot.until(lambda: robot.map["voxels"][-1].width == mapped)
    assert robot.call("pause_map", True)[0]
    robot.frame()
    _, message, before = robot.values()
    assert message == "paused (~/pause_map)"
    assert robot.call("pause_map", False)[0]
    robot.frame(dx=30.0)  # what was driven meanwhile is no jump
    robot.newest("voxels")
    now = robot.values()[2]
    assert int(now["frames"]) == int(before["frames"]) + 1 and "pose_jump" not in now


def named_cells(shot: MapSnapshot) -> dict[tuple[int, ...], int]:
    """Cell number -> label of the occupied cells."""
    cells = np.argwhere(shot.occupied) + np.round(np.array(shot.grid.origin) / shot.grid.resolution).astype(int)
    return dict(zip(map(tuple, cells.tolist()), shot.labels[shot.occupied].tolist()))


WARN = b"\1"
ROWS = {
    "pose lost": "test_a_lost_pose_is_said_once_and_frames_go_on",
    "pose jump": "test_after_a_jump_the_map_starts_anew",
    "clock jump": "test_after_a_jump_the_map_starts_anew",
    "map of another place": "test_a_map_of_another_place_is_said_to_be_gone",
    "save on a full disk": "test_a_full_disk_keeps_the_file_before",
    "corrupt map file": "test_a_corrupt_file_leaves_the_map",
}


def test_every_fault_of_the_map_has_its_row() -> None:
    assert_rows("Rolling map", ROWS)
    assert set(ROWS.values()) <= globals().keys()


def test_a_lost_pose_is_said_once_and_frames_go_on(running: tuple[Process, Robot]) -> None:
    node, robot = running
    robot.view("voxels")
    robot.frame()
    robot.newest("voxels")
    for _ in range(3):
        robot.frame(posed=False)  # its voxels come out
    assert robot.until(lambda: robot.values()[2].get("no_pose"))
    level, message, values = robot.values()
    assert (level, int(values["no_pose"]) > 0) == (WARN, True)
    assert message.startswith("off: the pose of the scans is not known: the transform odom -> velodyne is known from")
    assert node.output.count("the map is off: the pose of the scans is not known") == 1
    robot.frame()
    robot.newest("voxels")
    level, message, values = robot.values()
    assert (level, message) == (b"\0", "running in odom") and "pose_jump" not in values


@pytest.mark.parametrize(
    ("reason", "jump", "text"),
    [
        ("pose_jump", {"dx": 100.0}, "the pose jumped: odom has to be continuous"),
        ("clock_jump", {"dt": -60 * SECOND}, "the stamps jumped"),
    ],
)
def test_after_a_jump_the_map_starts_anew(
    place: Path, running: tuple[Process, Robot], reason: str, jump: dict[str, Any], text: str
) -> None:
    node, robot = running
    robot.view("voxels")
    robot.frame()
    before = cells_of(robot.newest("voxels"), 0.4)
    points = robot.frame(**jump)
    now = cells_of(robot.newest("voxels"), 0.4)
    assert now == named_cells(expected(place, [(robot.stamp, robot.x, points)])) and now != before
    assert robot.values()[2][reason] == "1"
    assert node.output.count(f"the map starts anew: {text}") == 1


def test_a_map_of_another_place_is_said_to_be_gone(running: tuple[Process, Robot]) -> None:
    node, robot = running
    robot.view("voxels")
    robot.frame()
    robot.newest("voxels")
    assert robot.call("save_map")[0] and robot.call("load_map")[0]
    robot.frame(dx=500.0)
    robot.newest("voxels")
    assert robot.values()[2]["outside_map"] == "1"
    assert node.output.count("the map starts anew: the robot is outside the map that was loaded") == 1


def test_a_full_disk_keeps_the_file_before(place: Path, running: tuple[Process, Robot]) -> None:
    node, robot = running
    file = place / "street.occlemap"
    before = file.read_bytes()
    unlimited = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (2000, unlimited[1]))  # acts as a full disk
    try:
        success, text = robot.call("save_map")
    finally:
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, unlimited)
    assert not success and "the map cannot be written" in text and "map.file" in text and "\n" not in text
    assert file.read_bytes() == before and not list(place.glob(".*.part*"))
    robot.frame()
    assert robot.call("save_map")[0]


def test_a_corrupt_file_leaves_the_map(place: Path, running: tuple[Process, Robot]) -> None:
    _, robot = running
    file = place / "street.occlemap"
    robot.frame()
    mapped = robot.newest("voxels").width
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        file.write_bytes(damaged)
        success, text = robot.call("load_map")
        assert not success and str(file) in text and "The map stays as it was" in text and "\n" not in text
    file.unlink()
    assert "there is no such file" in robot.call("load_map")[1]
    robot.call("save_map")
    assert np.count_nonzero(load_map(file).occupied) == mapped


def test_positions_that_single_precision_cannot_hold_are_said(running: tuple[Process, Robot]) -> None:
    """As in UTM."""
    node, robot = running
    robot.view("voxels")
    for dx in (5e6, 1.0):
        robot.frame(dx=dx)
        robot.newest("voxels")
    assert node.output.count("so far from the origin of odom that positions in ~/map/voxels and ~/map/distance") == 1
    assert "have steps of 0.5 m" in node.output

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A robot on a costmap of simulated streets: `python -m benchmark.mapping.street_robot --write docs/reports/map.md`.

Parked cars, many of them in its lane, people who cross it and a slow car; a network with faults; a planner as simple as it can be.
It drives on the map's layer, on the grid that nav2's static layer has of the node's messages, and on the single frame's layer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.machine import machine
from benchmark.mapping.static_layer import LETHAL, StaticLayer
from benchmark.page import add_write_option, publish
from occle_core import taxonomy
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.mapping import MapConfig, MapSnapshot, RollingMap
from occle_core.mapping.layers import OBSTACLE, HeightBand, project_bands
from occle_core.occupancy import Occupancy
from occle_ros.messages.common import header
from occle_ros.messages.map_messages import GridStream

CLASSES = taxonomy.load("semantickitti")
CAR, PERSON, ROAD, BUILDING = (CLASSES.id(name) for name in ("car", "person", "road", "building"))
RADIUS = 0.5
"""Of the robot's disc, metres."""
SPEED, STEP = 2.0, 0.1
"""Metres a second; seconds between frames."""
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
GRID = VoxelGrid((0.0, -6.4, -1.2), (32, 32, 8), 0.4)
"""What the robot's network sees, from its LiDAR one metre above the ground."""
GROUND_Z = -1.0
LENGTH, HALF_ROAD = 30.0, 7.0
WHOLE = 1.0
"""Seconds between whole grids, the default of map.occupancy_grid.max_rate_hz."""
Place = tuple[float, float]
Obstacles = tuple[NDArray[np.bool_], Place]
"""(X, Y) bool, and x, y of its lowest corner."""
Costmap = Callable[[MapSnapshot, float], Obstacles]
"""Obstacles of a map at a time, seconds."""


@dataclass
class Thing:
    """A box (length along x, width, height) in the street, metres, that moves evenly after `wait` seconds."""

    x: float
    y: float
    length: float
    width: float
    height: float
    vx: float = 0.0
    vy: float = 0.0
    label: int = CAR
    wait: float = 0.0

    def at(self, time: float) -> Place:
        """Its middle."""
        moving = max(0.0, time - self.wait)
        return self.x + self.vx * moving, self.y + self.vy * moving

    def distance(self, x: float, y: float, time: float) -> float:
        """Metres from a point to the box, 0 inside."""
        cx, cy = self.at(time)
        return float(np.hypot(max(abs(x - cx) - self.length / 2, 0), max(abs(y - cy) - self.width / 2, 0)))


def on_layer(shot: MapSnapshot, time: float) -> Obstacles:
    """Costmap of what lies in the height band."""
    (layer,) = project_bands(shot, [HeightBand(0.3, 2.0)])
    return layer == OBSTACLE, (shot.grid.origin[0], shot.grid.origin[1])


class NodesGrid:
    """Costmap that nav2's static layer has of the node's whole grids and updates.

    Args:
        update: seconds between updates.
    """

    def __init__(self, update: float = STEP) -> None:
        self._update = update
        self._stream, self._layer = GridStream(), StaticLayer()
        self._next_whole = self._next_update = 0.0

    def __call__(self, shot: MapSnapshot, time: float) -> Obstacles:
        (layer,) = project_bands(shot, [HeightBand(0.3, 2.0)])
        if time >= self._next_whole - STEP / 2:
            self._layer.incoming_map(self._stream.whole(layer, shot))
            self._next_whole = time + WHOLE
        elif time >= self._next_update - STEP / 2 and (changed := self._stream.changes(layer, shot)):
            self._next_update = time + self._update
            x, y, values = changed
            width, height = values.shape
            rows = values.T.reshape(-1)
            head = header(shot.stamp, shot.frame_id)
            self._layer.incoming_update(SimpleNamespace(header=head, x=x, y=y, width=width, height=height, data=rows))
        self._layer.cycle()
        return (self._layer.costs == LETHAL).T, self._layer.origin


def costs_ahead(row: int, cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """(X, Y) cost of the cheapest 8-connected way from every cell to those whose x is `row`, by Bellman and Ford's relaxation.

    Args:
        row: x of the goals.
        cost: (X, Y) of entering a cell, infinite where it is blocked.
    """
    total = np.full((cost.shape[0] + 2, cost.shape[1] + 2), np.inf)
    total[row + 1, 1:-1] = np.where(np.isfinite(cost[row]), 0, np.inf)
    inner = total[1:-1, 1:-1]
    entering = np.pad(cost, 1, constant_values=np.inf)
    while True:
        found = [
            np.hypot(dx, dy) * entering[1 + dx : entering.shape[0] - 1 + dx, 1 + dy : entering.shape[1] - 1 + dy]
            + total[1 + dx : total.shape[0] - 1 + dx, 1 + dy : total.shape[1] - 1 + dy]
            for dx, dy in NEIGHBOURS
        ]
        better = np.minimum(inner, np.min(found, axis=0))
        if np.array_equal(better, inner):
            return np.asarray(better)
        inner[...] = better


def next_step(obstacle: NDArray[np.bool_], low: Place, resolution: float, here: Place, goal: float) -> Place:
    """Where the robot goes within `STEP` seconds: down the costs to the goal, slower near obstacles; it stands where no way is.

    Args:
        obstacle: (X, Y) bool.
        low: (x, y) of the layer's lowest corner.
        resolution: metres.
        here: (x, y) metres.
        goal: x to be reached, metres.
    """
    distance = cv2.distanceTransform((~obstacle).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * resolution
    cell = np.floor((np.asarray(here) - low) / resolution).astype(int)
    # A third of the window ahead, not at its end: what lies there has hardly been seen.
    row = min(int((goal - low[0]) / resolution), int(cell[0]) + obstacle.shape[0] // 3)
    # Distances are between centres: an obstacle may begin half a cell nearer, and the robot stand half a cell off.
    margin = min(RADIUS + resolution, max(float(distance[tuple(cell)]), RADIUS))
    cost = np.where(distance < margin, np.inf, 1 + 4 * np.exp(-distance))
    cost[tuple(cell)] = 1.0
    total = costs_ahead(row, cost)
    if not np.isfinite(total[tuple(cell)]):
        return here
    ahead = cell
    for _ in range(2):
        ahead = min((ahead + way for way in [(0, 0), *NEIGHBOURS]), key=lambda c: _at(total, c))
    way = np.asarray(low) + (ahead + 0.5) * resolution - here
    pace = SPEED if distance[tuple(cell)] > 2 * (RADIUS + resolution) else SPEED / 2
    length = max(float(np.hypot(*way)), 1e-9)
    x, y = np.asarray(here) + way / length * min(length, pace * STEP)
    return float(x), float(y)


def _at(layer: NDArray[np.float64], cell: NDArray[np.intp]) -> float:
    inside = (cell >= 0).all() and (cell < layer.shape).all()
    return float(layer[tuple(cell)]) if inside else np.inf


def street(seed: int) -> list[Thing]:
    """Parked cars, many of them in the lane, people who cross it, and a slow car ahead."""
    rng = np.random.default_rng(seed)
    things = []
    for x in np.arange(5.0, LENGTH - 3, 6.5):
        side = rng.choice([-1, 1])
        things.append(Thing(x + rng.uniform(0, 2), side * rng.uniform(0.5, 3.2), 4.2, 1.8, 1.5))
    for _ in range(3):
        side, pace, wait = rng.choice([-1, 1]), rng.uniform(0.4, 0.9), rng.uniform(0, 12)
        things.append(Thing(rng.uniform(8, LENGTH - 4), side * 6.4, 0.6, 0.6, 1.7, vy=-side * pace, label=PERSON, wait=wait))
    things.append(Thing(rng.uniform(5, 9), -5.5, 4.2, 1.8, 1.5, vx=rng.uniform(0.5, 1.2)))
    things += [Thing(LENGTH / 2, side * (HALF_ROAD + 0.4), LENGTH + 20, 0.4, 2.0, label=BUILDING) for side in (-1, 1)]
    return things


def observe(things: list[Thing], here: Place, yaw: float, time: float, rng: np.random.Generator) -> tuple[Occupancy, Frame]:
    """What a faulty network and a scan say.

    Of the occupied cells 15 % are missing, of the free ones 0.3 % are called occupied, anew in every frame.
    """
    c, s = np.cos(yaw), np.sin(yaw)
    centers = GRID.centers(np.argwhere(np.ones(GRID.shape, bool))).astype(float)
    x, y = here[0] + c * centers[:, 0] - s * centers[:, 1], here[1] + s * centers[:, 0] + c * centers[:, 1]
    height = centers[:, 2] - GROUND_Z
    labels = np.where(height < 0.2, ROAD, 0).astype(np.uint8)
    half = GRID.resolution / 2
    for thing in things:
        cx, cy = thing.at(time)
        inside = (np.abs(x - cx) < thing.length / 2 + half) & (np.abs(y - cy) < thing.width / 2 + half)
        labels[inside & (height < thing.height) & (height > 0.2)] = thing.label
    labels = labels.reshape(GRID.shape)
    eye = (0.01, 0.01, 0.01)
    angles = np.linspace(-np.pi / 2, np.pi / 2, 181)
    ways = np.concatenate([np.c_[np.cos(angles), np.sin(angles), np.full(181, rise)] for rise in (-0.3, -0.12, -0.04, 0.02)])
    met = cast(GRID, labels > 0, eye, ways)
    found = np.flatnonzero(met.hit)
    unit = ways[found] / np.linalg.norm(ways[found], axis=1)[:, None]
    points = np.array(eye) + unit * (met.entry[found] + met.exit[found])[:, None] / 2
    confidence = np.where(labels > 0, 0.9, 0.0)
    chance = rng.random(GRID.shape)
    gone, new = (labels > 0) & (chance < 0.15), (labels == 0) & (chance < 0.003)
    labels[gone], labels[new] = 0, rng.integers(1, 20, new.sum())
    confidence[gone], confidence[new] = 0.0, 0.6
    stamp = round(time * 1e9)
    frame = Frame(stamp, np.c_[points, np.zeros(len(points))].astype(np.float32))
    occupancy = Occupancy.of_volumes(labels, confidence.astype(np.float16), GRID, CLASSES, stamp=stamp)
    scores = np.full(len(occupancy.sparse.cells), 0.85, np.float16)
    return replace(occupancy, occupied_scores=scores, free_score=0.04), frame


def drive(seed: int, costmap: Costmap = on_layer, use_map: bool = True, limit: float = 60.0) -> tuple[str, float]:
    """Drive to the street's end.

    Args:
        seed: of the street and of the network's faults.
        costmap: what the planner sees of the map.
        use_map: False forgets the map before each frame.
        limit: seconds.

    Returns:
        "arrived", "collision" or "late", and the seconds that it took.
    """
    things, rng = street(seed), np.random.default_rng(seed + 1000)
    world = RollingMap(CLASSES, MapConfig(size=(24.0, 24.0, 4.0)))
    here, yaw = (0.0, 0.0), 0.0
    for number in range(round(limit / STEP)):
        time = number * STEP
        moved = here
        occupancy, frame = observe(things, here, yaw, time, rng)
        T = np.eye(4)
        T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        T[:3, 3] = *here, 1.1
        if not use_map:
            world.clear()
            frame = replace(frame, points=frame.points[:0])
        update = world.update(occupancy, frame, T)
        if not update.accepted:
            raise ValueError(f"seed {seed}, {time:.1f} s: not mapped ({update.refused})")
        obstacle, low = costmap(world.snapshot(), time)
        here = next_step(obstacle, low, world.config.resolution, here, LENGTH)
        way = np.subtract(here, moved)
        if np.hypot(*way) > 1e-6:
            turn = (np.arctan2(way[1], way[0]) - yaw + np.pi) % (2 * np.pi) - np.pi
            yaw += float(np.clip(turn, -0.15, 0.15))
        # A person who walks into a robot that stands still is not the robot's collision.
        if moved != here and min(thing.distance(*here, time + STEP) for thing in things) < RADIUS:
            return "collision", time
        if here[0] > LENGTH - 1.5:
            return "arrived", time
    return "late", limit


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.mapping.street_robot", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    add_write_option(parser)
    given = parser.parse_args(arguments)
    lines = [f"`python -m benchmark.mapping.street_robot --seeds {given.seeds}` on {machine(1)}", ""]
    lines += [f"| costmap, {given.seeds} streets | arrived | collisions | not within a minute | s, median (fastest to slowest) |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    rows: tuple[tuple[str, Callable[[], Costmap], bool], ...] = (
        ("the map's layer", lambda: on_layer, True),
        ("the map as nav2's static layer has it, updates with every frame", NodesGrid, True),
        ("the same, updates at 5 Hz", lambda: NodesGrid(0.2), True),
        ("the single frame's layer", lambda: on_layer, False),
    )
    for name, costmap, use_map in rows:
        runs = [drive(seed, costmap(), use_map) for seed in range(given.seeds)]
        ends, took = [end for end, _ in runs], [seconds for end, seconds in runs if end == "arrived"]
        times = f"{median(took):.1f} ({min(took):.1f} to {max(took):.1f})" if took else ""
        lines.append(f"| {name} | {ends.count('arrived')} | {ends.count('collision')} | {ends.count('late')} | {times} |")
    publish("\n".join(lines), "benchmark.mapping.street_robot", given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())

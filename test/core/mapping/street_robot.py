"""A robot that drives through a simulated street on a costmap, with a planner as simple as it can be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from map_frames import BUILDING, CLASSES, PERSON, ROAD

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.mapping import MapConfig, RollingMap
from occle_core.mapping.layers import OBSTACLE, HeightBand, project_bands
from occle_core.occupancy import Occupancy

RADIUS = 0.5
"""Of the robot's disc, metres."""
SPEED = 2.0
STEP = 0.1
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Metres per second; seconds between frames."""


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
    label: int = 1
    wait: float = 0.0

    def at(self, time):
        moving = max(0.0, time - self.wait)
        return self.x + self.vx * moving, self.y + self.vy * moving

    def distance(self, x, y, time):
        """Metres from a point to the box, 0 inside."""
        cx, cy = self.at(time)
        return float(np.hypot(max(abs(x - cx) - self.length / 2, 0), max(abs(y - cy) - self.width / 2, 0)))


def costs_ahead(row, cost):
    """(X, Y) cost of the cheapest 8-connected way from every cell to those whose x is `row`, by Bellman and Ford's relaxation.

    Args:
        row: x of the goals. cost: (X, Y) of entering a cell, infinite where it is blocked.
    """
    total = np.full(np.add(cost.shape, 2), np.inf)
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
            return better
        inner[...] = better


def next_step(obstacle, low, resolution, here, goal):
    """Where the robot goes within `STEP` seconds: down the costs to the goal, slower near obstacles; it stands where no way is.

    Args:
        obstacle: (X, Y) bool.
        low: (x, y) of the layer's lowest corner; resolution: metres.
        here: (x, y) metres. goal: x to be reached, metres.
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
    return tuple(np.asarray(here) + way / length * min(length, pace * STEP))


def _at(layer, cell):
    inside = (cell >= 0).all() and (cell < layer.shape).all()
    return layer[tuple(cell)] if inside else np.inf


GRID = VoxelGrid((0.0, -6.4, -1.2), (32, 32, 8), 0.4)
"""What the robot's network sees, from its LiDAR one metre above the ground."""
GROUND_Z = -1.0
LENGTH, HALF_ROAD = 30.0, 7.0


def street(seed):
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


def observe(things, here, yaw, time, rng, noisy=True):
    """What a faulty network and a scan say: an Occupancy and a Frame.

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
    if noisy:
        chance = rng.random(GRID.shape)
        gone, new = (labels > 0) & (chance < 0.15), (labels == 0) & (chance < 0.003)
        labels[gone], labels[new] = 0, rng.integers(1, 20, new.sum())
        confidence[gone], confidence[new] = 0.0, 0.6
    stamp = round(time * 1e9)
    frame = Frame(stamp, np.c_[points, np.zeros(len(points))].astype(np.float32))
    return Occupancy(labels, confidence.astype(np.float16), GRID, CLASSES, stamp, probability=_probability(labels)), frame


def _probability(labels):
    return np.where(labels > 0, np.float16(0.85), np.float16(0.04))


def drive(seed, use_map, limit=60.0):
    """Drive to the street's end.

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
        if use_map:
            assert world.update(occupancy, frame, T).accepted
        else:
            world.clear()
            world.update(occupancy, replace(frame, points=frame.points[:0]), T)
        shot = world.snapshot()
        (layer,) = project_bands(shot, [HeightBand(0.3, 2.0)])
        here = next_step(layer == OBSTACLE, shot.grid.origin[:2], shot.grid.resolution, here, LENGTH)
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

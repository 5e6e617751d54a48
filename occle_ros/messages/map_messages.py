# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Messages of the rolling map: whole ones, and what differs from the newest whole one."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapSnapshot
from occle_core.mapping.changes import bounding_box, in_window
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, UNKNOWN
from occle_core.occupancy import Occupancy
from occle_ros.messages.clouds import voxel_cloud
from occle_ros.messages.common import header, message_class
from occle_ros.messages.occupancy_grid import grid_message

UPDATE = "map_msgs/msg/OccupancyGridUpdate"
_VALUES = np.full(256, -1, np.int8)
_VALUES[[DRIVABLE, OBSTACLE, UNKNOWN]] = 0, 100, -1


def occupancy_of(shot: MapSnapshot) -> Occupancy:
    """The map as an Occupancy: what is not occupied carries the free class, occupied cells without a class 255."""
    labels = _states(shot)
    nothing = np.zeros(labels.shape, np.float16)
    return Occupancy.of_volumes(labels, nothing, shot.grid, shot.taxonomy, stamp=shot.stamp, frame_id=shot.frame_id)


class VoxelStream:
    """~/map/voxels and ~/map/voxels_updates: the whole map, and the cells that differ from the newest whole one."""

    def __init__(self) -> None:
        self._sent: tuple[NDArray[np.uint8], tuple[int, ...]] | None = None

    def whole(self, shot: MapSnapshot) -> PointCloud2:
        """All occupied cells."""
        self._sent = _states(shot), low_of(shot.grid)
        centres, labels, probability = shot.voxels()
        return voxel_cloud(centres, labels, probability, shot.taxonomy, header(shot.stamp, shot.frame_id))

    def update(self, shot: MapSnapshot) -> PointCloud2 | None:
        """Cells whose class or occupancy differs from the newest whole message's; None before the first.

        Cells that the window has left are not in it; cells that it has entered since are.
        """
        if self._sent is None:
            return None
        now, (states, low) = _states(shot), self._sent
        cells = np.flatnonzero(now != in_window(states, low, low_of(shot.grid), shot.taxonomy.free))
        labels, probability = now.reshape(-1)[cells], shot.probability_at(cells)
        return voxel_cloud(shot.grid.centers_at(cells), labels, probability, shot.taxonomy, header(shot.stamp, shot.frame_id))


class GridStream:
    """~/map/occupancy_grid and its updates: values as nav2's StaticLayer reads them.

    An update holds all that differs from the newest whole grid, not from the update before: StaticLayer buffers a whole grid until
    its next cycle and loses the updates that it gets in between.
    """

    def __init__(self) -> None:
        self._sent: tuple[NDArray[np.int8], tuple[int, ...]] | None = None
        self._touched = np.zeros((0, 0), np.bool_)  # cells that some update since has changed: they may have changed back

    def whole(self, layer: NDArray[np.uint8], shot: MapSnapshot) -> OccupancyGrid:
        """The grid of a layer of `project_bands`."""
        cells = _VALUES[layer]
        self._sent, self._touched = (cells, low_of(shot.grid)[:2]), np.zeros(cells.shape, np.bool_)
        return grid_message(cells, shot.grid, shot.stamp, shot.frame_id)

    def changes(self, layer: NDArray[np.uint8], shot: MapSnapshot) -> tuple[int, int, NDArray[np.int8]] | None:
        """The box of an update: its lowest column's x and y in the newest whole grid, and its values (X, Y).

        Columns that the window has left keep what the whole grid says, those that it has entered wait for the next one.

        Returns:
            None before the first whole grid, and where nothing has changed since.
        """
        if self._sent is None:
            return None
        whole, low = self._sent
        now_low = low_of(shot.grid)[:2]
        inside = in_window(np.ones(whole.shape, np.bool_), now_low, low, 0)
        now = np.where(inside, in_window(_VALUES[layer], now_low, low, -1), whole)
        self._touched |= whole != now
        box = bounding_box(self._touched)
        return None if box is None else (box[0].start, box[1].start, now[box])

    def update(self, layer: NDArray[np.uint8], shot: MapSnapshot) -> Any:
        """map_msgs/OccupancyGridUpdate of `changes`; None where there are none, or map_msgs is not installed."""
        kind = message_class(UPDATE)
        changed = None if kind is None else self.changes(layer, shot)
        if kind is None or changed is None:
            return None
        x, y, values = changed
        message = kind(header=header(shot.stamp, shot.frame_id), x=x, y=y)
        message.width, message.height = values.shape
        message.data = array("b", values.T.tobytes())
        return message


def low_of(grid: VoxelGrid) -> tuple[int, ...]:
    """Number of a grid's lowest cell, of an endless grid from its frame's origin."""
    return tuple(round(v / grid.resolution) for v in grid.origin)


def _states(shot: MapSnapshot) -> NDArray[np.uint8]:
    return np.where(shot.occupied, shot.labels, np.uint8(shot.taxonomy.free))

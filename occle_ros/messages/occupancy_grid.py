# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""nav_msgs/OccupancyGrid: two-dimensional projection of an Occupancy, for planners."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_ros.messages.common import header, time_from

OBSTACLE, FREE, UNKNOWN = 100, 0, -1


def occupancy_grid(occupancy: Occupancy, min_height: float, max_height: float, drivable: Sequence[int]) -> OccupancyGrid:
    """Costmap of an Occupancy in the grid's frame and resolution.

    Args:
        occupancy: unobserved free cells have the label 255 (`occle_core.visibility.mark_unseen`).
        min_height: lower end of the band, metres, z of the grid frame; cells whose centres lie in the band count.
        max_height: upper end of the band.
        drivable: class ids that are not obstacles.
    """
    cells = costmap(occupancy, min_height, max_height, drivable)
    return grid_message(cells, occupancy.grid, occupancy.stamp, occupancy.frame_id)


def grid_message(cells: NDArray[np.int8], grid: VoxelGrid, stamp: int, frame_id: str) -> OccupancyGrid:
    """OccupancyGrid of (X, Y) values over the columns of a grid; it lies at the height of the frame's origin."""
    message = OccupancyGrid(header=header(stamp, frame_id))
    message.info.map_load_time = time_from(stamp)
    message.info.resolution = grid.resolution
    message.info.width, message.info.height = cells.shape
    # The pose of cell (0, 0)'s lower corner.
    message.info.origin.position.x, message.info.origin.position.y = grid.origin[:2]
    message.info.origin.orientation.w = 1.0
    # Row-major with x fastest: the transpose of [x, y].
    message.data = array("b", cells.T.tobytes())
    return message


def costmap(occupancy: Occupancy, min_height: float, max_height: float, drivable: Sequence[int]) -> NDArray[np.int8]:
    """Costmap (X, Y) int8, with the arguments of `occupancy_grid`.

    100 where a cell of the band has a class that is not drivable; else 0 where one is drivable or free; else -1, also where the
    band contains no cell.
    """
    grid, taxonomy = occupancy.grid, occupancy.taxonomy
    heights = grid.origin[2] + (np.arange(grid.shape[2]) + 0.5) * grid.resolution
    band = occupancy.labels[:, :, (heights >= min_height) & (heights < max_height)]
    passable = np.zeros(256, np.bool_)
    passable[[taxonomy.free, *drivable]] = True
    obstacle = ~passable
    obstacle[taxonomy.ignore] = False
    found = np.where(passable[band].any(axis=2), np.int8(FREE), np.int8(UNKNOWN))
    found[obstacle[band].any(axis=2)] = OBSTACLE
    return found

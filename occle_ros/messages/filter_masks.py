# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Masks of nav2's costmap filters from the map's classes: where not to drive, and where to drive slowly."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from nav_msgs.msg import OccupancyGrid

from occle_core.mapping import MapSnapshot
from occle_core.mapping.distance import distance_2d
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, columns_of_classes
from occle_ros.messages.occupancy_grid import grid_message

KEEPOUT, UNTOUCHED = 100, -1
"""KeepoutFilter makes a cost of 0..100 and skips -1; 0 would free what the costmap does not know."""
NO_LIMIT = 0
"""SpeedFilter reads 1..100 as a limit, and refuses -1."""


def keepout_mask(shot: MapSnapshot, names: Collection[str]) -> OccupancyGrid:
    """100 in columns that hold one of the classes, else -1."""
    cells = np.where(columns_of_classes(shot, names), np.int8(KEEPOUT), np.int8(UNTOUCHED))
    return grid_message(cells, shot.grid, shot.stamp, shot.frame_id)


def speed_mask(shot: MapSnapshot, names: Collection[str], distance: float, percent: int) -> OccupancyGrid:
    """`percent` in columns that lie within `distance` (metres) of one that holds one of the classes, else 0."""
    columns = np.where(columns_of_classes(shot, names), np.uint8(OBSTACLE), np.uint8(DRIVABLE))
    near = distance_2d(columns, shot.grid.resolution) <= distance
    return grid_message(np.where(near, np.int8(percent), np.int8(NO_LIMIT)), shot.grid, shot.stamp, shot.frame_id)

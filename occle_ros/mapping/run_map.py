# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rolling map of an offline run: what the live node's would be after the last frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from occle_core.frame import Frame
from occle_core.mapping import MapConfig, RollingMap
from occle_core.mapping.storage import save_map
from occle_core.occupancy import Occupancy
from occle_ros.pipeline.statistics import Statistics


class RunMap:
    """Map of the frames that have a pose.

    Args:
        config: its constants.
        frame_id: frame of the poses.
        statistics: counts frames, and what started the map anew, in group "map".
    """

    def __init__(self, config: MapConfig, frame_id: str, statistics: Statistics) -> None:
        self._config, self._frame_id, self._statistics = config, frame_id, statistics
        self._world: RollingMap | None = None

    def add(self, frame: Frame, occupancy: Occupancy) -> None:
        """Add a frame; one without a pose is left out."""
        if frame.T_world_lidar is None:
            return
        self._world = self._world or RollingMap(occupancy.taxonomy, self._config, self._frame_id)
        update = self._world.update(occupancy, frame, frame.T_world_lidar @ np.linalg.inv(frame.T_grid_lidar))
        for reason in filter(None, ("frames" if update.accepted else "", update.refused, update.restarted)):
            self._statistics.count("map", reason)

    def save(self, path: Path) -> None:
        """Write the map, if there is any."""
        if self._world is not None and not self._world.is_empty:
            save_map(path, self._world.snapshot())

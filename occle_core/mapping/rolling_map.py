# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling semantic map: occupancies and scans of a moving robot, gathered in a frame that stands still."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from occle_core.errors import EngineError
from occle_core.frame import Frame
from occle_core.geometry.affine import transform_points
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.classes import dynamic, ground, lookup
from occle_core.mapping.config import MapConfig
from occle_core.mapping.evidence import Evidence
from occle_core.mapping.observation import NamedCells, Returns, observed_by_network, observed_by_scan
from occle_core.mapping.pose_check import break_between, pose_fault
from occle_core.mapping.ring import Ring
from occle_core.mapping.snapshot import MapSnapshot
from occle_core.native import library
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import Taxonomy

Pose = NDArray[np.float64]


@dataclass(frozen=True)
class MapUpdate:
    """What became of a frame.

    Args:
        accepted: the frame is in the map.
        refused: why it is not: "no_pose", "bad_pose" (not finite or not rigid); else "".
        restarted: why the map was cleared before: "pose_jump", "clock_jump", "outside_map" (the robot is nowhere near the map that
            was restored, or kept through a pause); else "".
        timings: milliseconds per stage.
    """

    accepted: bool
    refused: str = ""
    restarted: str = ""
    timings: dict[str, float] = field(default_factory=dict)


class RollingMap:
    """A voxel map in an odometry or map frame whose window follows the robot. Not thread-safe.

    The first one on a machine compiles the native kernels, which takes some seconds.

    Args:
        taxonomy: the classes of all occupancies that come.
        config: size, evidence, memory.
        frame_id: name of the frame that stands still.
    """

    def __init__(self, taxonomy: Taxonomy, config: MapConfig | None = None, frame_id: str = "odom") -> None:
        with suppress(EngineError):  # no compiler: NumPy does the same in more time
            library.load()
        self.taxonomy = taxonomy
        self.config = config or MapConfig()
        self.frame_id = frame_id
        self.ring = Ring(self.config.shape)
        self.evidence = Evidence(self.config, lookup(taxonomy, dynamic(taxonomy)), lookup(taxonomy, ground(taxonomy)))
        self._last: tuple[int, Pose] | None = None  # stamp and pose that the next frame continues
        self._stamp, self._robot = 0, (0.0, 0.0, 0.0)
        self._frames = 0
        self._window = np.zeros(self.config.shape, np.int8)
        self._ring_evidence = np.zeros(self.config.shape, np.int8)

    def clear(self) -> None:
        """Forget everything."""
        self.evidence.clear()
        self._last, self._frames = None, 0

    @property
    def is_empty(self) -> bool:
        """Nothing is known of any cell."""
        return not self.evidence.log_odds.any()

    def resume(self) -> None:
        """Let the next frame continue the map whatever its stamp and pose: after a pause neither is a jump."""
        self._last = None

    def update(self, occupancy: Occupancy, frame: Frame, T_world_grid: Pose | None, stamp: int | None = None) -> MapUpdate:
        """Add a frame.

        Args:
            occupancy: the network's.
            frame: its scan and `T_grid_lidar`; a frame without points adds the occupancy alone.
            T_world_grid: (4, 4), maps the occupancy's grid frame into the frame that stands still; None where it is not known.
            stamp: nanoseconds; None takes the occupancy's.

        Raises:
            ValueError: the occupancy has other classes than the map, or smaller cells.
        """
        if not occupancy.taxonomy.is_same_list(self.taxonomy):
            held, said = _distinct(self.taxonomy, occupancy.taxonomy)
            raise ValueError(f"the map holds {held} classes, the occupancy {said}; make a new map")
        cell, own_cell = occupancy.grid.resolution, self.config.resolution
        if cell < own_cell:
            raise ValueError(
                f"the map's cells of {own_cell:g} m are larger than the occupancy's of {cell:g} m, and what is thin would fall "
                f"between their centres; MapConfig(resolution={cell:g}) has room for it"
            )
        if refused := pose_fault(T_world_grid):
            return MapUpdate(False, refused)
        T, stamp = np.asarray(T_world_grid, np.float64), occupancy.stamp if stamp is None else stamp
        restarted = break_between(self.config, self._last, stamp, T) if self._last else ""
        if restarted:
            self.clear()
        times = [time.perf_counter()]
        was_kept, low = self._last is None and not self.is_empty, self.ring.low
        self._follow(T, occupancy.grid)
        if was_kept and any(abs(new - old) >= count for new, old, count in zip(self.ring.low, low, self.config.shape)):
            restarted = "outside_map"
        T_window_grid = T.copy()
        T_window_grid[:3, 3] -= np.asarray(self.ring.low) * self.config.resolution
        lowest, sure = (self.ring.cells(cells) for cells in self.evidence.ground())
        returns = self._observe_scan(frame, occupancy.grid, T_window_grid, lowest)
        times.append(time.perf_counter())
        named = observed_by_network(self._window, self.config, occupancy, T_window_grid, returns, sure)
        times.append(time.perf_counter())
        self._add(named, (stamp - self._last[0]) * 1e-9 if self._last else 0.0)
        times.append(time.perf_counter())
        self._last, self._frames = (stamp, T), self._frames + 1
        self._stamp, self._robot = stamp, (float(T[0, 3]), float(T[1, 3]), float(T[2, 3]))
        stages = dict(zip(("rays", "network", "add"), np.diff(times) * 1e3))
        return MapUpdate(True, "", restarted, stages)

    def snapshot(self) -> MapSnapshot:
        """A copy of the map as it is now."""
        cells = self.evidence
        shape = self.config.shape
        log_odds, labels, votes = np.empty(shape, np.int8), np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        for ring, window in ((cells.log_odds, log_odds), (cells.labels, labels), (cells.votes, votes)):
            self.ring.to_window(ring, window)
        return MapSnapshot(
            log_odds, labels, votes, self.window, self.taxonomy, self.config, self._stamp, self._robot, self.frame_id
        )

    def restore(self, saved: MapSnapshot) -> None:
        """Continue from a saved map: its cells become this map's. The next frame's pose has to be in the saved map's frame.

        Raises:
            ValueError: the saved map has other classes, another size or other cells.
        """
        if not saved.taxonomy.is_same_list(self.taxonomy):
            held, own = _distinct(saved.taxonomy, self.taxonomy)
            raise ValueError(f"the saved map holds {held} classes, this one {own} classes")
        if (saved.grid.shape, saved.grid.resolution) != (self.config.shape, self.config.resolution):
            raise ValueError(
                f"the saved map has {saved.grid.shape} cells of {saved.grid.resolution} m, this one {self.config.shape} of "
                f"{self.config.resolution} m; configure the same size and resolution"
            )
        self.clear()
        x, y, z = (round(v / self.config.resolution) for v in saved.grid.origin)
        self.ring.move((x, y, z))
        cells = self.evidence
        log_odds, labels, votes = np.empty_like(cells.log_odds), np.empty_like(cells.labels), np.empty_like(cells.votes)
        for window, ring in ((saved.log_odds, log_odds), (saved.labels, labels), (saved.votes, votes)):
            self.ring.to_ring(window, ring)
        cells.restore(log_odds, labels, votes)
        self._stamp, self._robot = saved.stamp, saved.robot

    @property
    def window(self) -> VoxelGrid:
        """The box that the map covers now, in the frame that stands still."""
        x, y, z = (n * self.config.resolution for n in self.ring.low)
        return VoxelGrid((x, y, z), self.config.shape, self.config.resolution)

    def _follow(self, T: Pose, grid: VoxelGrid) -> None:
        """Move the window: the robot in its middle, and in height the middle of the occupancy's grid above the robot."""
        height = T[:3, 2] * (grid.origin[2] + grid.upper[2]) / 2
        middle = np.array([T[0, 3], T[1, 3], T[2, 3] + height[2]])
        x, y, z = np.round(middle / self.config.resolution - np.array(self.config.shape) / 2).astype(int).tolist()
        for entered in self.ring.move((x, y, z)):
            self.evidence.clear(entered)

    def _observe_scan(self, frame: Frame, grid: VoxelGrid, T_window_grid: Pose, spared: NDArray[np.intp]) -> Returns:
        step = 1 + len(frame.points) // self.config.returns
        turn, first = divmod(self._frames, step)
        thinned = slice(first, None, step)
        chosen, origins = frame.points[thinned, :3], frame.ray_origins.of(thinned)
        with np.errstate(all="ignore"):
            whole = np.isfinite(frame.points.sum())  # much faster than point by point
        if not whole:
            finite = np.isfinite(chosen).all(axis=1)
            chosen, origins = chosen[finite], origins.of(finite)
        points = transform_points(frame.T_grid_lidar, chosen)
        moved = origins.moved(T_window_grid @ frame.T_grid_lidar)
        return observed_by_scan(self._window, self.config, points, grid, T_window_grid, moved, spared, turn)

    def _add(self, named: NamedCells, seconds: float) -> None:
        self.ring.to_ring(self._window, self._ring_evidence)
        self.evidence.vote(self.ring.places(named.cells), named.labels, named.confidence)
        self.evidence.add(self._ring_evidence, seconds)


def _distinct(one: Taxonomy, other: Taxonomy) -> tuple[str, str]:
    """Two class lists in words: their names, or all classes where the names are the same."""
    if one.name != other.name:
        return one.name, other.name
    return f"{one.name} ({', '.join(one.names)})", f"{other.name} ({', '.join(other.names)})"

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the map is worth against single frames: accuracy, trails, flicker."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from occle_train.metrics import CompletionMetrics

from benchmark.mapping.errors import ErrorCauses
from occle_core.datasets.voxels import coarsen
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapSnapshot
from occle_core.mapping.changes import in_window
from occle_core.mapping.classes import dynamic, ground, lookup
from occle_core.mapping.resample import source_cells
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import IGNORE, Taxonomy

Labels = NDArray[np.uint8]
WARM = 10
"""Frames of a drive before the scores begin: the first map is a single frame."""
TRAIL = 10
"""Frames (one second) after which a cell that an object left has to be clear."""
NEAR = 24.0
"""Metres around the robot of the rows "near"."""


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame, all (X, Y, Z) of the map's window.

    Args:
        low: number of the window's lowest cell.
        target: class ids, 255 not known; moving: a mover is there, and known.
        single, mapped: class ids, 0 free or unknown.
    """

    low: tuple[int, int, int]
    target: Labels
    moving: NDArray[np.bool_]
    single: Labels
    mapped: Labels


class MapScores:
    """Scores over drives; call `restart` between them.

    Args:
        taxonomy: whose free class is 0.
        grid: the network's.
    """

    def __init__(self, taxonomy: Taxonomy, grid: VoxelGrid) -> None:
        self.taxonomy, self.grid = taxonomy, grid
        names = ("own", "own near", "faultless", "faultless near", "single", "single near", "map", "map near")
        self.errors = ErrorCauses()
        self.metrics = {name: CompletionMetrics(taxonomy.num_classes) for name in names}
        self.flicker, self.trails = np.zeros(3, int), np.zeros(len(_TRAILS) + 1, int)
        self._ground, self._moves = lookup(taxonomy, ground(taxonomy)), lookup(taxonomy, dynamic(taxonomy))
        self._past: deque[Moment] = deque(maxlen=TRAIL)
        self._frames = 0

    def restart(self) -> None:
        """Another drive begins."""
        self._past.clear()
        self._frames = 0

    def update(
        self,
        occupancy: Occupancy,
        own_truth: Labels,
        shot: MapSnapshot,
        T_world_grid: NDArray[np.float64],
        exact: tuple[Labels, NDArray[np.bool_]] | None,
        warm: int = WARM,
    ) -> None:
        """Add one frame.

        Args:
            occupancy: the single frame's.
            own_truth: (X, Y, Z) truth on cells half as long as its grid's, 255 unknown.
            shot: the map after it.
            T_world_grid: (4, 4).
            exact: truth on the map's own cells, and which of it moves; None takes `own_truth` there.
            warm: frames of the drive before the scores begin.
        """
        low = tuple(round(v / shot.grid.resolution) for v in shot.grid.origin)
        T = T_world_grid.copy()
        T[:3, 3] -= shot.grid.origin
        target = coarsen(self._on_map(own_truth, self.grid.finer(2), T, shot.grid, 2), 2, self.taxonomy)
        moving = np.zeros(target.shape, np.bool_)
        if exact is not None:
            known = target != IGNORE
            target, moving = np.where(known, exact[0], np.uint8(IGNORE)), exact[1] & known
        single = self._on_map(np.where(occupancy.labels == IGNORE, np.uint8(0), occupancy.labels), self.grid, T, shot.grid, 1)
        single[single == IGNORE] = 0
        mapped = np.where(shot.occupied, shot.labels, np.uint8(0))
        now = Moment((low[0], low[1], low[2]), target, moving, single, mapped)
        if self._frames >= warm:
            self._score(occupancy, own_truth, now, T, shot.grid)
            if self._past:
                self._compare(now)
        self._past.append(now)
        self._frames += 1

    def result(self) -> dict[str, float]:
        """Percent. IoU and mIoU (over classes that the truth holds) of every row, "flicker" and "trails" of both."""
        rows = {name: metrics.result() for name, metrics in self.metrics.items()}
        found = {f"{name} {key}": 100 * float(row[entry]) for name, row in rows.items() for key, entry in _ENTRIES}  # type: ignore[literal-required]
        changed, changed_single, cells = self.flicker
        left, *held = self.trails
        found |= {"map flicker": 100 * changed / max(cells, 1), "single flicker": 100 * changed_single / max(cells, 1)}
        found |= {name: 100 * n / max(left, 1) for name, n in zip(_TRAILS, held)}
        return found | {"cells left": float(left)}

    def _on_map(self, labels: Labels, grid: VoxelGrid, T: NDArray[np.float64], cells: VoxelGrid, finer: int) -> Labels:
        """Labels of a grid at the centres of the map's cells (or of those `finer` times as short), 255 outside the grid."""
        x, y, z = (n * finer for n in cells.shape)
        columns, sources = source_cells(grid, T, (x, y, z), cells.resolution / finer)
        found = np.full((x * y, z), IGNORE, np.uint8)
        found[columns] = np.append(labels.reshape(-1), np.uint8(IGNORE))[sources]
        return found.reshape(x, y, z)

    def _score(self, occupancy: Occupancy, own_truth: Labels, now: Moment, T: NDArray[np.float64], cells: VoxelGrid) -> None:
        own = coarsen(own_truth, 2, self.taxonomy)
        # What a network without faults would be worth: the truth of the frame's own cells, read as the single frame is.
        faultless = self._on_map(own, self.grid, T, cells, 1)
        faultless[faultless == IGNORE] = 0
        x, y = ((np.arange(n) + 0.5) * cells.resolution for n in cells.shape[:2])
        near = np.hypot.outer(x - T[0, 3], y - T[1, 3])[:, :, None] < NEAR
        gx, gy = (o + (np.arange(n) + 0.5) * self.grid.resolution for o, n in zip(self.grid.origin, self.grid.shape[:2]))
        own_near = np.hypot.outer(gx, gy)[:, :, None] < NEAR
        # An occupied cell that no network named a class for is still occupied: it counts as of the last class.
        mapped = np.where(now.mapped == IGNORE, np.uint8(self.taxonomy.num_classes - 1), now.mapped)
        for name, labels, target, mask in (
            ("own", occupancy.labels, own, own_near),
            ("faultless", faultless, now.target, near),
            ("single", now.single, now.target, near),
            ("map", mapped, now.target, near),
        ):
            self.metrics[name].update(labels, target)
            self.metrics[f"{name} near"].update(labels, np.where(mask, target, np.uint8(IGNORE)))
            if name != "own":
                self.errors.update(name, labels, target, now.single if name == "map" else None)

    def _compare(self, now: Moment) -> None:
        before = self._past[-1]
        target = in_window(before.target, before.low, now.low, IGNORE)
        mapped, single = (in_window(a, before.low, now.low, 0) > 0 for a in (before.mapped, before.single))
        steady = (target != IGNORE) & (now.target != IGNORE) & ((target > 0) == (now.target > 0))
        some = steady & (mapped | single | (now.mapped > 0) | (now.single > 0))
        self.flicker += [(steady & (mapped != (now.mapped > 0))).sum(), (steady & (single != (now.single > 0))).sum(), some.sum()]
        if len(self._past) == TRAIL:
            past = self._past[0]
            left = in_window(past.moving, past.low, now.low, False) & (now.target == 0)
            held = left & (now.mapped > 0)
            still = held.copy()
            for moment in self._past:
                still &= in_window(moment.mapped, moment.low, now.low, 0) > 0
            parts = held, still, held & ~self._ground[now.mapped], held & self._moves[now.mapped], left & (now.single > 0)
            self.trails += [left.sum(), *(part.sum() for part in parts)]


_ENTRIES = (("IoU", "iou"), ("mIoU", "miou_present"))
_TRAILS = ("map trails", "map trails, all the time", "map trails, not ground", "map trails, movers", "single trails")

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The robot's way: a closed line of straights and arcs that it drives round and round."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEP = 0.05
"""Distance of the points that a route consists of, metres."""
SLOWER = 0.5
"""Speed in arcs, relative to that on straights."""

Floats = NDArray[np.float64]


class Route:
    """A closed line.

    Args:
        corners: (K, 2) of the polygon, in order, metres.
        radius: of the arcs that replace its corners; at most half of the shortest side.

    `points` (N, 2), `headings` (N,) and `bent` (N,), true in arcs, describe it every STEP metres or less; `length` is metres.
    """

    def __init__(self, corners: ArrayLike, radius: float) -> None:
        at = np.asarray(corners, np.float64)
        ahead = np.roll(at, -1, 0) - at
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        behind = np.roll(ahead, 1, 0)
        turn = np.arctan2(behind[:, 0] * ahead[:, 1] - behind[:, 1] * ahead[:, 0], (behind * ahead).sum(1))
        trim = radius * np.tan(np.abs(turn) / 2)
        entry, leave = at - behind * trim[:, None], at + ahead * trim[:, None]
        points, bent = [], []
        for k in range(len(at)):
            side = np.sign(turn[k]) * np.array([-behind[k, 1], behind[k, 0]])
            angle = np.arange(0, abs(turn[k]), STEP / radius)[:, None]
            points.append(entry[k] + radius * (np.sin(angle) * behind[k] + (1 - np.cos(angle)) * side))
            gap = entry[(k + 1) % len(at)] - leave[k]
            share = np.arange(0, 1, STEP / max(float(np.linalg.norm(gap)), STEP))[:, None]
            points.append(leave[k] + share * gap)
            bent += [True] * len(angle) + [False] * len(share)
        self.points: Floats = np.concatenate(points)
        self.bent = np.array(bent)
        closed = np.vstack([self.points, self.points[:1]])
        steps = np.diff(closed, axis=0)
        self._s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
        self._closed = closed
        heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        self.headings: Floats = heading
        self._heading = np.append(heading, heading[0] + turn.sum())
        self.length = float(self._s[-1])

    def at(self, s: ArrayLike) -> tuple[Floats, Floats]:
        """Positions (..., 2) and headings (...) at arc lengths s (...), which may pass the end."""
        s = np.asarray(s, np.float64) % self.length
        x, y = (np.interp(s, self._s, self._closed[:, axis]) for axis in (0, 1))
        return np.stack([x, y], -1), np.asarray(np.interp(s, self._s, self._heading))

    def driven(self, start: float, speed: float, times: Floats) -> Floats:
        """(F,) arc lengths at `times` of a robot that begins at `start` and is slower in arcs."""
        s = [start]
        for period in np.diff(times):
            slow = self.bent[int(np.searchsorted(self._s, s[-1] % self.length, "right") - 1) % len(self.bent)]
            s.append(s[-1] + speed * (SLOWER if slow else 1.0) * float(period))
        return np.array(s)

    def distance(self, x0: float, x1: float, y0: float, y1: float) -> float:
        """Distance of the route to a rectangle, metres; 0 inside."""
        x, y = self.points.T
        return float(np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0)).min())

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Motion compensation: a scan's points, each measured at its own time, as the sensor would have seen them at one time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.trajectory import Trajectory
from occle_core.native import prepare as native

EXACT_KNOTS = 65
REFINED = 16
"""Steps into which each interval between exact poses is divided: a point takes the nearest step. A sensor at 30 m/s
moves 1.5 mm in half a step of a 0.1 s scan; the poses between are mixed linearly, which at a turn of 360 degrees per second is
off by 0.25 mm at 20 m."""
SLACK = 100_000_000
"""Nanoseconds before the first and after the last known pose to which the motion is extrapolated."""


@dataclass(frozen=True, eq=False)
class MotionTable:
    """Transforms from a moving sensor's frame to one frame that stands still, at evenly spaced times.

    Args:
        first: time of the first, seconds after the scan's stamp.
        step: between them, seconds; 0 for a single transform.
        transforms: (K, 12) float32, the upper three rows of each.
    """

    first: float
    step: float
    transforms: NDArray[np.float32]

    @classmethod
    def fixed(cls, T: NDArray[np.float64]) -> MotionTable:
        """One transform (4, 4) for all points."""
        return cls(0.0, 0.0, T[:3].astype(np.float32).reshape(1, 12))


def motion_table(
    trajectory: Trajectory,
    stamp: int,
    first: float,
    last: float,
    reference: int,
    T_body_sensor: NDArray[np.float64] | None = None,
    slack: int = SLACK,
) -> MotionTable:
    """The transforms that take a scan's points to the body's frame at a reference time.

    Args:
        trajectory: of the body that the sensor is mounted on.
        stamp: of the scan, nanoseconds.
        first: earliest time of its points, seconds after the stamp.
        last: their latest time.
        reference: nanoseconds.
        T_body_sensor: (4, 4) mounting of the sensor; None: the body's frame is the sensor's.
        slack: as for `Trajectory.at`.

    Raises:
        PoseGapError: the trajectory does not cover the scan and the reference.
    """
    count = EXACT_KNOTS if last > first else 1
    seconds = np.linspace(first, last, count)
    poses = trajectory.at(np.append(stamp + np.round(seconds * 1e9).astype(np.int64), reference), slack)
    T = np.linalg.inv(poses[-1]) @ poses[:-1]
    rows = (T if T_body_sensor is None else T @ T_body_sensor)[:, :3].reshape(count, 12)
    if count == 1:
        return MotionTable(first, 0.0, rows.astype(np.float32))
    shares = (np.arange(REFINED) / REFINED)[:, None]
    between = rows[:-1, None] + (rows[1:] - rows[:-1])[:, None] * shares
    table = np.concatenate([between.reshape(-1, 12), rows[-1:]]).astype(np.float32)
    return MotionTable(first, (last - first) / (len(table) - 1), table)


def deskew(
    points: NDArray[np.float32],
    offsets: NDArray[np.float32] | None,
    motion: MotionTable,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Points in the table's target frame.

    Args:
        points: (N, 4) x, y, z in the sensor's frame at each point's own time, metres, and intensity, which is kept.
        offsets: (N,) float32 seconds after the scan's stamp; None: all points have the table's first transform.
        motion: of `motion_table`; points before or after its times take the nearest.
        out: (N, 4) C-ordered float32 to write to, for example part of a merged cloud; None: a new array.

    Raises:
        ValueError: the shapes do not fit.
    """
    if points.ndim != 2 or points.shape[1] != 4 or (offsets is not None and offsets.shape != points.shape[:1]):
        raise ValueError(f"points {points.shape} must be (N, 4) and offsets as many")
    out = np.empty((len(points), 4), np.float32) if out is None else out
    table, inverse = motion.transforms, 1 / motion.step if motion.step else 0.0
    offsets = np.zeros(len(points), np.float32) if offsets is None or not motion.step else offsets
    if (space := native.workspace()) is not None and points.dtype == np.float32:
        native.move(space, points, offsets, motion.first, inverse, table, out)
        return out
    # Piece by piece, so that what is gathered stays in the cache.
    for begin in range(0, len(points), 8192):
        piece, moved = points[begin : begin + 8192], out[begin : begin + 8192]
        nearest = ((offsets[begin : begin + 8192] - np.float32(motion.first)) * np.float32(inverse) + np.float32(0.5)).astype(
            np.int32
        )
        T = np.take(table, np.clip(nearest, 0, len(table) - 1, out=nearest), axis=0)
        x, y, z = piece[:, 0], piece[:, 1], piece[:, 2]
        for axis in range(3):
            row = 4 * axis
            moved[:, axis] = T[:, row] * x + T[:, row + 1] * y + T[:, row + 2] * z + T[:, row + 3]
        moved[:, 3] = piece[:, 3]
    return out

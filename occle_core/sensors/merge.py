# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scans of one or several LiDARs in one frame at one time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.trajectory import Trajectory
from occle_core.sensors.deskew import SLACK, MotionTable, deskew, motion_table


@dataclass(frozen=True, eq=False)
class SensorScan:
    """A scan as its sensor measured it.

    Args:
        points: (N, 4) float32 x, y, z in the sensor's frame, metres, and intensity.
        stamp: integer nanoseconds.
        offsets: (N,) float32 seconds of the points after the stamp; None: all were measured at the stamp.
        first: smallest offset; 0 without.
        last: largest offset; 0 without.
        T_body_sensor: (4, 4) the sensor on the body whose frame the points are wanted in; None: it is the sensor's own.
    """

    points: NDArray[np.float32]
    stamp: int
    offsets: NDArray[np.float32] | None = None
    first: float = 0.0
    last: float = 0.0
    T_body_sensor: NDArray[np.float64] | None = None


def time_span(scans: Sequence[SensorScan], reference: int) -> tuple[int, int]:
    """Earliest and latest time of the reference and all points, nanoseconds: the poses that merging them needs."""
    ends = [scan.stamp + round(end * 1e9) for scan in scans for end in (scan.first, scan.last)]
    return min(reference, *ends), max(reference, *ends)


def merge_scans(
    scans: Sequence[SensorScan], reference: int, trajectory: Trajectory | None = None, slack: int = SLACK
) -> NDArray[np.float32]:
    """Points of all scans in the body's frame at the reference time, one scan after the other.

    Args:
        scans: at least one.
        reference: nanoseconds.
        trajectory: of the body; None: motion is neglected.
        slack: as for `Trajectory.at`.

    Returns:
        (N, 4) float32; the points of a single scan itself where nothing moves them.

    Raises:
        PoseGapError: the trajectory does not cover the scans.
    """
    tables = [_table(scan, reference, trajectory, slack) for scan in scans]
    if len(scans) == 1 and tables[0] is None:
        return scans[0].points
    out = np.empty((sum(len(scan.points) for scan in scans), 4), np.float32)
    begin = 0
    for scan, table in zip(scans, tables):
        part = out[begin : begin + len(scan.points)]
        begin += len(scan.points)
        if table is None:
            part[:] = scan.points
        else:
            deskew(scan.points, scan.offsets, table, part)
    return out


def _table(scan: SensorScan, reference: int, trajectory: Trajectory | None, slack: int) -> MotionTable | None:
    """What moves a scan's points to the body's frame at the reference time; None: they are there."""
    if trajectory is not None and (scan.offsets is not None or scan.stamp != reference):
        return motion_table(trajectory, scan.stamp, scan.first, scan.last, reference, scan.T_body_sensor, slack)
    return None if scan.T_body_sensor is None else MotionTable.fixed(scan.T_body_sensor)

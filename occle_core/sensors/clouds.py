# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""PointCloud2 -> points and their times. Messages are duck-typed: rclpy and rosbags give the same attributes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.rig.description import StampMeaning
from occle_core.sensors.cloud_rows import MAX_POINTS, POINT_TYPES, CloudRows
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.point_times import TIME_FIELDS, PointTimes, read_times
from occle_core.sensors.returns import no_return

__all__ = [
    "LOW_INTENSITY", "MAX_INTENSITY", "MAX_POINTS", "LidarScan", "full_intensity", "intensity_problem", "points_from_cloud",
    "scan_from_cloud",
]  # fmt: skip

MAX_INTENSITY = 2.0
"""Intensity that no scan of a scaled sensor exceeds; echoes of retroreflectors and of the own vehicle exceed 1 a little."""

LOW_INTENSITY = 0.02
"""The strongest echo of a scan is above this, where the sensor is scaled."""

_INTENSITY_NAMES = ("intensity", "intensities", "reflectivity", "reflectance", "i")


@dataclass(frozen=True, eq=False)
class LidarScan:
    """A decoded PointCloud2.

    Args:
        points: (N, 4) float32 x, y, z, intensity in the message's frame.
        times: of these points; None where the cloud has no time field.
        time_problem: why the time field cannot be used, and the remedy; "" where it can, or there is none.
        dropped: how many rows were left out, by reason, as `points_from_cloud` gives them.
        stamp: of the message, nanoseconds.
    """

    points: NDArray[np.float32]
    times: PointTimes | None
    time_problem: str
    dropped: dict[str, int]
    stamp: int

    def without(self, rows: NDArray[np.bool_]) -> LidarScan:
        """The scan without some of its points."""
        points, times = np.compress(~rows, self.points, axis=0), self.times and self.times.at(~rows)
        return replace(self, points=points, times=times)


def scan_from_cloud(
    message: Any,
    intensity_scale: float = 1.0,
    topic: str = "the point cloud",
    time_field: str = "",
    meaning: StampMeaning = "auto",
) -> LidarScan:
    """PointCloud2 of any field layout -> points with their times.

    Args:
        message: as for `points_from_cloud`.
        intensity_scale: as for `points_from_cloud`.
        topic: as for `points_from_cloud`.
        time_field: name of the field with the points' times; empty: the first of `point_times.TIME_FIELDS` that is there.
        meaning: what the message's stamp is, as for `point_times.read_times`.

    Raises:
        ConversionError: as for `points_from_cloud`, or there is no field of the given name.
    """
    rows, points, kept, dropped = _decode(message, intensity_scale, topic)
    if time_field and time_field not in rows:
        raise ConversionError(
            f"{topic} has no field {time_field!r} (parameter lidar.time_field); its fields are {rows.description}"
        )
    name = time_field or next((name for name in TIME_FIELDS if name in rows), "")
    times: PointTimes | None = None
    problem = ""
    if name and rows.count:
        values = rows.column(*rows.field(name))
        found = read_times(values if kept is None else values[kept], stamp_of(message), name, meaning)
        times, problem = (None, found) if isinstance(found, str) else (found, "")
    return LidarScan(points, times, problem, dropped, stamp_of(message))


def points_from_cloud(
    message: Any, intensity_scale: float = 1.0, topic: str = "the point cloud"
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """PointCloud2 of any field layout -> points.

    Args:
        message: needs x, y, z (float32 or float64); intensity, intensities, reflectivity, reflectance or i (in this order) of
            any numeric type is the fourth column, 0 where the cloud has none. Other fields (ring, time, ...) are left alone.
            See `cloud_rows.CloudRows` for the layouts.
        intensity_scale: factor that brings the sensor's intensity to 0..1, which the networks are trained with: 1 for KITTI's
            own files, 1/255 for nuScenes and for drivers that give 0..255. `intensity_problem` detects a wrong factor.
        topic: where it came from, for the errors.

    Returns:
        points (N, 4) float32 x, y, z, intensity in the message's frame, and how many rows were left out by reason: not_finite
        (a value is NaN or infinite), no_return (x, y and z are 0). The points may share the message's memory. An empty cloud
        gives (0, 4).

    Raises:
        ConversionError: a field is missing or has another type, `data` is shorter than the declared size, or there are more
            than MAX_POINTS rows.
    """
    _, points, _, dropped = _decode(message, intensity_scale, topic)
    return points, dropped


def intensity_problem(points: NDArray[np.float32], intensity_scale: float, parameter: str = "lidar") -> str | None:
    """The remedy for intensities outside the range that the networks are trained with; None when all is well.

    Args:
        points: (N, 4) as `points_from_cloud` gives them.
        intensity_scale: what they were scaled with.
        parameter: group of the parameter that sets it.
    """
    highest = float(points[:, 3].max()) if len(points) else 0.0
    if highest > MAX_INTENSITY:
        full = full_intensity(highest / intensity_scale)
        return f"intensities reach {highest:g} instead of 1: set parameter {parameter}.intensity_scale:={1 / full:.6g} (1/{full:g})"
    if 0 < highest < LOW_INTENSITY:
        better = intensity_scale / highest
        return f"intensities end at {highest:g} instead of 1: set parameter {parameter}.intensity_scale:={better:.6g}"
    return None


def full_intensity(highest: float) -> float:
    """The highest intensity that a sensor can give, by the highest of a scan: 1, one of the usual integers, or the scan's."""
    return 1.0 if highest <= MAX_INTENSITY else next((full for full in (255.0, 4095.0, 65535.0) if highest <= full), highest)


def _decode(
    message: Any, intensity_scale: float, topic: str
) -> tuple[CloudRows, NDArray[np.float32], NDArray[np.bool_] | None, dict[str, int]]:
    """The message's rows, the points that are returns, which rows they are (None: all), and the others by reason."""
    rows = CloudRows(message, topic)
    missing = [name for name in "xyz" if name not in rows]
    if missing:
        raise ConversionError(f"{topic} has no field {', '.join(missing)}; its fields are {rows.description}")
    columns = [rows.field(name, ("f4", "f8")) for name in "xyz"]
    intensity = next((name for name in _INTENSITY_NAMES if name in rows), None)
    if intensity is not None:
        columns.append(rows.field(intensity, tuple(POINT_TYPES.values())))
    rows.check_size()
    points = rows.packed_floats() if columns == [(4 * i, np.dtype("<f4")) for i in range(4)] else None
    if points is None:
        points = np.zeros((rows.count, 4), np.float32)
        for number, column in enumerate(columns):
            with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes inf and is dropped below
                points[:, number] = rows.column(*column)
    if intensity_scale != 1.0:
        points = points * np.array([1, 1, 1, intensity_scale], np.float32)
    kept, dropped = _returns(points)
    # compress takes a tenth of the time of points[kept].
    return rows, points if kept is None else np.compress(kept, points, axis=0), kept, dropped


def _returns(points: NDArray[np.float32]) -> tuple[NDArray[np.bool_] | None, dict[str, int]]:
    """Which rows are returns (None: all), and how many are not, by reason."""
    empty = no_return(points)
    dropped = {"no_return": int(np.count_nonzero(empty))}
    useless = empty
    if not np.isfinite(points).all():
        finite = np.logical_and.reduce([np.isfinite(column) for column in points.T])
        useless = empty | ~finite
        dropped["not_finite"] = int(np.count_nonzero(useless)) - dropped["no_return"]
    dropped = {reason: number for reason, number in dropped.items() if number}
    return ~useless if dropped else None, dropped

"""PointCloud2 -> points. Messages are duck-typed: rclpy and rosbags give the same attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.sensors.messages import ConversionError
from occle_core.sensors.returns import no_return

_POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype -> numpy type."""
_INTENSITY_NAMES = ("intensity", "intensities", "reflectivity", "reflectance", "i")
MAX_POINTS = 2_000_000
"""Rows that a cloud may have: eight times the largest scanners' scans. More is a map that was built of many."""


def points_from_cloud(
    message: Any, intensity_scale: float = 1.0, topic: str = "the point cloud"
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """PointCloud2 of any field layout -> points.

    Args:
        message: needs x, y, z (float32 or float64); intensity, intensities, reflectivity, reflectance or i (in this order) of
            any numeric type is the fourth column, 0 where the cloud has none. Other fields (ring, time, ...) are left alone.
            Big-endian clouds, padded rows and organised clouds are read as they are declared. A row_step of 0 or of the whole
            cloud, as some drivers send, counts as that of packed rows where `data` has just their size.
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
    fields = {field.name: field for field in reversed(message.fields)}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ConversionError(f"{topic} has no field {', '.join(missing)}; its fields are {_field_list(message)}")
    columns = [_column(message, fields[name], ("f4", "f8"), topic) for name in "xyz"]
    intensity = next((fields[name] for name in _INTENSITY_NAMES if name in fields), None)
    if intensity is not None:
        columns.append(_column(message, intensity, tuple(_POINT_TYPES.values()), topic))
    count = message.height * message.width
    if count > MAX_POINTS:
        raise ConversionError(
            f"{topic} has {count} points, more than the {MAX_POINTS} of any single scan; name the topic of single scans in "
            "parameter lidar.topic, not of a map"
        )
    raw = np.frombuffer(message.data, np.uint8)
    row_step = message.row_step
    fits_packed_rows = len(raw) == count * message.point_step and row_step in (0, len(raw))
    if message.height <= 1 or fits_packed_rows:  # in a cloud of one row nothing depends on it
        row_step = message.width * message.point_step
    if count and row_step < message.width * message.point_step:
        raise ConversionError(f"{topic}: {message.width} points of {message.point_step} bytes do not fit row_step {row_step}")
    needed = (message.height - 1) * row_step + message.width * message.point_step if count else 0
    if len(raw) < needed:
        raise ConversionError(
            f"{topic}'s data is truncated: {message.height} x {message.width} points of {message.point_step} bytes "
            f"({_field_list(message)}) need {needed} bytes, it has {len(raw)}"
        )
    points = _packed_xyzi(message, columns, raw, row_step) if intensity is not None else None
    if points is None:
        points = np.zeros((count, 4), np.float32)
        for number, (offset, dtype) in enumerate(columns):
            if count:
                strides = (row_step, message.point_step)
                values = np.ndarray((message.height, message.width), dtype, raw.data, offset, strides)
                with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes inf and is dropped below
                    points[:, number] = values.reshape(-1)
    if intensity_scale != 1.0:
        points = points * np.array([1, 1, 1, intensity_scale], np.float32)
    return _without_useless(points)


def intensity_problem(points: NDArray[np.float32], intensity_scale: float) -> str | None:
    """The remedy for intensities outside the range that the networks are trained with; None when all is well.

    Args:
        points: (N, 4) as `points_from_cloud` gives them.
        intensity_scale: what they were scaled with.
    """
    if not len(points):
        return None
    highest = float(points[:, 3].max())
    # Echoes of retroreflectors and of the own vehicle exceed 1 a little.
    if highest > 2:
        raw = highest / intensity_scale
        full = next((full for full in (255, 4095, 65535) if raw <= full), raw)
        return f"intensities reach {highest:g} instead of 1: set parameter lidar.intensity_scale:={1 / full:.6g} (1/{full:g})"
    if 0 < highest < 0.02:
        return f"intensities end at {highest:g} instead of 1: set parameter lidar.intensity_scale:={intensity_scale / highest:.6g}"
    return None


def _without_useless(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, int]]:
    """The points that are returns, and how many are not, by reason."""
    empty = no_return(points)
    dropped = {"no_return": int(np.count_nonzero(empty))}
    useless = empty
    if not np.isfinite(points).all():
        finite = np.logical_and.reduce([np.isfinite(column) for column in points.T])
        useless = empty | ~finite
        dropped["not_finite"] = int(np.count_nonzero(useless)) - dropped["no_return"]
    dropped = {reason: number for reason, number in dropped.items() if number}
    # compress takes a tenth of the time of points[~useless].
    return (np.compress(~useless, points, axis=0) if dropped else points), dropped


def _column(message: Any, field: Any, allowed: tuple[str, ...], topic: str) -> tuple[int, np.dtype[Any]]:
    code = _POINT_TYPES.get(field.datatype)
    if code not in allowed or field.count > 1:
        raise ConversionError(
            f"{topic}: field {field.name!r} must be one {' or '.join(allowed)}; the fields are {_field_list(message)}"
        )
    dtype = np.dtype((">" if message.is_bigendian else "<") + code)
    if field.offset + dtype.itemsize > message.point_step:
        raise ConversionError(
            f"{topic}: field {field.name!r} does not fit a point of {message.point_step} bytes; "
            f"the fields are {_field_list(message)}"
        )
    return field.offset, dtype


def _packed_xyzi(
    message: Any, columns: list[tuple[int, np.dtype[Any]]], raw: NDArray[np.uint8], row_step: int
) -> NDArray[np.float32] | None:
    """The common layout, four packed float32 in a row, without a copy; None for every other layout."""
    packed = [(4 * i, np.dtype("<f4")) for i in range(4)]
    if columns != packed or message.point_step != 16 or row_step != message.width * 16:
        return None
    count = message.height * message.width
    return raw[: 16 * count].view(np.float32).reshape(count, 4)


def _field_list(message: Any) -> str:
    names = {number: np.dtype(code).name for number, code in _POINT_TYPES.items()}
    return ", ".join(f"{f.name} {names.get(f.datatype, f'type {f.datatype}')}@{f.offset}" for f in message.fields) or "none"

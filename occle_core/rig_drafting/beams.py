# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Beams of a LiDAR, measured from its scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from occle_core.rig.description import BeamTable
from occle_core.sensors.cloud_rows import CloudRows

RING_FIELDS = ("ring", "channel", "line", "row")
WHOLE_TURN = 15.0
"""Degrees without a point up to which a scan counts as a whole turn."""
MOST_BEAMS = 256
OWN_BODY = 4.0
"""Metres within which points may lie on the robot itself, and a beam's offset from the sensor's centre shows."""
_BIN, _VALLEY = 0.02, 0.1
"""Degrees of the histogram of elevations, and of the empty space between two beams."""
_SPREAD = 0.5
"""Degrees that half of a beam's points may be off its elevation: the sensor's parallax at some metres."""


@dataclass(frozen=True, eq=False)
class MeasuredBeams:
    """Beams of a LiDAR.

    Args:
        table: for the rig file.
        text: how they were found.
        is_certain: False where the pattern is none of single beams.
    """

    table: BeamTable
    text: str
    is_certain: bool


class _Polar(NamedTuple):
    """Elevation and azimuth in degrees, distance in metres, ring number of points."""

    elevation: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    distance: NDArray[np.float64]
    ring: NDArray[np.int64]


def measure_beams(clouds: Sequence[Any], topic: str) -> MeasuredBeams:
    """Elevations, azimuth step, field of view and range.

    Args:
        clouds: PointCloud2 messages of one LiDAR.
        topic: for the errors.

    Raises:
        ConversionError: a cloud cannot be read.
        ValueError: no points.
    """
    scans = [_polar(CloudRows(cloud, topic)) for cloud in clouds]
    elevation, azimuth, distance, ring = (np.concatenate(parts) for parts in zip(*scans))
    if not len(elevation):
        raise ValueError(f"{topic} has no points in the scans that were looked at")
    is_certain = True
    if (elevations := _by_ring(elevation, ring)) is not None:
        text = f"{len(elevations)} beams by field {_ring_name(clouds[0], topic)!r}"
    else:
        elevations, is_certain = _clusters(elevation[distance > OWN_BODY])
        text = (
            f"{len(elevations)} beams by the points' elevations"
            if is_certain
            else f"no single beams: {len(elevations)} rows assumed"
        )
    step = _azimuth_step(scans, elevations)
    table = BeamTable(
        elevations=tuple(round(value, 3) for value in elevations),
        azimuth_step=round(step, 3),
        azimuth_range=_field_of_view(azimuth),
        min_range=round(float(np.clip(np.percentile(distance, 0.1) * 0.9, 0.05, 0.9)), 2),
        max_range=float(np.ceil(np.percentile(distance, 99.9) / 5) * 5),
    )
    low, high = min(table.elevations), max(table.elevations)
    span = f"{low:.1f} to {high:.1f} degrees, step {table.azimuth_step:g} degrees, to {table.max_range:g} m"
    return MeasuredBeams(table, f"{text}, {span}", is_certain)


def _polar(rows: CloudRows) -> _Polar:
    """The returns; ring is -1 without a field."""
    rows.check_size()
    x, y, z = (rows.column(*rows.field(name)).astype(np.float64) for name in "xyz")
    distance = np.sqrt(x * x + y * y + z * z)
    name = next((name for name in RING_FIELDS if name in rows), "")
    ring = np.asarray(rows.column(*rows.field(name)), np.int64) if name else np.full(len(x), -1, np.int64)
    kept = np.isfinite(distance) & (distance > 0.05)
    x, y, z, distance = x[kept], y[kept], z[kept], distance[kept]
    return _Polar(np.degrees(np.arcsin(z / distance)), np.degrees(np.arctan2(y, x)), distance, ring[kept])


def _by_ring(elevation: NDArray[np.float64], ring: NDArray[np.int64]) -> list[float] | None:
    """Median elevation of each ring; None without rings, and where they are no beams (a Livox's lines cross its field of view)."""
    numbers, beam = np.unique(ring, return_inverse=True)
    if numbers[0] < 0 or len(numbers) > MOST_BEAMS:
        return None
    medians = np.array([np.median(elevation[beam == number]) for number in range(len(numbers))])
    return medians.tolist() if np.median(np.abs(elevation - medians[beam])) < _SPREAD else None


def _ring_name(cloud: Any, topic: str) -> str:
    rows = CloudRows(cloud, topic)
    return next((name for name in RING_FIELDS if name in rows), "")


def _clusters(elevation: NDArray[np.float64]) -> tuple[list[float], bool]:
    """Elevations that many points share, ascending; rows at even distances where there are no such."""
    low, high = np.percentile(elevation, [0.2, 99.8])
    edges = np.arange(low - 1, high + 1, _BIN)
    counts, _ = np.histogram(elevation, edges)
    width = round(_VALLEY / _BIN)
    smooth = np.convolve(counts, np.ones(width) / width, "same")
    filled = np.flatnonzero(smooth > 0.05 * np.percentile(smooth[smooth > 0], 80))
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    found = [float(np.average(edges[run] + _BIN / 2, weights=smooth[run])) for run in runs if len(run)]
    # Single beams leave the elevations between them empty.
    beams = np.array(found)
    near = np.abs(elevation - beams[_nearest(elevation, beams)]) if 2 <= len(found) <= MOST_BEAMS else np.array([np.inf])
    spacing = float(np.median(np.diff(found))) if len(found) > 1 else 0.0
    if spacing and np.mean(near < 0.25 * spacing) > 0.8:
        return found, True
    rows = int(np.clip(round((high - low) / 0.4), 8, 128))
    return np.linspace(low, high, rows).tolist(), False


def _azimuth_step(scans: Sequence[_Polar], elevations: Sequence[float]) -> float:
    """Typical angle between neighbours of one beam, degrees."""
    steps = []
    for elevation, azimuth, _, ring in scans[:3]:
        beam: NDArray[np.int64] = ring if (ring >= 0).all() else _nearest(elevation, np.array(elevations))
        for number in np.unique(beam):
            gaps = np.diff(np.sort(azimuth[beam == number]))
            steps.append(gaps[gaps > 0.01])
    gaps = np.concatenate(steps) if steps else np.zeros(0)
    return float(np.clip(np.median(gaps[gaps < 3 * np.percentile(gaps, 25)]), 0.02, 10)) if len(gaps) else 0.2


def _nearest(values: NDArray[np.float64], ascending: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the nearest of some ascending ones to each value."""
    return np.searchsorted((ascending[1:] + ascending[:-1]) / 2, values).astype(np.int64)


def _field_of_view(azimuth: NDArray[np.float64]) -> tuple[float, float]:
    """Horizontal field of view, degrees; a whole turn where no wide gap is."""
    order = np.sort(azimuth)
    gaps = np.append(np.diff(order), order[0] + 360 - order[-1])
    widest = int(gaps.argmax())
    if gaps[widest] < WHOLE_TURN:
        return (-180.0, 180.0)
    begin = float(order[(widest + 1) % len(order)])
    end = begin + 360 - float(gaps[widest])
    shift = 360 if end > 360 else 0
    return (round(begin - shift, 1), round(end - shift, 1))

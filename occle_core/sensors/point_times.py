# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Times of a scan's points: unit, origin and the stamp's place in the scan are recognised from the values.

Drivers agree on nothing: seconds to nanoseconds, relative or absolute, floats or integers. What they have in common is that a
scan lasts between two milliseconds and 1.2 seconds, which leaves one unit, and that absolute times lie at the message's stamp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.rig.description import StampMeaning

TIME_FIELDS = ("t", "time", "timestamp", "offset_time", "ts", "time_stamp")
"""Names of per-point times: Ouster; Velodyne; Hesai, RoboSense and Livox; Livox's custom messages; SICK; Autoware."""

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SHORTEST, LONGEST = 0.002, 1.2
"""Seconds that a scan may last. A thousand times the shortest is longer than the longest, so at most one unit fits; and a point
whose time was not set, beside times since 1970 in seconds, makes no scan of nanoseconds."""
OTHER_CLOCK = 2.0
"""Seconds between absolute times and the stamp, beyond the scan itself, from which they are of another clock."""
_SHARE = 0.1
"""Of the scan's duration: as near the stamp has to be to the start, middle or end to be called so."""


@dataclass(frozen=True, eq=False)
class PointTimes:
    """Times of a scan's points.

    Args:
        offsets: (N,) float32 seconds after the message's stamp, negative before it.
        first: the smallest of them.
        last: the largest of them.
        text: what was recognised, for people; the same for every scan of a sensor.
        meaning: what the stamp is of the scan: start, middle, end, or "inside" or "outside" where it is none of these.
    """

    offsets: NDArray[np.float32]
    first: float
    last: float
    text: str
    meaning: str

    def at(self, rows: NDArray[np.bool_]) -> PointTimes:
        """The times of some of the points; `first` and `last` stay those of all."""
        return replace(self, offsets=self.offsets[rows])


def read_times(values: NDArray[Any], stamp: int, name: str, meaning: StampMeaning = "auto") -> PointTimes | str:
    """A time field's values -> seconds after the stamp, or the problem with its remedy.

    Args:
        values: (N,) of any numeric type, as the driver sends them.
        stamp: of the message, integer nanoseconds.
        name: of the field, for the texts.
        meaning: "auto" believes the values. Otherwise the scan's start, middle or end is put at the stamp: for drivers that
            count from the first point and stamp the last, and for points with a clock of their own.
    """
    kind = f"field {name!r} {values.dtype.name}"
    numbers = values.astype(np.float64)
    if not len(numbers):
        return f"{kind} has no values"
    low, high = float(numbers.min()), float(numbers.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{kind} has values that are not finite; the driver must set it for every point"
    unit = next((unit for unit, scale in UNITS.items() if SHORTEST <= (high - low) * scale <= LONGEST), "")
    scale = UNITS.get(unit, 1.0)
    is_relative = bool(unit) and _is_relative(low * scale, high * scale, stamp / 1e9)
    if not unit or (not is_relative and values.dtype.kind == "f" and values.dtype.itemsize == 4 and low > 100 * (high - low)):
        return _unusable(values.dtype, kind, low, high)
    origin, how = (0.0, "relative") if is_relative else (stamp / 1e9 / scale, "absolute")
    first, last = (low - origin) * scale, (high - origin) * scale
    if not is_relative and meaning == "auto" and not -OTHER_CLOCK <= last <= OTHER_CLOCK + last - first:
        return (
            f"{kind} has absolute times in {unit} of another clock: {abs(first):.3f} s {'before' if first < 0 else 'after'} the "
            "stamp; set the sensor's clock (PTP), or parameter lidar.stamp to what the stamp is (start, middle, end)"
        )
    # The scan begins or ends at 0 where times are relative, with or without a return then.
    start, end = (min(low, 0.0), max(high, 0.0)) if is_relative else (low, high)
    is_set = meaning != "auto"
    place = meaning if is_set else _place((start - origin) * scale, (end - start) * scale)
    if is_set:
        origin = {"start": start, "middle": (start + end) / 2, "end": end}[meaning]
        first, last = (low - origin) * scale, (high - origin) * scale
    numbers -= origin
    numbers *= scale
    where = f"the stamp is the scan's {place}" if place in ("start", "middle", "end") else f"the stamp lies {place} the scan"
    text = f"{kind}: {how}, in {unit}; {where}{' (as set)' if is_set else ''}"
    return PointTimes(numbers.astype(np.float32), first, last, text, place)


def _is_relative(low: float, high: float, stamp: float) -> bool:
    """True if a scan's times, in seconds, count from a point of the scan, and not from that of the stamp."""
    # Returns may come from the last part of a scan alone: a window of the turn, an open place.
    is_in_a_scan = low >= -LONGEST and high <= LONGEST and abs(low) <= abs(low - stamp)
    return is_in_a_scan or abs(low) <= 1.5 * (high - low)


def _place(first: float, span: float) -> str:
    """What the stamp, at 0, is of a scan of this span that begins at `first`, both in seconds."""
    share = -first / span
    named = {"start": 0.0, "middle": 0.5, "end": 1.0}
    nearest = min(named, key=lambda name: abs(named[name] - share))
    return nearest if abs(named[nearest] - share) <= _SHARE else "inside" if 0 < share < 1 else "outside"


def _unusable(dtype: np.dtype[Any], kind: str, low: float, high: float) -> str:
    if dtype.itemsize == 4 and dtype.kind == "f" and low > 1e6:
        steps = f"steps of {np.spacing(np.float32(low)):g}"
        return f"{kind} cannot hold absolute times ({steps}); let the driver send float64, or relative times"
    if low == high:
        return f"{kind} is {low:g} for all points; the driver does not set it"
    return (
        f"{kind} goes from {low:g} to {high:g}, which is between {SHORTEST * 1e3:g} ms and {LONGEST:g} s in no unit (s, ms, us, "
        "ns); set parameter lidar.time_field to the field that holds the points' times"
    )

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rows of a PointCloud2 as numpy columns, whatever its layout. Messages are duck-typed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.sensors.messages import ConversionError

POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype -> numpy type."""
MAX_POINTS = 2_000_000
"""Rows that a cloud may have: eight times the largest scanners' scans. More is a map that was built of many."""


class CloudRows:
    """Columns of a PointCloud2, without a copy.

    Big-endian clouds, padded rows and organised clouds are read as they are declared. A row_step of 0 or of the whole cloud, as
    some drivers send, counts as that of packed rows where `data` has just their size.

    Args:
        message: PointCloud2.
        topic: where it came from, for the errors.
    """

    def __init__(self, message: Any, topic: str) -> None:
        self._message, self._topic = message, topic
        self._fields = {field.name: field for field in reversed(message.fields)}
        self.count = message.height * message.width
        self._raw: NDArray[np.uint8] | None = None
        self._row_step = 0

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    @property
    def description(self) -> str:
        """The fields with types and offsets as text."""
        names = {number: np.dtype(code).name for number, code in POINT_TYPES.items()}
        fields = self._message.fields
        return ", ".join(f"{f.name} {names.get(f.datatype, f'type {f.datatype}')}@{f.offset}" for f in fields) or "none"

    def field(self, name: str, allowed: tuple[str, ...] = tuple(POINT_TYPES.values())) -> tuple[int, np.dtype[Any]]:
        """Offset in a row and numpy type of a field that is there.

        Raises:
            ConversionError: it has a type that is not allowed, several elements, or does not fit the row.
        """
        field = self._fields[name]
        code = POINT_TYPES.get(field.datatype)
        if code not in allowed or field.count > 1:
            raise ConversionError(
                f"{self._topic}: field {name!r} must be one {' or '.join(allowed)}; the fields are {self.description}"
            )
        dtype = np.dtype((">" if self._message.is_bigendian else "<") + code)
        if field.offset + dtype.itemsize > self._message.point_step:
            raise ConversionError(
                f"{self._topic}: field {name!r} does not fit a point of {self._message.point_step} bytes; "
                f"the fields are {self.description}"
            )
        return field.offset, dtype

    def check_size(self) -> None:
        """Compare the declared size with that of `data`.

        Raises:
            ConversionError: `data` is shorter than declared, rows overlap, or there are more than MAX_POINTS rows.
        """
        message = self._message
        if self.count > MAX_POINTS:
            raise ConversionError(
                f"{self._topic} has {self.count} points, more than the {MAX_POINTS} of any single scan; name the topic of single "
                "scans in parameter lidar.topic, not of a map"
            )
        raw = np.frombuffer(message.data, np.uint8)
        if message.width and not message.height and len(raw):
            raise ConversionError(f"{self._topic} has a width of {message.width} and a height of 0; an unorganised cloud's is 1")
        row_step = message.row_step
        fits_packed_rows = len(raw) == self.count * message.point_step and row_step in (0, len(raw))
        if message.height <= 1 or fits_packed_rows:  # in a cloud of one row nothing depends on it
            row_step = message.width * message.point_step
        if self.count and row_step < message.width * message.point_step:
            raise ConversionError(
                f"{self._topic}: {message.width} points of {message.point_step} bytes do not fit row_step {row_step}"
            )
        needed = (message.height - 1) * row_step + message.width * message.point_step if self.count else 0
        if len(raw) < needed:
            raise ConversionError(
                f"{self._topic}'s data is truncated: {message.height} x {message.width} points of {message.point_step} bytes "
                f"({self.description}) need {needed} bytes, it has {len(raw)}"
            )
        self._raw, self._row_step = raw, row_step

    def column(self, offset: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """(N,) values of a field, row by row, after `check_size`; a copy only where the rows are padded."""
        message = self._message
        if not self.count:
            return np.empty(0, dtype)
        assert self._raw is not None
        values = np.ndarray((message.height, message.width), dtype, self._raw.data, offset, (self._row_step, message.point_step))
        return values.reshape(-1)

    def packed_floats(self) -> NDArray[np.float32] | None:
        """(N, 4) of rows that are just four float32, without a copy, after `check_size`; None for every other layout."""
        if self._message.point_step != 16 or self._row_step != self._message.width * 16:
            return None
        assert self._raw is not None
        return self._raw[: 16 * self.count].view(np.float32).reshape(self.count, 4)

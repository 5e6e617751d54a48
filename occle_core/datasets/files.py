"""Reading single files, with errors that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from occle_core.datasets.base import DatasetError


def read_points(path: Path, columns: int, intensity_scale: float = 1.0) -> NDArray[np.float32]:
    """A LiDAR scan of raw float32 rows as (N, 4): x, y, z in metres and intensity divided by `intensity_scale`.

    Raises:
        DatasetError: missing, truncated or empty file, or points that are not finite.
    """
    values = read_array(path, np.float32, row=columns)
    points = np.ascontiguousarray(values.reshape(-1, columns)[:, :4])
    if not len(points):
        raise DatasetError(f"{path} is empty: no LiDAR points")
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise DatasetError(
            f"{path}: {int((~finite).sum())} of {len(points)} points are NaN or infinite, first at row {int(finite.argmin())}"
        )
    points[:, 3] /= np.float32(intensity_scale)
    return points


def read_array(path: Path, dtype: DTypeLike, count: int | None = None, row: int = 1) -> NDArray[Any]:
    """The numbers of a headerless binary file, flat.

    Args:
        path: the file.
        dtype: its numbers, little endian.
        count: how many there must be; None takes any.
        row: their number must be a multiple of this.

    Raises:
        DatasetError: missing file, or a size that does not fit.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    size, item = path.stat().st_size, np.dtype(dtype).itemsize
    if count is not None and size != count * item:
        raise DatasetError(
            f"{path} has {size} bytes, expected {count * item}: truncated, or not {count} values of {np.dtype(dtype).name}"
        )
    if size % (item * row):
        raise DatasetError(
            f"{path} has {size} bytes, not a multiple of {item * row} ({row} {np.dtype(dtype).name} a row): truncated?"
        )
    return np.fromfile(path, dtype)


def read_bits(path: Path, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A packed voxel mask, one bit a cell, most significant first, in C order of `shape`."""
    packed = read_array(path, np.uint8, count=int(np.prod(shape)) // 8)
    return np.unpackbits(packed).astype(np.bool_).reshape(shape)


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        size: the (width, height) its calibration is for; None takes any.

    Raises:
        DatasetError: missing or undecodable file, or another size.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} cannot be decoded as an image")
    if size is not None and image.shape[1::-1] != size:
        raise DatasetError(f"{path} is {image.shape[1]}x{image.shape[0]}, but its calibration is for {size[0]}x{size[1]}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        DatasetError: missing, or not text.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not a text file: {error}") from error


def read_numbers(path: Path, columns: int) -> NDArray[np.float64]:
    """A text file of rows of `columns` numbers, (N, columns).

    Raises:
        DatasetError: missing, or a line that is something else.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != columns or not np.isfinite(row).all():
            raise DatasetError(f"{path} line {number}: expected {columns} numbers, got {line.strip()[:60]!r}")
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, columns)


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DatasetError: missing or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path} is not valid JSON: {error}") from error

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reading single files, with errors that name them and say what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from occle_core.datasets.base import DatasetError
from occle_core.sensors.clouds import LOW_INTENSITY, MAX_INTENSITY, full_intensity
from occle_core.sensors.image_files import ImageFileError, decode_image, halved_size, jpeg_size
from occle_core.sensors.returns import no_return

COPY_AGAIN = "download or copy it again"
MAX_COORDINATE = 1e5
"""Metres from its sensor that no LiDAR point lies; bytes of something else often read as larger numbers."""


@cache
def warn_once(text: str) -> None:
    """Log a warning, each text once in a process."""
    logging.getLogger(__name__).warning(text)


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Turns what the system says about a file into a DatasetError, while it is read inside the `with`.

    Raises:
        DatasetError: the file is missing, a folder, empty, or must not be read.
    """
    try:
        if not path.is_file():
            raise DatasetError(f"{path} is a folder, expected a file" if path.is_dir() else f"{path} is missing")
        if not path.stat().st_size:
            raise DatasetError(f"{path} is empty (0 bytes); {COPY_AGAIN}")
        yield path
    except PermissionError as error:
        raise DatasetError(f"{path} cannot be read: permission denied; change its mode or owner") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def read_points(path: Path, columns: int, intensity_scale: float = 1.0) -> NDArray[np.float32]:
    """A LiDAR scan of raw float32 rows as (N, 4): x, y, z in metres and intensity divided by `intensity_scale`.

    Rows without a return, at (0, 0, 0), are left out, which is logged once for a folder. A scan of nothing else is given as it is;
    networks never see such rows.

    Raises:
        DatasetError: missing, truncated or empty file, or points that are not finite or have negative intensities.
    """
    points = np.ascontiguousarray(_scan_rows(path, columns)[:, :4])
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise DatasetError(
            f"{path}: {int((~finite).sum())} of {len(points)} points are NaN or infinite, first at row {int(finite.argmin())}; "
            f"these are no rows of {columns} float32, or the file is damaged: {COPY_AGAIN}"
        )
    if (farthest := float(np.abs(points[:, :3]).max())) > MAX_COORDINATE:
        raise DatasetError(
            f"{path}: a point is {farthest:.3g} m away; these are no rows of {columns} float32 in metres, or the file is damaged: "
            f"{COPY_AGAIN}"
        )
    lost = _left_out(points)
    if lost.any():
        warn_once(f"{path.parent}: rows of scans at exactly (0, 0, 0) are beams without a return; they are left out")
        points = points[~lost]
    points[:, 3] /= np.float32(intensity_scale)
    _check_intensities(path, points, intensity_scale)
    return points


def read_point_labels(path: Path, dtype: DTypeLike, scan: Path, columns: int) -> NDArray[Any]:
    """A number for each row that `read_points` gives of a scan.

    Raises:
        DatasetError: a file is missing, or it has another number of labels than the scan has rows.
    """
    rows, labels = _scan_rows(scan, columns), read_array(path, dtype)
    if len(rows) != len(labels):
        raise DatasetError(
            f"{path} has {len(labels)} labels, but {scan} has {len(rows)} points: one of them is truncated; {COPY_AGAIN}"
        )
    lost = _left_out(rows)
    return labels[~lost] if lost.any() else labels


def _check_intensities(path: Path, points: NDArray[np.float32], full: float) -> None:
    if points[:, 3].min() < 0:
        row = int(points[:, 3].argmin())
        raise DatasetError(
            f"{path}: row {row} has intensity {points[row, 3] * full:.3g}; its rows do not begin with x, y, z and intensity, or "
            f"intensities are not 0 to {full:g}"
        )
    highest, place = float(points[:, 3].max()), f"{path.parent}: intensities"
    if highest > MAX_INTENSITY:
        found = full_intensity(highest * full)
        warn_once(f"{place} are 0 to {found:g}, and this layout's are 0 to {full:g}; divide those in the files by {found / full:g}")
    elif 0 < highest < LOW_INTENSITY:
        warn_once(f"{place} end below {LOW_INTENSITY * full:g}, and this layout's are 0 to {full:g}; scale those in the files")


def _left_out(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    lost = no_return(rows)
    return np.zeros_like(lost) if lost.all() else lost


def _scan_rows(path: Path, columns: int) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = read_array(path, np.float32, row=columns).reshape(-1, columns)
    return rows


def read_array(path: Path, dtype: DTypeLike, count: int | None = None, row: int = 1) -> NDArray[Any]:
    """The numbers of a headerless binary file, flat.

    Args:
        path: the file.
        dtype: its numbers, little endian.
        count: how many there must be; None takes any.
        row: their number must be a multiple of this.

    Raises:
        DatasetError: missing or unreadable file, or a size that does not fit.
    """
    with readable(path):
        size, item = path.stat().st_size, np.dtype(dtype).itemsize
        if count is not None and size != count * item:
            raise DatasetError(
                f"{path} has {size} bytes, expected {count * item} ({count} values of {np.dtype(dtype).name}): truncated or of "
                f"another format; {COPY_AGAIN}"
            )
        if size % (item * row):
            raise DatasetError(
                f"{path} has {size} bytes, not a multiple of {item * row} ({row} {np.dtype(dtype).name} a row): truncated or of "
                f"another format; {COPY_AGAIN}"
            )
        return np.fromfile(path, dtype)


def read_bits(path: Path, count: int) -> NDArray[np.bool_]:
    """A packed mask of `count` bits, most significant first, flat.

    Raises:
        DatasetError: missing or unreadable file, or another size.
    """
    return np.unpackbits(read_array(path, np.uint8, count=count // 8)).astype(np.bool_)


def read_image(path: Path, size: tuple[int, int] | None = None, needed: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A JPEG or PNG file as (H, W, 3) uint8 RGB, in the orientation that is stored, as the live node decodes images.

    Args:
        path: the file.
        size: the (width, height) its calibration is for; None takes any.
        needed: (width, height) that is enough: a JPEG of at least twice that, with a calibration, is decoded at half its size.

    Raises:
        DatasetError: missing or unreadable, cut off or damaged, or of another format or size.
    """
    with readable(path):
        content = path.read_bytes()
    half = halved_size(size, needed) if size is not None and jpeg_size(content) == size else None
    try:
        image = decode_image(content, half is not None)
    except ImageFileError as error:
        raise DatasetError(f"{path} cannot be decoded: {error}; {COPY_AGAIN}") from error
    if size is not None and image.shape[1::-1] != (half or size):
        raise DatasetError(f"{path} is {image.shape[1]}x{image.shape[0]}, but its calibration is for {size[0]}x{size[1]}")
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Raises:
        DatasetError: missing or unreadable, or not text.
    """
    try:
        with readable(path):
            return path.read_text("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not a text file ({error}); {COPY_AGAIN}") from error


def read_numbers(path: Path, columns: int, blank_rows: bool = False) -> NDArray[np.float64]:
    """A text file of rows of `columns` numbers, (N, columns).

    Args:
        path: the file.
        columns: numbers per line.
        blank_rows: a blank line that others follow is a row of NaN: line k is row k. Otherwise blank lines do not count.

    Raises:
        DatasetError: missing or unreadable, or a line that is something else.
    """
    rows = []
    for number, line in enumerate(read_text(path).rstrip().splitlines(), 1):
        if not line.strip():
            rows += [[np.nan] * columns] * blank_rows
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
        DatasetError: missing, unreadable or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path} is not valid JSON ({error}): truncated or of another format; {COPY_AGAIN}") from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file; pickled objects are refused.

    Raises:
        DatasetError: missing, unreadable or damaged.
    """
    with _numpy_file(path) as content:
        if isinstance(content, np.ndarray):
            raise DatasetError(f"{path} is a single array (.npy), expected an archive of named ones (.npz)")
        return {name: content[name] for name in content.files}


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy file; pickled objects are refused.

    Raises:
        DatasetError: missing, unreadable or damaged.
    """
    with _numpy_file(path) as content:
        if not isinstance(content, np.ndarray):
            raise DatasetError(f"{path} is an archive (.npz), expected a single array (.npy)")
        return content


@contextmanager
def _numpy_file(path: Path) -> Iterator[Any]:
    with readable(path):
        try:
            content = np.load(path, allow_pickle=False)
            yield content
        except (DatasetError, OSError):
            raise
        except Exception as error:  # of zip, zlib or numpy's header parser: what damage meets first
            raise DatasetError(
                f"{path} cannot be read by numpy ({error}): truncated, damaged or of another format; {COPY_AGAIN}"
            ) from error

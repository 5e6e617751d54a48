# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rigid transforms in files of data sets, and the boxes of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.datasets.base import DatasetError
from occle_core.geometry.rigid import is_rigid


@dataclass(frozen=True, eq=False)
class TrackedBox:
    """The box of an object.

    Args:
        track: the same for the same object in all frames.
        T_world_box: (4, 4) float64, maps the box's frame (centre, x along its length, z up) into the world of the poses.
        size: length, width, height, metres.
    """

    track: str
    T_world_box: NDArray[np.float64]
    size: tuple[float, float, float]


def rigid_transform(values: ArrayLike, where: str) -> NDArray[np.float64]:
    """(4, 4) of a 4x4 or 3x4 matrix by rows, as a file has it.

    Args:
        values: 16 or 12 numbers of any shape.
        where: file and entry, for the error.

    Raises:
        DatasetError: these are not the numbers of a rotation with a translation.
    """
    try:
        rows = np.asarray(values, np.float64).reshape(-1, 4)
    except (TypeError, ValueError):
        rows = np.zeros((0, 4))
    T = np.vstack([rows, [0, 0, 0, 1]]) if len(rows) == 3 else rows
    if T.shape != (4, 4) or not is_rigid(T):
        raise DatasetError(f"{where} is not a rotation with a translation (3x4 or 4x4 by rows, metres): {T.round(4).tolist()}")
    return T


def rotation_transform(values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """(4, 4) of the nine numbers of a rotation, by rows.

    Raises:
        DatasetError: they are not a rotation; `where` says whose.
    """
    return rigid_transform(np.column_stack([values.reshape(3, 3), np.zeros(3)]), where)


def transform_from_row(record: dict[str, Any]) -> NDArray[np.float64]:
    """(4, 4) from `translation` (metres) and `rotation` (quaternion w, x, y, z) of a table row.

    Raises:
        DatasetError: these are not 3 and 4 finite numbers, or the quaternion has no length.
    """
    try:
        translation, rotation = np.array(record["translation"], np.float64), np.array(record["rotation"], np.float64)
    except (TypeError, ValueError):
        translation = rotation = np.full(1, np.nan)
    length = np.linalg.norm(rotation)
    if (translation.shape, rotation.shape) != ((3,), (4,)) or not (np.isfinite(translation).all() and 0 < length < np.inf):
        raise DatasetError(
            f"row {record.get('token')}: translation {record['translation']} and rotation {record['rotation']} are no pose (three "
            "numbers, and a quaternion w, x, y, z)"
        )
    w, x, y, z = rotation / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


def inside_oriented_box(
    points: NDArray[np.floating], T_frame_box: NDArray[np.float64], size: tuple[float, float, float], margin: float = 0.1
) -> NDArray[np.bool_]:
    """(N,) bool: which points (N, 3+) lie in a box.

    Args:
        points: metres, in some frame.
        T_frame_box: (4, 4), maps the box's frame (centre, x along its length, z up) into that frame.
        size: length, width, height, metres.
        margin: how far outside a point still counts, metres: boxes are drawn tight and scans are skewed by motion.
    """
    local = (np.asarray(points[:, :3], np.float64) - T_frame_box[:3, 3]) @ T_frame_box[:3, :3]
    return np.asarray((np.abs(local) <= np.asarray(size) / 2 + margin).all(axis=1))

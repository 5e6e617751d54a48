# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses as people write them: a 4x4 matrix by rows, or x, y, z and roll, pitch, yaw."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from occle_core.geometry.rigid import is_rigid

Row = tuple[float, float, float, float]


def pose_matrix(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """(4, 4) rigid transform from metres and degrees: R = Rz(yaw) Ry(pitch) Rx(roll), as in ROS."""
    T = np.eye(4)
    T[:3, :3] = rotation(*np.radians([roll, pitch, yaw]))
    T[:3, 3] = x, y, z
    return T


def pose_rows(T: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """A (4, 4) matrix as `Pose` holds it."""
    return tuple(tuple(row) for row in T.tolist())


def rotation(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """(3, 3) rotation Rz(yaw) Ry(pitch) Rx(roll), radians."""
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


def roll_pitch_yaw(R: NDArray[np.float64]) -> tuple[float, float, float]:
    """Degrees of `rotation` for a (3, 3) rotation; yaw is 0 where the pitch is 90 degrees."""
    pitch = float(np.degrees(np.arcsin(np.clip(-R[2, 0], -1, 1))))
    if abs(R[2, 0]) > 1 - 1e-9:
        return float(np.degrees(np.arctan2(-R[1, 2], R[1, 1]))), pitch, 0.0
    return float(np.degrees(np.arctan2(R[2, 1], R[2, 2]))), pitch, float(np.degrees(np.arctan2(R[1, 0], R[0, 0])))


def _read(given: Any) -> Any:
    """Rows of the matrix.

    Raises:
        ValueError: neither form, or not a rigid transform (to 1 %: rounded files pass).
    """
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape == (6,):
        values = pose_matrix(*values)
    if values.shape == (16,):
        values = values.reshape(4, 4)
    if values.shape != (4, 4):
        raise ValueError("needs 4x4 numbers by rows, or x, y, z (metres), roll, pitch, yaw (degrees)")
    if not is_rigid(values):
        raise ValueError(f"is not a rotation with a translation: {values.round(4).tolist()}")
    return tuple(tuple(row) for row in values.tolist())


Pose = Annotated[tuple[Row, Row, Row, Row], BeforeValidator(_read)]
"""A rigid transform by rows; read from 4x4 numbers, or from x, y, z in metres and roll, pitch, yaw in degrees."""

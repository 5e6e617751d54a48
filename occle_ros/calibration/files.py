# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calibration files: calibration.yaml, KITTI's calib.txt, or a data set folder (SemanticKITTI, KITTI raw, nuScenes)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from occle_core.datasets import DatasetError, open_dataset
from occle_core.datasets import semantickitti as kitti
from occle_core.errors import OccleError
from occle_core.geometry.camera import Camera
from occle_core.geometry.rigid import is_rigid
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.share_paths import resolve

CALIBRATION_FILE = "calibration.yaml"
Row3 = Annotated[list[float], Field(min_length=3, max_length=3)]
Row4 = Annotated[list[float], Field(min_length=4, max_length=4)]


class CalibrationError(OccleError, ValueError):
    """Missing, incomplete or invalid calibration; the message names the place and the remedy."""


class CameraEntry(BaseModel):
    """Camera entry of a calibration file; K, width and height are optional where CameraInfo gives them."""

    model_config = ConfigDict(extra="forbid")

    T_camera_lidar: Annotated[list[Row4], Field(min_length=4, max_length=4)]
    K: Annotated[list[Row3], Field(min_length=3, max_length=3)] | None = None
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _intrinsics_are_whole(self) -> CameraEntry:
        if len({value is None for value in (self.K, self.width, self.height)}) > 1:
            raise ValueError("K, width and height belong together: give all three or none")
        return self


class CalibrationFile(BaseModel):
    """calibration.yaml as `occle bag` writes it.

    Without lidar_frame it applies to scans in any frame: data sets and KITTI's calib.txt name none.
    """

    model_config = ConfigDict(extra="forbid")

    lidar_frame: str = ""
    grid_frame: str = ""
    T_grid_lidar: Annotated[list[Row4], Field(min_length=4, max_length=4)]
    cameras: dict[str, CameraEntry] = Field(default_factory=dict)


def find_calibration(given: str) -> CalibrationFile:
    """Calibration of parameter calibration_file: PATH, or FOLDER#SCENE for a data set with several scenes.

    An existing path may contain a #; otherwise the last # separates the scene.

    Raises:
        ConfigError: no such file or folder.
        CalibrationError: invalid calibration.
    """
    name = "parameter calibration_file"
    path, mark, scene = given.rpartition("#")
    if mark:
        try:
            return read_calibration(resolve(given, name))
        except ConfigError:
            return read_calibration(resolve(path, name), scene or None)
    return read_calibration(resolve(given, name))


def read_calibration(path: Path, scene: str | None = None) -> CalibrationFile:
    """Read and validate a calibration.

    Args:
        path: calibration.yaml or its folder; KITTI's calib.txt, alone (then CameraInfo has to give the intrinsics) or in its
            sequence folder; or a data set folder, of which the first frame is used: in nuScenes it includes the vehicle's
            motion between scan and shutter, which varies slightly from frame to frame.
        scene: name of the scene, for a data set with several.

    Raises:
        CalibrationError: unreadable, incomplete, or a matrix is not a rigid transform.
    """
    if path.is_dir() and (path / CALIBRATION_FILE).is_file():
        path = path / CALIBRATION_FILE
    try:
        if path.is_dir():
            file = _from_dataset(path, scene)
        elif path.suffix == ".txt":
            in_sequence = (path.parent / "velodyne").is_dir()
            file = _from_dataset(path.parent, None) if in_sequence else _from_kitti(path)
        else:
            file = _from_yaml(path)
    except DatasetError as error:
        raise CalibrationError(f"calibration {path}: {error}") from error
    rigid(file.T_grid_lidar, f"{path}: T_grid_lidar")
    for name, camera in file.cameras.items():
        rigid(camera.T_camera_lidar, f"{path}: cameras.{name}.T_camera_lidar")
    return file


def rigid(values: Sequence[Any], name: str) -> NDArray[np.float64]:
    """Validated rigid transform (4, 4) of 16 numbers or 4 rows.

    Raises:
        CalibrationError: not a rotation and a translation (to 1 %: P2's offset and rounded files pass).
    """
    T = np.asarray(values, np.float64).reshape(4, 4)
    if not is_rigid(T):
        raise CalibrationError(f"{name} is not a rotation with a translation (4x4 by rows, metres): {T.round(4).tolist()}")
    return T


def _from_yaml(path: Path) -> CalibrationFile:
    try:
        return CalibrationFile.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"calibration file {path} cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()[:5])
        raise CalibrationError(
            f"calibration file {path}: {problems}; `occle bag` writes an example into every bag folder"
        ) from error


def _from_dataset(folder: Path, scene: str | None) -> CalibrationFile:
    dataset = open_dataset(folder, scene=scene)
    cameras = {
        name: CameraEntry(
            T_camera_lidar=camera.T_camera_lidar.tolist(), K=camera.K.tolist(), width=camera.width, height=camera.height
        )
        for name, camera in zip(dataset.camera_names, dataset.frame(0).cameras)
    }
    return CalibrationFile(
        grid_frame=dataset.grid_frame,
        T_grid_lidar=np.asarray(dataset.T_grid_lidar).tolist(),
        cameras=cameras,
    )


def _from_kitti(path: Path) -> CalibrationFile:
    """calib.txt of KITTI odometry: extrinsics of cam0..cam3; it does not contain the images' size."""
    given = {f"P{number}": 12 for number in range(4)}
    try:
        calibration = kitti.read_calibration(path, **given, Tr=12)
    except DatasetError:
        calibration = kitti.read_calibration(path, P2=12, Tr=12)
    T_camera0_lidar = np.vstack([calibration.pop("Tr").reshape(3, 4), [0, 0, 0, 1]])
    cameras = {
        f"cam{key[1:]}": CameraEntry(T_camera_lidar=Camera.from_projection(P, T_camera0_lidar, 1, 1).T_camera_lidar.tolist())
        for key, P in calibration.items()
    }
    return CalibrationFile(grid_frame="velodyne", T_grid_lidar=np.eye(4).tolist(), cameras=cameras)

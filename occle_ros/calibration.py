"""Where each camera stands and how it sees: a calibration file, parameters, CameraInfo and TF put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from occle_core.camera import Camera
from occle_ros.config import NodeConfig, resolve
from occle_ros.conversions import camera_from_info

Row3 = Annotated[list[float], Field(min_length=3, max_length=3)]
Row4 = Annotated[list[float], Field(min_length=4, max_length=4)]


class CalibrationError(ValueError):
    """A calibration that is missing, incomplete or impossible; the message says what to give where."""


class TransformLookup(Protocol):
    """What `occle_ros.compat.listen_to_transforms` gives."""

    def lookup(self, target: str, source: str) -> NDArray[np.float64]:
        """T_target_source (4, 4); a LookupError where no chain of transforms connects the frames."""


class CameraEntry(BaseModel):
    """One camera of a calibration file; K, width and height may be left out where CameraInfo gives them."""

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
    """calibration.yaml as `occle bag` writes it."""

    model_config = ConfigDict(extra="forbid")

    lidar_frame: str = ""
    grid_frame: str = ""
    T_grid_lidar: Annotated[list[Row4], Field(min_length=4, max_length=4)]
    cameras: dict[str, CameraEntry] = Field(default_factory=dict)


@dataclass(frozen=True)
class Rig:
    """The geometry of one frame.

    Args:
        cameras: one per configured camera; None where its calibration is not known yet.
        unknown: for those cameras, what is missing.
        T_grid_lidar: (4, 4).
        grid_frame: name of the frame that the voxels are in.
    """

    cameras: tuple[Camera | None, ...]
    unknown: Mapping[str, str]
    T_grid_lidar: NDArray[np.float64]
    grid_frame: str


def read_calibration(path: Path) -> CalibrationFile:
    """Read and check a calibration file.

    Raises:
        CalibrationError: unreadable, incomplete, or a matrix that is no rigid transform; the message names the place.
    """
    try:
        file = CalibrationFile.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"calibration file {path} cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()[:5])
        raise CalibrationError(f"calibration file {path}: {problems}. `occle bag` writes an example beside every bag") from error
    rigid(file.T_grid_lidar, f"{path}: T_grid_lidar")
    for name, camera in file.cameras.items():
        rigid(camera.T_camera_lidar, f"{path}: cameras.{name}.T_camera_lidar")
    return file


def rigid(values: Sequence[Any], name: str) -> NDArray[np.float64]:
    """16 numbers or 4 rows -> (4, 4).

    Raises:
        CalibrationError: not a rotation and a translation (to 1 %: P2's offset and rounded files pass).
    """
    T = np.asarray(values, np.float64).reshape(4, 4)
    R = T[:3, :3]
    rotates = np.isfinite(T).all() and np.allclose(R @ R.T, np.eye(3), atol=1e-2) and np.linalg.det(R) > 0
    if not rotates or not np.allclose(T[3], [0, 0, 0, 1]):
        raise CalibrationError(f"{name} is not a rotation with a translation (4x4 by rows, metres): {T.round(4).tolist()}")
    return T


class Calibration:
    """Collects a rig's calibration for the configured cameras.

    Extrinsics: the calibration file, else the parameters T_camera_lidar and T_grid_lidar, else TF between the frames that
    the messages' headers name. Intrinsics: CameraInfo once it came; until then, or without an info_topic, the file's.

    Args:
        config: the node's configuration.
        transforms: TF, where it can be had.

    Raises:
        CalibrationError: the configuration leaves something open that no message can tell.
    """

    def __init__(self, config: NodeConfig, transforms: TransformLookup | None = None) -> None:
        self._config, self._transforms = config, transforms
        given = config.calibration_file
        self._file = read_calibration(resolve(given, "parameter calibration_file")) if given else None
        self._infos: dict[str, Any] = {}
        self._cameras: dict[str, Camera] = {}
        self._T_grid_lidar = self._given_grid()
        for name in config.camera_names:
            self._check_camera(name)

    @property
    def needs_transforms(self) -> bool:
        """Whether some transform has to come from TF."""
        return self._T_grid_lidar is None or any(self._given_extrinsics(name) is None for name in self._config.camera_names)

    def use_transforms(self, transforms: TransformLookup) -> None:
        """Look up in TF what nothing else gives."""
        self._transforms = transforms

    def take_info(self, name: str, message: Any) -> None:
        """Take a camera's CameraInfo; a changed one replaces what was known."""
        known = self._infos.get(name)
        if known is None or not _same_info(known, message):
            self._infos[name] = message
            self._cameras.pop(name, None)

    def rig(self, lidar_frame: str) -> Rig:
        """The geometry for a scan whose header names `lidar_frame`.

        Raises:
            CalibrationError: T_grid_lidar is not known (yet).
            ConversionError: a CameraInfo cannot be used.
        """
        lidar_frame = self._config.frames.lidar or lidar_frame
        unknown: dict[str, str] = {}
        cameras = []
        for name in self._config.camera_names:
            camera = self._cameras.get(name)
            if camera is None:
                camera = self._camera(name, lidar_frame, unknown)
                if camera is not None:
                    self._cameras[name] = camera
            cameras.append(camera)
        if self._T_grid_lidar is None:
            self._T_grid_lidar = self._lookup(self._config.frames.grid, lidar_frame)
        grid_frame = self._config.frames.grid or (self._file.grid_frame if self._file else "") or lidar_frame
        return Rig(tuple(cameras), unknown, self._T_grid_lidar, grid_frame)

    def _camera(self, name: str, lidar_frame: str, unknown: dict[str, str]) -> Camera | None:
        info = self._infos.get(name)
        entry = self._file.cameras.get(name) if self._file else None
        T = self._given_extrinsics(name)
        if info is None:
            if entry is None or entry.K is None or T is None or entry.width is None or entry.height is None:
                unknown[name] = "no_camera_info"
                return None
            return Camera(np.asarray(entry.K, np.float64), T, entry.width, entry.height)
        if T is None:
            try:
                T = self._lookup(info.header.frame_id, lidar_frame)
            except CalibrationError:
                unknown[name] = "no_transform"
                return None
        return camera_from_info(info, T)

    def _given_extrinsics(self, name: str) -> NDArray[np.float64] | None:
        if self._file and name in self._file.cameras:
            return rigid(self._file.cameras[name].T_camera_lidar, name)
        values = self._config.cameras[name].T_camera_lidar
        return rigid(values, f"parameter cameras.{name}.T_camera_lidar") if values else None

    def _given_grid(self) -> NDArray[np.float64] | None:
        if self._file:
            return rigid(self._file.T_grid_lidar, "T_grid_lidar")
        if self._config.T_grid_lidar:
            return rigid(self._config.T_grid_lidar, "parameter T_grid_lidar")
        if self._config.frames.grid:
            return None
        raise CalibrationError(
            "nothing says where the voxel grid lies: give parameter calibration_file (`occle bag` writes calibration.yaml), "
            "T_grid_lidar, or frames.grid (the grid's frame in TF; the scans' own frame_id puts the grid at the LiDAR)"
        )

    def _check_camera(self, name: str) -> None:
        if self._file and name not in self._file.cameras and not self._config.cameras[name].T_camera_lidar:
            known = ", ".join(self._file.cameras) or "none"
            raise CalibrationError(f"calibration file {self._config.calibration_file} has no camera {name!r}; its cameras: {known}")
        entry = self._file.cameras.get(name) if self._file else None
        if not self._config.cameras[name].info_topic and (entry is None or entry.K is None):
            raise CalibrationError(
                f"camera {name!r} has no intrinsics: give parameter cameras.{name}.info_topic, or K, width and height in the "
                "calibration file"
            )
        self._given_extrinsics(name)

    def _lookup(self, target: str, source: str) -> NDArray[np.float64]:
        if target == source:
            return np.eye(4)
        if self._transforms is None:
            raise CalibrationError(f"no transform from {source!r} to {target!r}: TF is not in use")
        try:
            return self._transforms.lookup(target, source)
        except LookupError as error:
            raise CalibrationError(str(error)) from error


def _same_info(a: Any, b: Any) -> bool:
    numbers = all(np.array_equal(getattr(a, field), getattr(b, field)) for field in ("k", "p", "r", "d"))
    return numbers and (a.width, a.height, a.header.frame_id) == (b.width, b.height, b.header.frame_id)

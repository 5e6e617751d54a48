"""Where each camera stands and how it sees: a calibration file, parameters, CameraInfo and TF put together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from occle_core.camera import Camera
from occle_ros.calibration_files import CalibrationError, find_calibration, rigid
from occle_ros.camera_info import Lens, content_of, lens_from_info
from occle_ros.config import NodeConfig
from occle_ros.messages import ConversionError


class TransformLookup(Protocol):
    """What `occle_ros.compat.listen_to_transforms` gives."""

    def lookup(self, target: str, source: str, stamp: int | None = None) -> NDArray[np.float64]:
        """T_target_source (4, 4), the latest or that of a time; a LookupError where no chain of transforms connects the frames."""


@dataclass(frozen=True)
class Rig:
    """The geometry of one frame.

    Args:
        cameras: one per configured camera; None where its calibration is not known (yet).
        unknown: for those cameras the reason: no_camera_info, no_transform or unusable_camera_info.
        T_grid_lidar: (4, 4).
        grid_frame: name of the frame that the voxels are in.
        lenses: one per camera, None as in `cameras`; they make rectified images of the recorded ones.
        problems: for the unknown cameras, what would mend it.
        T_world_lidar: (4, 4) the scan's pose, where it was asked for and is known.
        pose_problem: where it was asked for and is not known, what would mend it.
    """

    cameras: tuple[Camera | None, ...]
    unknown: Mapping[str, str]
    T_grid_lidar: NDArray[np.float64]
    grid_frame: str
    lenses: tuple[Lens | None, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    T_world_lidar: NDArray[np.float64] | None = None
    pose_problem: str = ""


class Calibration:
    """Collects a rig's calibration for the configured cameras.

    Extrinsics: the calibration file, else the parameters T_camera_lidar and T_grid_lidar, else TF between the frames that
    the messages' headers name. Intrinsics: CameraInfo once it came; until then, or without an info_topic, the file's.
    A given T_camera_lidar is the camera's own; the fourth column of a CameraInfo's P counts only on top of TF.

    Args:
        config: the node's configuration.
        transforms: TF, where it can be had.

    Raises:
        CalibrationError: the configuration leaves something open that no message can tell.
    """

    def __init__(self, config: NodeConfig, transforms: TransformLookup | None = None) -> None:
        self._config, self._transforms = config, transforms
        self._file = find_calibration(config.calibration_file) if config.calibration_file else None
        self._infos: dict[str, Any] = {}
        self._contents: dict[str, tuple[Any, ...]] = {}
        self._known: dict[str, tuple[Lens, Camera]] = {}
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

    def take_info(self, name: str, message: Any) -> bool:
        """Take a camera's CameraInfo; True where it replaces one that said something else."""
        content = content_of(message)
        before = self._contents.get(name)
        if before == content:
            return False
        self._contents[name], self._infos[name] = content, message
        self._known.pop(name, None)
        return before is not None

    def rig(self, lidar_frame: str, stamp: int | None = None) -> Rig:
        """The geometry for a scan.

        Args:
            lidar_frame: what the scan's header names.
            stamp: the scan's time, nanoseconds, where its pose is wanted.

        Raises:
            CalibrationError: T_grid_lidar is not known (yet).
        """
        lidar_frame = self._config.frames.lidar or lidar_frame
        unknown: dict[str, str] = {}
        problems: dict[str, str] = {}
        for name in self._config.camera_names:
            if name in self._known:
                continue
            try:
                self._known[name] = self._camera(name, lidar_frame)
            except _UnknownError as why:
                unknown[name], problems[name] = why.reason, str(why)
        if self._T_grid_lidar is None:
            self._T_grid_lidar = self._lookup(self._config.frames.grid, lidar_frame)
        grid_frame = self._config.frames.grid or (self._file.grid_frame if self._file else "") or lidar_frame
        known = [self._known.get(name) for name in self._config.camera_names]
        lenses = tuple(pair[0] if pair else None for pair in known)
        cameras = tuple(pair[1] if pair else None for pair in known)
        pose, problem = self._pose(lidar_frame, stamp) if stamp is not None else (None, "")
        return Rig(cameras, unknown, self._T_grid_lidar, grid_frame, lenses, problems, pose, problem)

    def _pose(self, lidar_frame: str, stamp: int) -> tuple[NDArray[np.float64] | None, str]:
        """T_world_lidar, or what is wrong."""
        try:
            return self._lookup(self._config.frames.world, lidar_frame, stamp), ""
        except CalibrationError as error:
            return None, f"{error}; the scans' poses come from TF, in the frame of parameter frames.world"

    def _camera(self, name: str, lidar_frame: str) -> tuple[Lens, Camera]:
        info, given = self._infos.get(name), self._given_extrinsics(name)
        try:
            lens = self._file_lens(name) if info is None else lens_from_info(info, is_rectified(self._config.cameras[name].topic))
            if lens is None:
                topic = self._config.cameras[name].info_topic
                raise _UnknownError(
                    "no_camera_info", f"no CameraInfo of {name} has come on {topic} (parameter cameras.{name}.info_topic)"
                )
            # Without CameraInfo the lens is the file's, which gives the extrinsics too.
            T = given if given is not None else self._lookup(info.header.frame_id, lidar_frame)
            return lens, lens.camera(T, own_frame=given is not None)
        except CalibrationError as error:
            raise _UnknownError("no_transform", str(error)) from error
        except ConversionError as error:
            raise _UnknownError("unusable_camera_info", str(error)) from error

    def _file_lens(self, name: str) -> Lens | None:
        entry = self._file.cameras.get(name) if self._file else None
        if entry is None or entry.K is None or entry.width is None or entry.height is None:
            return None
        P = np.hstack([np.asarray(entry.K, np.float64), np.zeros((3, 1))])
        return Lens(P, entry.width, entry.height, None, f"the calibration of {name} in {self._config.calibration_file}")

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

    def _lookup(self, target: str, source: str, stamp: int | None = None) -> NDArray[np.float64]:
        if target == source:
            return np.eye(4)
        if self._transforms is None:
            raise CalibrationError(f"no transform from {source!r} to {target!r}: TF is not in use")
        try:
            return self._transforms.lookup(target, source, stamp)
        except LookupError as error:
            raise CalibrationError(str(error)) from error


def is_rectified(topic: str) -> bool:
    """Whether an image topic's name says that image_proc made it: image_rect, image_rect_color, rectified/...

    Its CameraInfo still holds the raw image's distortion, so the name is all that tells.
    """
    return re.search(r"(^|[/_])rect(ified)?([/_]|$)", topic) is not None


class _UnknownError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

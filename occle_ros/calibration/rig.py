# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calibration of the sensor rig, from a calibration file, parameters, CameraInfo and TF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.sensors.camera_info import Lens, calibration_key, is_rectified, lens_from_info, lens_from_rig
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.calibrated_rig import CalibratedRig, TransformLookup
from occle_ros.calibration.files import CalibrationError, CalibrationFile, find_calibration, rigid
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.rig_parameters import load_rig

_IDENTITY = np.eye(4)
_IDENTITY.setflags(write=False)

SLACK = 500_000_000
"""Nanoseconds that a scan may lie outside the buffered times of a moving transform; the nearest one is used then."""


@dataclass(frozen=True)
class _CalibratedCamera:
    """Cached camera with the inputs it was built from."""

    lens: Lens
    T_camera_lidar: NDArray[np.float64]
    tf_frame: str
    camera: Camera


class Calibration:
    """Calibration of the configured cameras and the grid, merged from all sources.

    Extrinsics: the calibration file, else the parameters T_camera_lidar and T_grid_lidar, else the rig file, else TF between the
    frames of the messages' headers, at the scan's stamp. Intrinsics: the CameraInfo; before the first one, or without an
    info_topic, the calibration file or the rig file. A given T_camera_lidar is the camera's own; the fourth column of a
    CameraInfo's P is used with TF only.

    A calibration file with a lidar_frame is for scans in that frame; scans in another frame are transformed by TF.

    Args:
        config: the node's configuration.
        transforms: TF, where available.

    Raises:
        CalibrationError: something is missing in the configuration that no message provides.
    """

    def __init__(self, config: NodeConfig, transforms: TransformLookup | None = None) -> None:
        self._config, self._transforms = config, transforms
        self._file = find_calibration(config.calibration_file) if config.calibration_file else None
        self._rig = load_rig(config.rig)[0] if config.rig else None
        self._infos: dict[str, Any] = {}
        self._contents: dict[str, tuple[Any, ...]] = {}
        self._lenses: dict[str, tuple[Lens, Any]] = {}
        self._posed: dict[tuple[str, str], _CalibratedCamera] = {}
        self._has_foreign_scans = self._needs_poses = False
        self._given_grid = self._find_grid()
        self._given_cameras = {name: self._find_camera(name) for name in config.camera_names}

    @property
    def needs_transforms(self) -> bool:
        """True if a transform has to come from TF."""
        given = (self._given_grid, *self._given_cameras.values())
        return self._has_foreign_scans or self._needs_poses or any(T is None for T in given)

    @property
    def has_transforms(self) -> bool:
        """True if TF is available."""
        return self._transforms is not None

    @property
    def mounted(self) -> tuple[str, NDArray[np.float64]] | None:
        """The rig file's base frame and the main LiDAR's pose in it; None where no rig file, or a calibration file, has it."""
        T = self._rig.lead.T_base_lidar if self._rig and not self._file else None
        return None if self._rig is None or T is None else (self._rig.base_frame, T)

    def body(self, lidar_frame: str) -> tuple[str, NDArray[np.float64]]:
        """Frame whose motion TF has, and the main LiDAR's pose in it (4, 4): the rig file's base frame, else the LiDAR's own."""
        return self.mounted or (lidar_frame, _IDENTITY)

    def use_transforms(self, transforms: TransformLookup) -> None:
        """Set the TF source, for transforms that no file or parameter gives."""
        self._transforms = transforms

    def require_transforms(self) -> TransformLookup:
        """TF, for poses and mountings that no file or parameter gives; `needs_transforms` is True from then on.

        Raises:
            CalibrationError: TF is not in use (yet).
        """
        self._needs_poses = True
        if self._transforms is None:
            raise CalibrationError("TF is not in use")
        return self._transforms

    @property
    def file(self) -> CalibrationFile | None:
        """The calibration file's content, if there is one."""
        return self._file

    def add_camera_info(self, name: str, message: Any) -> bool:
        """Add a camera's CameraInfo; True if it replaces one with other content."""
        content = calibration_key(message)
        before = self._contents.get(name)
        if before == content:
            return False
        self._contents[name], self._infos[name] = content, message
        return before is not None

    def rig(self, lidar_frame: str, stamp: int | None = None, pose: bool = False) -> CalibratedRig:
        """Geometry for a scan.

        Args:
            lidar_frame: frame_id of the scan.
            stamp: of the scan, nanoseconds, for transforms that change; None: the latest.
            pose: also look up the scan's pose in the world.

        Raises:
            CalibrationError: T_grid_lidar is not known (yet), or the calibration file is for another LiDAR.
        """
        lidar_frame = frame_name(self._config.tf.lidar_frame or lidar_frame)
        T_file_lidar = self._from_scan_to_file(lidar_frame, stamp)
        T_grid_lidar = self._given_grid
        if T_grid_lidar is None:
            T_grid_lidar = self._lookup(self._config.tf.grid_frame, lidar_frame, stamp)
        elif T_file_lidar is not None:
            T_grid_lidar = T_grid_lidar @ T_file_lidar
        calibrated: list[_CalibratedCamera | None] = []
        masked: dict[str, str] = {}
        problems: dict[str, str] = {}
        for name in self._config.camera_names:
            try:
                calibrated.append(self._calibrated_camera(name, lidar_frame, stamp, T_file_lidar))
            except _MaskedError as why:
                calibrated.append(None)
                masked[name], problems[name] = why.reason, str(why)
        grid_frame = self._config.tf.grid_frame or (frame_name(self._file.grid_frame) if self._file else "") or lidar_frame
        T_world_lidar, problem = self._world(lidar_frame, stamp) if pose else (None, "")
        return CalibratedRig(
            tuple(None if each is None else each.camera for each in calibrated),
            masked,
            T_grid_lidar,
            grid_frame,
            tuple(None if each is None else each.lens for each in calibrated),
            problems,
            T_world_lidar,
            problem,
            tuple(each.tf_frame if each else "" for each in calibrated),
            self._notes(lidar_frame, T_file_lidar is not None),
        )

    def _from_scan_to_file(self, lidar_frame: str, stamp: int | None) -> NDArray[np.float64] | None:
        """T_file_lidar, if the calibration file is for another frame than the scan's; else None.

        Raises:
            CalibrationError: TF does not connect the two.
        """
        file_frame = frame_name(self._file.lidar_frame) if self._file else ""
        if not file_frame or not lidar_frame or file_frame == lidar_frame:
            return None
        self._has_foreign_scans = True
        try:
            return self._lookup(file_frame, lidar_frame, stamp)
        except CalibrationError as error:
            raise CalibrationError(
                f"the scans are in frame {lidar_frame!r}, but the calibration file {self._config.calibration_file} is for "
                f"{file_frame!r}, and TF does not connect them ({error}); set parameter tf.lidar_frame:={file_frame} if that is "
                f"the same sensor, else give the calibration of {lidar_frame!r} or publish the transform"
            ) from error

    def _notes(self, lidar_frame: str, is_foreign: bool) -> tuple[str, ...]:
        notes = []
        if is_foreign and self._file:
            notes.append(
                f"the scans are in frame {lidar_frame!r}, the calibration file is for {self._file.lidar_frame!r}: TF's transform "
                "between them is applied"
            )
        wanted = self._config.tf.grid_frame
        if self._file and wanted and self._file.grid_frame and frame_name(self._file.grid_frame) != wanted:
            notes.append(
                f"voxels are published in frame {wanted!r} (parameter tf.grid_frame), the calibration file's T_grid_lidar is for "
                f"{self._file.grid_frame!r}: it is taken for the same place; leave tf.grid_frame empty if it is another"
            )
        return (*notes, *sorted(getattr(self._transforms, "notes", ())))

    def _world(self, lidar_frame: str, stamp: int | None) -> tuple[NDArray[np.float64] | None, str]:
        """T_world_lidar at exactly this stamp, or the problem."""
        try:
            body, T_body_lidar = self.body(lidar_frame)
            return self._lookup(self._config.tf.world_frame, body, stamp, 0) @ T_body_lidar, ""
        except CalibrationError as error:
            return None, f"{error}; the scans' poses come from TF, in the frame of parameter tf.world_frame"

    def _calibrated_camera(
        self, name: str, lidar_frame: str, stamp: int | None, T_file_lidar: NDArray[np.float64] | None
    ) -> _CalibratedCamera:
        """A camera's calibration, rebuilt only when an input has changed."""
        T, before = self._given_cameras[name], self._posed.get((name, lidar_frame))
        is_given, tf_frame = T is not None, ""
        try:
            lens = self._lens(name)
            if T is None:
                tf_frame = self._camera_frame(name)
                T = self._lookup(tf_frame, lidar_frame, stamp)
            elif T_file_lidar is not None and self._file and name in self._file.cameras:
                T = T @ T_file_lidar
            if before and before.lens is lens and (before.T_camera_lidar is T or np.array_equal(before.T_camera_lidar, T)):
                return before
            posed = _CalibratedCamera(lens, T, tf_frame, lens.camera(T, own_frame=is_given))
        except CalibrationError as error:
            raise _MaskedError("no_transform", str(error)) from error
        except ConversionError as error:
            raise _MaskedError("unusable_camera_info", str(error)) from error
        self._posed[name, lidar_frame] = posed
        return posed

    def _camera_frame(self, name: str) -> str:
        """Frame of a camera in TF: the rig's, else its CameraInfo's.

        Raises:
            CalibrationError: neither is known.
        """
        given = self._rig.cameras[name].frame if self._rig and name in self._rig.cameras else ""
        if not given and name not in self._infos:
            raise CalibrationError(f"the frame of {name} is not known: give cameras.{name}.frame or its pose in {self._config.rig}")
        return frame_name(given or self._infos[name].header.frame_id)

    def _lens(self, name: str) -> Lens:
        """Lens of the CameraInfo; before the first one, of the file."""
        info = self._infos.get(name)
        lens, made_of = self._lenses.get(name, (None, None))
        if lens is None or made_of is not info:  # another may arrive, in the executor's thread, while one is made
            lens = self._file_lens(name) if info is None else lens_from_info(info, is_rectified(self._config.cameras[name].topic))
            if lens is None:
                topic = self._config.cameras[name].info_topic
                raise _MaskedError(
                    "no_camera_info", f"no CameraInfo of {name} received on {topic} (parameter cameras.{name}.info_topic)"
                )
            self._lenses[name] = lens, info
        return lens

    def _file_lens(self, name: str) -> Lens | None:
        entry = self._file.cameras.get(name) if self._file else None
        if entry is None or entry.K is None or entry.width is None or entry.height is None:
            given = self._rig.cameras.get(name) if self._rig else None
            if given is None or given.lens is None or given.width is None or given.height is None:
                return None
            return lens_from_rig(given.lens, given.width, given.height, name)
        P = np.hstack([np.asarray(entry.K, np.float64), np.zeros((3, 1))])
        return Lens(P, entry.width, entry.height, None, f"the calibration of {name} in {self._config.calibration_file}")

    def _find_grid(self) -> NDArray[np.float64] | None:
        if self._file:
            return rigid(self._file.T_grid_lidar, "T_grid_lidar")
        if self._config.T_grid_lidar:
            return rigid(self._config.T_grid_lidar, "parameter T_grid_lidar")
        if self._rig and (T := self._rig.lead.T_base_lidar) is not None:
            return T
        if self._config.tf.grid_frame:
            return None
        raise CalibrationError(
            "the pose of the voxel grid is not known: set parameter calibration_file (`occle bag` writes calibration.yaml), "
            "T_grid_lidar, or tf.grid_frame (the grid's frame in TF; the scans' frame_id puts the grid at the LiDAR)"
        )

    def _find_camera(self, name: str) -> NDArray[np.float64] | None:
        camera, entry = self._config.cameras[name], self._file.cameras.get(name) if self._file else None
        if self._file and entry is None and not camera.T_camera_lidar:
            known = ", ".join(self._file.cameras) or "none"
            raise CalibrationError(f"calibration file {self._config.calibration_file} has no camera {name!r}; its cameras: {known}")
        if not camera.info_topic and (entry is None or entry.K is None) and self._file_lens(name) is None:
            raise CalibrationError(
                f"camera {name!r} has no intrinsics: give parameter cameras.{name}.info_topic, or K, width and height in the "
                "calibration file, or its lens in the rig file"
            )
        if entry is not None:
            return rigid(entry.T_camera_lidar, name)
        if camera.T_camera_lidar:
            return rigid(camera.T_camera_lidar, f"parameter cameras.{name}.T_camera_lidar")
        given = self._rig.cameras.get(name) if self._rig else None
        if self._rig and given and given.T_base_camera is not None and self._rig.lead.T_base_lidar is not None:
            return np.linalg.inv(given.T_base_camera) @ self._rig.lead.T_base_lidar
        return None

    def _lookup(self, target: str, source: str, stamp: int | None, slack: int = SLACK) -> NDArray[np.float64]:
        if target == source:
            return _IDENTITY
        if self._transforms is None:
            raise CalibrationError(f"no transform from {source!r} to {target!r}: TF is not in use")
        try:
            if stamp is None or not slack:
                return self._transforms.lookup(target, source, stamp)
            return self._transforms.lookup(target, source, stamp, slack)
        except LookupError as error:
            raise CalibrationError(str(error)) from error


class _MaskedError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What calibration gives for a frame, and where it takes transforms from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.sensors.camera_info import Lens


class TransformLookup(Protocol):
    """Source of transforms, as `tf_listener.listen_to_transforms` gives it; `TransformBuffer` documents the arguments."""

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0, wait: bool = True) -> NDArray[np.float64]:
        """T_target_source (4, 4), the latest or at a stamp; LookupError where no chain of transforms connects the frames."""


@dataclass(frozen=True)
class CalibratedRig:
    """Geometry of one frame.

    Args:
        cameras: one per configured camera; None where it is masked for lack of a calibration.
        masked: camera -> reason: no_camera_info, no_transform or unusable_camera_info.
        T_grid_lidar: (4, 4).
        grid_frame: name of the voxels' frame.
        lenses: one per camera, None as in `cameras`; they rectify the recorded images.
        problems: masked camera -> problem and remedy.
        T_world_lidar: (4, 4) the scan's pose, if requested and known.
        pose_problem: problem and remedy, if the pose is requested and not known.
        tf_frames: per camera, the frame of its CameraInfo where TF gave the extrinsics; else "".
        notes: messages to log once.
    """

    cameras: tuple[Camera | None, ...]
    masked: Mapping[str, str]
    T_grid_lidar: NDArray[np.float64]
    grid_frame: str
    lenses: tuple[Lens | None, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    T_world_lidar: NDArray[np.float64] | None = None
    pose_problem: str = ""
    tf_frames: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

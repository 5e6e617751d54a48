# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""CameraInfo and transforms that come late or change: the pipeline without a node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documented import assert_rows, rows_of
from fault_rig import MS, jpeg_image, raw_image, scan
from node_rig import CAMERA, SECOND, T_CAMERA_LIDAR, lively_bundle
from tf_messages import tf_message

from occle_core.predictor import Predictor
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.pipeline.pipeline import Pipeline, ProcessedFrame
from occle_ros.sync.lidar_led import SyncedMessages

FAULTS: list[str] = []
fault = rows_of(FAULTS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("late") / "bundle", cameras=2)


class Rig:
    """The pipeline without a node: for faults that have nothing to do with the transport."""

    def __init__(self, bundle: Path, transforms: TransformBuffer | None = None, **settings: Any) -> None:
        self.config = NodeConfig.model_validate({"camera_names": ["cam2", "cam3"], **settings})
        self.calibration = Calibration(self.config, transforms)
        self._pipeline = Pipeline(Predictor.load(bundle, threads=1), self.config, self.calibration)

    def process(self, stamp: int = 5) -> ProcessedFrame:
        """One frame."""
        images = (raw_image(stamp), jpeg_image(stamp))
        return self._pipeline.process(SyncedMessages(stamp, scan(stamp), images, {}))

    def frame(self) -> Mapping[str, str]:
        """Reasons of the cameras that one frame went without."""
        return self.process().assembled.masked


@fault("CameraInfo missing, then arriving")
def test_a_camera_joins_when_its_info_comes(bundle: Path) -> None:
    T = T_CAMERA_LIDAR.reshape(-1).tolist()
    cameras = {name: {"T_camera_lidar": T} for name in ("cam2", "cam3")}
    rig = Rig(bundle, T_grid_lidar=np.eye(4).reshape(-1).tolist(), cameras=cameras)
    assert rig.frame() == {"cam2": "no_camera_info", "cam3": "no_camera_info"}
    rig.calibration.add_camera_info("cam3", info_from_camera(CAMERA, 1, "cam3_optical"))
    assert rig.frame() == {"cam2": "no_camera_info"}
    rig.calibration.add_camera_info("cam2", info_from_camera(CAMERA, 1, "cam2_optical"))
    assert rig.frame() == {}


def rig_of_tf(bundle: Path) -> tuple[Rig, TransformBuffer]:
    """A rig whose lenses are known and whose extrinsics come from TF, and TF, which is empty."""
    transforms = TransformBuffer()
    rig = Rig(bundle, transforms, tf={"grid_frame": "base_link"})
    for name in ("cam2", "cam3"):
        rig.calibration.add_camera_info(name, info_from_camera(CAMERA, 1, f"{name}_optical"))
    return rig, transforms


@fault("TF missing, then arriving")
def test_frames_begin_when_the_transforms_come(bundle: Path) -> None:
    rig, transforms = rig_of_tf(bundle)
    with pytest.raises(CalibrationError, match=r"no transform from 'velodyne' to 'base_link'.*none"):
        rig.frame()
    transforms.add(tf_message("base_link", "velodyne", np.eye(4)))
    assert rig.frame() == {"cam2": "no_transform", "cam3": "no_transform"}
    for name in ("cam2", "cam3"):
        transforms.add(tf_message("velodyne", f"{name}_optical", np.linalg.inv(T_CAMERA_LIDAR)))
    assert rig.frame() == {}


@fault("TF that changes while running")
def test_extrinsics_follow_tf(bundle: Path) -> None:
    rig, transforms = rig_of_tf(bundle)
    for name in ("cam2", "cam3"):
        transforms.add(tf_message("velodyne", f"{name}_optical", np.linalg.inv(T_CAMERA_LIDAR)), fixed=True)
    for height, stamp in ((1.5, SECOND), (2.5, 2 * SECOND)):  # a mast that rises
        T = np.eye(4)
        T[2, 3] = height
        transforms.add(tf_message("base_link", "velodyne", T, stamp))
    for stamp, height in ((SECOND, 1.5), (SECOND + 250 * MS, 1.75), (2 * SECOND + 400 * MS, 2.5)):
        assert rig.process(stamp).assembled.frame.T_grid_lidar[2, 3] == pytest.approx(height)
    with pytest.raises(CalibrationError, match=r"known from 1\.000 to 2\.000 s, not at 3\.000 s"):
        rig.process(3 * SECOND)
    T_lidar_camera = np.linalg.inv(T_CAMERA_LIDAR)
    T_lidar_camera[0, 3] += 0.1
    transforms.add(tf_message("velodyne", "cam3_optical", T_lidar_camera), fixed=True)  # sent again after a calibration
    cameras = rig.process(SECOND).assembled.frame.cameras
    assert cameras[1].T_camera_lidar[2, 3] - cameras[0].T_camera_lidar[2, 3] == pytest.approx(-0.1)


def test_every_fault_has_its_row() -> None:
    assert_rows("Faults", FAULTS)

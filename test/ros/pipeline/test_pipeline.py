# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What becomes of a frame that the network refuses: the words name the cameras that are missing, and why."""

import numpy as np
import pytest
from calibration_rig import IMAGE, info, with_extrinsics

from occle_core.bundle import save_bundle, spec_for
from occle_core.frame import FrameError
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.config import tiny as minkocc_tiny
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.predictor import Predictor
from occle_ros.calibration.rig import Calibration
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import message_from_image
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.sync.lidar_led import SyncedMessages

GRID = VoxelGrid((0.0, -3.2, -2.0), (16, 16, 8), 0.4)
POINTS = np.column_stack([np.linspace(1, 6, 50), np.linspace(-3, 3, 50), np.full(50, -1.0), np.full(50, 0.5)]).astype(np.float32)


def pipeline(folder, network):
    spec = spec_for(network, GRID, "semantickitti", "test")
    save_bundle(folder, spec, spec.build())
    settings = with_extrinsics()
    calibration = Calibration(settings)
    calibration.add_camera_info("cam2", info())
    return Pipeline(Predictor.load(folder, threads=1), settings, calibration)


def synced(image, stamp, points=POINTS, **masked):
    return SyncedMessages(stamp, cloud_from_points(points, stamp, "velodyne"), (image,), masked)


def test_occle_refuses_a_frame_whose_cameras_are_all_missing_and_predicts_the_next(tmp_path):
    made = pipeline(tmp_path / "bundle", occle_tiny())
    with pytest.raises(FrameError, match=r"no image, and a network of kind occle cannot do without: .*; left out: cam2 \(stale\)$"):
        made.process(synced(None, 5, cam2="stale"))
    assert made.process(synced(message_from_image(IMAGE, 6, "cam2_optical"), 6)).occupancy.stamp == 6


def test_minkocc_predicts_from_the_points_alone(tmp_path):
    made = pipeline(tmp_path / "bundle", minkocc_tiny("kitti"))
    found = made.process(synced(None, 5, cam2="stale"))
    assert found.occupancy.stamp == 5 and found.assembled.masked == {"cam2": "stale"}
    with pytest.raises(FrameError, match=r"inside the grid .*; left out: cam2 \(stale\)$"):
        made.process(synced(None, 6, POINTS + np.float32([100, 0, 0, 0]), cam2="stale"))
    with pytest.raises(FrameError, match=r"T_grid_lidar and the units$"):
        made.process(synced(message_from_image(IMAGE, 7, "cam2_optical"), 7, POINTS + np.float32([100, 0, 0, 0])))

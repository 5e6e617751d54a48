# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Plausibility of calibrations, on real scans: right ones are not questioned, wrong ones are."""

from dataclasses import replace

import numpy as np
import pytest

from occle_core.datasets import open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI
from occle_core.plausibility import frame_warnings

BODY_OF_OPTICAL = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
"""A camera's optical frame (x right, y down, z ahead) in its body frame (x ahead, y left, z up)."""


@pytest.mark.parametrize(("folder", "scene", "grid"), [
    ("semantickitti", "00", SEMANTICKITTI), ("semantickitti", "05", SEMANTICKITTI), ("semantickitti", "07", SEMANTICKITTI),
    ("nuscenes", "scene-0061", OCC3D_NUSCENES), ("nuscenes", "scene-0001", OCC3D_NUSCENES),
])  # fmt: skip
def test_real_scans(real_data, folder, scene, grid):
    dataset = open_dataset(real_data / folder, scene=scene)
    for i in range(0, len(dataset), 4):
        frame = dataset.frame(i)
        assert frame_warnings(frame, grid, dataset.camera_names) == {}
        bodies = [replace(camera, T_camera_lidar=BODY_OF_OPTICAL @ camera.T_camera_lidar) for camera in frame.cameras]
        found = frame_warnings(replace(frame, cameras=bodies), OCC3D_NUSCENES, dataset.camera_names)
        assert found.keys() == {
            *(f"view:{name}" for name in dataset.camera_names),
            *({"placement"} if grid == SEMANTICKITTI else ()),
        }


@pytest.mark.parametrize(("folder", "scene", "grid", "raised"), [
    ("semantickitti", "07", SEMANTICKITTI, 1.73), ("nuscenes", "scene-0061", OCC3D_NUSCENES, 1.0),
])  # fmt: skip
def test_a_grid_that_begins_far_below_the_ground_is_said(real_data, folder, scene, grid, raised):
    """The KITTI network with a frame on the road, as base_link is, and nuScenes' with one below it."""
    dataset = open_dataset(real_data / folder, scene=scene)
    frame = dataset.frame(0)
    T = frame.T_grid_lidar.copy()
    T[2, 3] += raised
    found = frame_warnings(replace(frame, T_grid_lidar=T), grid, dataset.camera_names)
    assert found.keys() == {"placement"} and "m above the bottom of the voxel grid" in found["placement"]

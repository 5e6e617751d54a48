# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Streets seen by the sensors of a rig file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from occle_train.cli import app
from occle_train.streets import simulate
from occle_train.streets.sensors.described_rig import scaled_rig
from occle_train.streets.sensors.lens_rays import pixel_rays
from occle_train.streets.sensors.rigs import RigCamera
from typer.testing import CliRunner

from occle_core.datasets import open_dataset
from occle_core.rig import Rig, RigError, read_rig
from occle_core.rig.files import class_list

OWN = Path(__file__).resolve().parents[3] / "examples" / "own_rig" / "rig.yaml"


@pytest.mark.parametrize("name", ["left", "front"])
def test_rays_project_back_to_their_pixels(name):
    """By OpenCV's projection of either model."""
    given = scaled_rig(read_rig(OWN), 0.3).cameras[name]
    camera = RigCamera(name, given.lens.K, np.eye(4), given.width, given.height, given.lens)
    rays = pixel_rays(camera)
    assert np.allclose(np.linalg.norm(rays, axis=1), 1)
    ahead = rays[:, 2] > 0.2
    project = cv2.fisheye.projectPoints if name == "front" else cv2.projectPoints
    points = (rays[ahead] / rays[ahead, 2:])[:, None]
    pixels, _ = project(points, np.zeros(3), np.zeros(3), given.lens.K, np.array(given.lens.distortion))
    u, v = np.meshgrid(np.arange(given.width), np.arange(given.height))
    assert np.abs(pixels.reshape(-1, 2) - np.stack([u, v], -1).reshape(-1, 2)[ahead]).max() < 1e-3
    assert (rays[~ahead, 2] < 0.2).all()


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    rig = read_rig(OWN)
    out = tmp_path_factory.mktemp("own")
    assert simulate(out, rig, 1, 4, seed=3, scale=0.4, workers=1, every=3, classes=class_list(rig, OWN)) == ["00"]
    return out


def test_a_simulated_rig_is_a_data_set(drive):
    dataset = open_dataset(drive)
    rig, frame = dataset.rig, dataset.frame(1)
    frame.check()
    assert (
        dataset.numbers == [0, 3]
        and dataset.camera_names == ("left", "right", "front")
        and dataset.taxonomy.name == "own_rig_classes"
    )
    assert [image.shape for image in frame.images] == [(128, 192, 3), (128, 192, 3), (192, 256, 3)]
    # Each point lies on a beam of its own LiDAR.
    sensor, _ = dataset.point_sources(1)
    for number, lidar in enumerate(rig.lidars.values()):
        own = frame.points[sensor == number, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
        local = (own - lidar.T_base_lidar[:3, 3]) @ lidar.T_base_lidar[:3, :3]
        distance = np.linalg.norm(local, axis=1)
        elevation = np.degrees(np.arcsin(local[:, 2] / distance))[distance > 5]
        off = np.abs(elevation[:, None] - np.array(lidar.beams.elevations)).min(axis=1)
        assert len(own) > 500 and np.percentile(off, 99) < 0.1 and distance.max() < lidar.beams.max_range + 1
    # The ground is where the rig says: most floor points are within a step of z = 0.
    base = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
    labels = dataset.point_labels(1)
    near = (labels == dataset.taxonomy.id("floor")) & (np.hypot(base[:, 0], base[:, 1]) < 6)
    assert abs(np.median(base[near, 2])) < 0.15


def test_truth_agrees_with_the_points(drive):
    dataset = open_dataset(drive)
    grid = dataset.rig.grid.grid
    frame, labels, truth = dataset.frame(0), dataset.point_labels(0), dataset.truth(0, grid)
    base = (frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]).astype(np.float32)
    cells, inside = grid.index(base)
    known = inside & (labels != 255)
    there = truth[tuple(cells[known].T)]
    assert known.sum() > 2000 and (there == labels[known]).mean() > 0.9
    assert dataset.masks(0)["camera"].any() and dataset.masks(0)["lidar"].sum() > dataset.masks(0)["camera"].sum() * 0.3


def test_points_meet_the_images(drive):
    """Through every lens: the class under a point's pixel in the recorded image is the point's."""
    dataset = open_dataset(drive)
    frame, labels = dataset.frame(0), dataset.point_labels(0)
    for name in dataset.camera_names:
        camera, given = dataset.camera(name), dataset.rig.cameras[name]
        image = dataset.image_file(0, name)
        semantic = cv2.imread(str(image.parents[1] / "semantic" / name / f"{image.stem}.png"), cv2.IMREAD_UNCHANGED)
        local = frame.points[:, :3] @ camera.T_camera_lidar[:3, :3].T + camera.T_camera_lidar[:3, 3]
        ahead = (local[:, 2] > 1) & (labels != 255)
        project = cv2.fisheye.projectPoints if given.lens.model == "equidistant" else cv2.projectPoints
        uv, _ = project(
            local[ahead][:, None].astype(np.float64), np.zeros(3), np.zeros(3), given.lens.K, np.array(given.lens.distortion)
        )
        uv = np.rint(uv.reshape(-1, 2)).astype(int)
        off_axis = np.degrees(np.arctan2(np.hypot(*local[ahead, :2].T), local[ahead, 2]))
        inside = (uv >= 0).all(1) & (uv < [given.width, given.height]).all(1) & (off_axis < 55)
        seen = semantic[uv[inside, 1], uv[inside, 0]]
        assert inside.sum() > 200 and (seen == labels[ahead][inside]).mean() > 0.85, name


def test_a_rig_without_beams_or_lenses_is_refused(tmp_path):
    bare = Rig.model_validate({"lidars": {"top": {"topic": "/p"}}, "cameras": {"c": {"topic": "/c", "info_topic": "/i"}}})
    with pytest.raises(RigError, match=r"without lidars\.top\.pose, lidars\.top\.beams, cameras\.c\.pose, .*grid; `occle rig BAG"):
        simulate(tmp_path / "out", bare)
    for file, message in ((tmp_path / "no.yaml", "no rig file of this name"), (tmp_path, "there is no rig file")):
        done = CliRunner().invoke(app, ["simulate", str(tmp_path / "out"), "--rig", str(file)])
        assert done.exit_code and message in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()

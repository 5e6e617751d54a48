# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Drafted rig files against the rig that the recording was simulated with, and a wrong calibration seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bag_copies import copy_bag

from occle_core.bags.storage import BagError
from occle_core.datasets import open_dataset
from occle_core.geometry.camera import Camera
from occle_core.rig import read_rig, write_rig
from occle_core.rig.pose import pose_matrix, rotation
from occle_core.rig_drafting.beams import _by_ring, _clusters
from occle_core.rig_drafting.draft import draft_rig
from occle_core.rig_drafting.extrinsics import score_camera
from occle_core.rig_drafting.ground import find_ground
from occle_core.rig_drafting.names import camera_infos, image_topics, sensor_names


def test_the_draft_is_the_rig(recording):
    given, draft = read_rig(recording / "rig.yaml"), draft_rig(recording / "bag")
    rig = draft.rig
    assert rig.base_frame == "base_link" and rig.odometry.topic == "/odom" and list(rig.lidars) == ["top", "rear"]
    assert set(rig.cameras) == set(given.cameras)
    for name, lidar in given.lidars.items():
        found = rig.lidars[name]
        assert np.allclose(found.T_base_lidar, lidar.T_base_lidar, atol=1e-6) and found.topic == lidar.topic
        assert np.allclose(found.beams.elevations, lidar.beams.elevations, atol=0.05)
        assert abs(found.beams.azimuth_step - lidar.beams.azimuth_step) < 0.02 and abs(found.rate_hz - 10) < 0.1
        assert found.beams.azimuth_range == (-180, 180)
    for name, camera in given.cameras.items():
        found = rig.cameras[name]
        assert np.allclose(found.T_base_camera, camera.T_base_camera, atol=1e-6)
        assert (found.lens.model, found.width, found.height, found.compressed) == (
            camera.lens.model,
            camera.width,
            camera.height,
            camera.compressed,
        )
        assert np.allclose(found.lens.K, camera.lens.K) and np.allclose(found.lens.distortion, camera.lens.distortion)
    assert abs(rig.ground_z) < 0.15
    # The ground lies in the middle of a layer of cells.
    layer = (rig.ground_z - rig.grid.origin[2]) / rig.grid.resolution
    assert abs(layer % 1 - 0.5) < 0.01
    assert [question.partition(":")[0] for question in draft.questions] == ["classes"]


def test_a_drafted_rig_opens_its_bag(recording, tmp_path):
    write_rig(draft_rig(recording / "bag").rig, tmp_path / "rig.yaml")
    mine, given = (
        open_dataset(recording / "bag", rig=tmp_path / "rig.yaml"),
        open_dataset(recording / "bag", rig=recording / "rig.yaml"),
    )
    assert np.abs(mine.frame(2).points - given.frame(2).points).max() < 1e-3 and len(mine) == len(given)


def test_without_tf_infos_and_odometry_there_are_questions(recording, tmp_path):
    bag = copy_bag(recording / "bag", tmp_path / "bare", drop=("/tf", "/odom", "/left/camera_info"))
    draft = draft_rig(bag)
    questions = "\n".join(draft.questions)
    for wanted in (
        "odometry.topic: ",
        "lidars.top.pose: no TF",
        "cameras.front.pose: no TF",
        "cameras.left.lens: no CameraInfo",
        "record /tf_static",
    ):
        assert wanted in questions, wanted
    # Roll, pitch and height of a LiDAR come from the ground; heading is not known.
    T = draft.rig.lead.T_base_lidar
    up_in_lidar = pose_matrix(0.3, 0.1, 1.25, 2, 8, 15)[2, :3]
    assert np.degrees(np.arccos(T[2, :3] @ up_in_lidar)) < 3 and abs(T[2, 3] - 1.25) < 0.2
    no_cloud = copy_bag(recording / "bag", tmp_path / "no_cloud", drop=("/top", "/rear"))
    with pytest.raises(BagError, match=r"has no sensor_msgs/msg/PointCloud2.* Its topics: /front/camera_info"):
        draft_rig(no_cloud)


def test_two_lidars_with_the_same_default_frame_are_asked_about(recording, tmp_path):
    def same_frame(topic, message):
        if topic.endswith("/points"):
            message.header.frame_id = "velodyne"
        return message

    questions = draft_rig(copy_bag(recording / "bag", tmp_path / "same", change=same_frame)).questions
    assert any(text.startswith("lidars.rear.pose: its scans are in the frame of top, velodyne, so") for text in questions)


@pytest.mark.parametrize("flip", [False, True])
def test_the_ground_is_found_from_any_mounting(flip):
    """Points of a plane, a wall that is larger, and clutter above; the normal and the height are known."""
    rng = np.random.default_rng(1)
    ground = np.column_stack([rng.uniform(-12, 12, (3000, 2)), rng.normal(0, 0.02, 3000)])
    wall = np.column_stack([rng.normal(5, 0.02, 4000), rng.uniform(-12, 12, 4000), rng.uniform(0, 6, 4000)])
    clutter = rng.uniform((-10, -10, 0.1), (10, 10, 3), (1500, 3))
    T = pose_matrix(0, 0, 1.4, 180 if flip else 12, -9, 70)  # of the sensor above the ground
    points = (np.concatenate([ground, wall, clutter]) - T[:3, 3]) @ T[:3, :3]
    found = find_ground(points)
    assert found.tilt(T[2, :3]) < 0.5 and abs(found.height - 1.4) < 0.03
    assert np.allclose(found.levelled()[2], [*T[2, :3], 1.4], atol=0.03)
    assert find_ground(clutter) is None and find_ground(points[:50]) is None


def test_the_floor_is_the_ground_where_ceiling_and_walls_have_more_points():
    rng = np.random.default_rng(2)
    floor = np.column_stack([rng.uniform(-4, 4, (1500, 2)), np.full(1500, -1.5)])
    ceiling = np.column_stack([rng.uniform(-4, 4, (3000, 2)), np.full(3000, 1.1)])
    walls = np.column_stack([np.full(4000, 4.0), rng.uniform(-4, 4, 4000), rng.uniform(-1.5, 1.1, 4000)])
    found = find_ground(np.concatenate([floor, ceiling, walls]))
    assert found.tilt(np.array([0, 0, 1.0])) < 0.5 and abs(found.height - 1.5) < 0.02


def test_beams_without_a_ring_field(recording, tmp_path):
    """Sixteen beams by their elevations alone; a random pattern is none."""

    def without_ring(topic, message):
        if topic != "/rear/points":
            return message
        return replace(message, fields=[field for field in message.fields if field.name != "ring"])

    given = read_rig(recording / "rig.yaml").lidars["rear"].beams
    draft = draft_rig(copy_bag(recording / "bag", tmp_path / "no_ring", change=without_ring))
    assert np.allclose(draft.rig.lidars["rear"].beams.elevations, given.elevations, atol=0.05)
    assert any("16 beams by the points' elevations" in fact for fact in draft.facts)
    rng = np.random.default_rng(0)
    assert not _clusters(rng.uniform(-20, 20, 20_000))[1]
    # A Livox numbers its lines, each of which crosses the whole field of view; a spinning sensor's rings lie at one height.
    lines = rng.integers(0, 6, 20_000)
    assert _by_ring(rng.uniform(-20, 20, 20_000), lines) is None and _by_ring(np.zeros(5), np.full(5, -1)) is None
    assert np.allclose(_by_ring(10.0 - 3 * lines + rng.normal(0, 0.1, 20_000), lines), 10 - 3 * np.arange(6), atol=0.02)


def test_names_of_sensors():
    kinds = {
        "/cam/left/image_raw": "sensor_msgs/msg/Image", "/cam/left/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
        "/cam/right/image_raw": "sensor_msgs/msg/Image", "/cam/depth/image_raw": "sensor_msgs/msg/Image",
    }  # fmt: skip
    images, notes = image_topics(kinds)
    assert images == ["/cam/left/image_raw/compressed", "/cam/right/image_raw"] and len(notes) == 2
    infos = ["/cam/left/camera_info", "/cam/right/camera_info", "/cam/depth/camera_info"]
    assert camera_infos(images, infos) == {images[0]: infos[0], images[1]: infos[1]}
    # Without a CameraInfo of its own a camera has none, not its neighbour's.
    assert camera_infos(images, infos[:1]) == {images[0]: infos[0], images[1]: ""}
    flat = [f"/cams/{side}_image" for side in ("front", "rear")]
    assert list(camera_infos(flat, ["/cams/rear_info", "/cams/front_info"]).values()) == ["/cams/front_info", "/cams/rear_info"]
    assert camera_infos(["/cam/image_raw", "/cam/image_rect"], ["/cam/camera_info"])["/cam/image_rect"] == "/cam/camera_info"
    assert sensor_names(images, "camera") == {images[0]: "left", images[1]: "right"}
    assert sensor_names(["/points", "/rear/points"], "lidar") == {"/points": "lidar", "/rear/points": "rear"}
    assert len(set(sensor_names(["/a/x/points", "/b/x/points", "/3d/points"], "lidar").values())) == 3


def test_a_rotated_camera_is_seen(recording):
    dataset = open_dataset(recording / "bag", rig=recording / "rig.yaml")
    frames = [dataset.frame(i) for i in range(len(dataset))]
    number = dataset.camera_names.index("front")

    def scored(yaw):
        turned = []
        for frame in frames:
            T = np.eye(4)
            T[:3, :3] = rotation(0.0, np.radians(yaw), 0.0)
            cameras = list(frame.cameras)
            camera = cameras[number]
            cameras[number] = Camera(camera.K, T @ camera.T_camera_lidar, camera.width, camera.height)
            turned.append(replace(frame, cameras=cameras))
        return score_camera("front", number, turned)

    good = scored(0)
    assert good.verdict == "good" and good.score > 1.4
    for yaw in (3, -2):
        wrong = scored(yaw)
        assert wrong.verdict == "off" and abs(wrong.heading + yaw) < 0.6 and wrong.score < 0.95 * good.score
        side = "left" if yaw > 0 else "right"
        assert f"further {side}: correct cameras.front.pose" in wrong.text
    empty = score_camera("front", number, [replace(frame, points=frame.points[:20]) for frame in frames])
    assert empty.verdict == "unknown"

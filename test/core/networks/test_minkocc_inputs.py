# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxelisation and view selection against slow, plain references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_core.bundle import rig_spec
from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks import registry as networks
from occle_core.networks.blocks.voxelise import drop_own_vehicle, point_features, voxelise
from occle_core.networks.minkocc.config import tiny
from occle_core.networks.minkocc.inputs import choose_views, collate, prepare, prepare_images

GRID = VoxelGrid((0.0, -4.0, -2.0), (8, 8, 8), 0.5)
AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def camera(width=64, height=32, yaw=0.0):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]
    return Camera(np.array([[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]]), AXES @ turn, width, height)


def cloud(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform((-1, -5, -3), (5, 5, 3), (count, 3)), rng.random((count, 1))], 1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(1, 5), st.integers(0, 99))
def test_voxelise_equals_a_dictionary_of_lists(count, max_points, seed):
    points = cloud(count, seed)[:, :3]
    wanted = {}
    for row, point in enumerate(points):
        cell = np.floor((point - np.float32(GRID.origin)) / np.float32(GRID.resolution)).astype(int)
        if (cell >= 0).all() and (cell < GRID.shape).all():
            wanted.setdefault(tuple(cell), []).append(row)
    rows, voxel, table, cells = voxelise(points, GRID, max_points)
    assert [tuple(cell) for cell in cells] == sorted(wanted)
    for number, cell in enumerate(sorted(wanted)):
        everyone = wanted[cell]
        kept = min(len(everyone), max_points)
        chosen = [everyone[slot * len(everyone) // kept] for slot in range(kept)]
        positions = table[number][table[number] < len(rows)]
        assert rows[positions].tolist() == chosen
        assert (voxel[positions] == number).all()
    assert len(rows) == sum(min(len(v), max_points) for v in wanted.values())


def test_point_features_by_hand():
    points = np.array([[0.1, -3.9, -1.9], [0.3, -3.7, -1.9], [3.9, 3.9, 1.9]], np.float32)
    features = point_features(
        points, np.array([0.2, 0.4, 0.6], np.float32), np.array([0, 0, 1]), np.array([[0, 0, 0], [7, 15, 7]]), GRID
    )
    np.testing.assert_allclose(features[0, :3], [0.1 / 4 * 2 - 1, 0.1 / 4 * 2 - 1, 0.1 / 4 * 2 - 1], atol=1e-5)
    np.testing.assert_allclose(features[:, 3], [0.2, 0.4, 0.6])
    np.testing.assert_allclose(features[0, 4:7], [-0.2, -0.2, 0], atol=1e-5)
    np.testing.assert_allclose(features[1, 7:], [0.1, 0.1, -0.3], atol=1e-5)


@pytest.mark.parametrize("max_views", [1, 2, 3])
def test_choose_views_takes_the_most_central_visible_cameras(max_views):
    cameras = [camera(), camera(yaw=0.5), camera(yaw=-0.4), camera(yaw=0.2), camera(yaw=3.1)]
    images = [np.zeros((32, 64, 3), np.uint8)] * 5
    images[3] = None
    points = cloud(300)
    view, uv = choose_views(points, images, cameras, 6, max_views)
    for row, point in enumerate(points):
        candidates = []
        for number, cam in enumerate(cameras):
            pixel, _, visible = cam.project(point[None])
            if visible[0] and images[number] is not None:
                relative = (pixel[0] + 0.5) / (cam.width, cam.height)
                candidates.append((-min(*relative, *(1 - relative)), number, relative))
        candidates.sort(key=lambda c: c[0])
        for slot in range(max_views):
            if slot < len(candidates):
                assert view[row, slot] == candidates[slot][1]
                np.testing.assert_allclose(uv[row, slot], candidates[slot][2], atol=1e-5)
            else:
                assert view[row, slot] == 6


def test_points_on_the_vehicle_itself_are_left_out():
    config = tiny("kitti").model_copy(update={"points": tiny("kitti").points.model_copy(update={"min_range": 2.0})})
    points = cloud(500)
    far = points[np.hypot(points[:, 0], points[:, 1]) >= 2.0]
    assert len(far) < len(points)
    filtered, direct = (prepare(Frame(0, p, [None], [camera()]), GRID, c) for p, c in ((points, config), (far, tiny("kitti"))))
    assert torch.equal(filtered.points, direct.points) and torch.equal(filtered.coords, direct.coords)


def test_images_are_resized_and_masked():
    config = tiny("nuscenes")
    image = np.full((64, 128, 3), (123, 116, 103), np.uint8)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    out = prepare_images([None, image, large], config)
    assert out.shape == (6, 64, 128, 3) and (out[[0, 3, 4, 5]] == 0).all()
    assert (out[1] == image).all() and (out[2] == image).all()


def test_collate_shifts_every_index():
    config, grid = tiny("kitti"), GRID
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    frames = [Frame(0, cloud(200, seed), [image if seed else None], [camera()]) for seed in range(3)]
    parts = [prepare(frame, grid, config) for frame in frames]
    batch = collate(parts)
    point = voxel = 0
    for number, part in enumerate(parts):
        p, v = len(part.points), len(part.table)
        table, view = batch.table[voxel : voxel + v], batch.view[point : point + p]
        assert torch.equal(batch.points[point : point + p], part.points)
        assert torch.equal(torch.where(table == len(batch.points), p, table - point), part.table)
        assert torch.equal(torch.where(view == 3, 1, view - number), part.view)
        assert (batch.coords[voxel : voxel + v, 0] == number).all()
        point, voxel = point + p, voxel + v


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((0, 4), np.float32)}, "empty"),
        ({"points": np.full((5, 4), np.nan, np.float32)}, "NaN"),
        ({"points": np.full((5, 4), 500, np.float32)}, "inside the grid"),
        ({"points": np.zeros((5, 3), np.float32)}, r"\(N, 4\)"),
        ({"images": [np.zeros((30, 64, 3), np.uint8)]}, "calibration"),
        ({"images": []}, "0 images for 1 cameras"),
        ({"images": [None, None], "cameras": [camera(), camera()]}, "2 cameras for a network of 1"),
    ],
)
def test_bad_frames_are_refused(change, message):
    good = {"stamp": 0, "points": cloud(50), "images": [np.zeros((32, 64, 3), np.uint8)], "cameras": [camera()]}
    with pytest.raises(FrameError, match=message):
        prepare(Frame(**{**good, **change}), GRID, tiny("kitti"))


@pytest.mark.parametrize("rig", ["kitti", "nuscenes"])
@pytest.mark.parametrize("kind", ["minkocc", "occle"])
def test_beams_without_a_return_make_no_voxel(rig, kind):
    """Drivers write the origin for them; however many there are, and with any intensity, the sensor's own cell stays empty."""
    spec = rig_spec("tiny", rig, kind)
    street = np.random.default_rng(0).uniform((5, -6, -1, 0), (12, 6, 1, 1), (300, 4)).astype(np.float32)
    nothing = np.zeros((200, 4), np.float32)
    nothing[::2, 3] = 0.7
    both = np.concatenate([nothing[:77], street, nothing[77:]])
    expected, found = (networks.prepare([Frame(0, points)], spec.voxel_grid, spec.network) for points in (street, both))
    scans = (expected, found) if kind == "minkocc" else (expected.scans[0], found.scans[0])
    assert torch.equal(scans[0].coords, scans[1].coords) and torch.equal(scans[0].points, scans[1].points)
    with pytest.raises(FrameError, match="inside the grid"):
        networks.prepare([Frame(0, nothing)], spec.voxel_grid, spec.network)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("kind", ["minkocc", "occle"])
def test_nuscenes_own_vehicle_is_no_obstacle_in_any_size(size, kind):
    """Its LiDAR sees the roof and the bonnet, which lie within 2.5 m; KITTI's sees nothing of its car."""
    for rig, near in (("nuscenes", False), ("kitti", True)):
        network = rig_spec(size, rig, kind).network
        least = network.points.min_range if kind == "minkocc" else network.scan.min_range
        points = np.array([[1.0, 0.5, -0.5, 0.3], [0.0, 2.4, -0.5, 0.3], [0, 2.6, 0, 0.3]], np.float32)
        assert drop_own_vehicle(points, least).tolist() == (points if near else points[2:]).tolist()

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ray casting, LiDAR, sampling and visibility against brute force."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from occle_train.streets.sensors import lidar, truth, visibility
from occle_train.streets.sensors.caster import RayCaster, SceneSnapshot
from occle_train.streets.sensors.embree import EmbreexScene, IglScene, build_scene
from occle_train.streets.sensors.rigs import make_rig
from occle_train.streets.shapes.classes import ID
from occle_train.streets.shapes.mesh import box, join, pose, quads, surface, tube

from occle_core.geometry.grid import VoxelGrid


def brute_force(tri, origins, directions):
    """Nearest hit distance per ray by Cramer's rule on every triangle."""
    best = np.full(len(directions), np.inf)
    for a, b, c in tri.astype(np.float64):
        for k, (o, d) in enumerate(zip(origins.astype(np.float64), directions.astype(np.float64))):
            matrix = np.stack([b - a, c - a, -d], 1)
            if abs(np.linalg.det(matrix)) > 1e-12:
                u, v, t = np.linalg.solve(matrix, o - a)
                if u >= 0 and v >= 0 and u + v <= 1 and t > 0:
                    best[k] = min(best[k], t)
    return best


def test_casting_finds_the_nearest_triangle():
    rng = np.random.default_rng(0)
    mesh = surface((rng.uniform(-3, 3, (40, 1, 3)) + rng.normal(0, 1, (40, 3, 3))).astype(np.float32), "building", (0.5, 0.5, 0.5))
    origins = rng.uniform(-4, 4, (60, 3)).astype(np.float32)
    directions = rng.normal(size=(60, 3)).astype(np.float32)
    tri, distance = RayCaster(mesh).cast(origins, directions)
    expected = brute_force(mesh.tri, origins, directions)
    assert np.array_equal(tri >= 0, np.isfinite(expected))
    assert np.allclose(distance[tri >= 0], expected[tri >= 0], rtol=1e-4)


def test_both_bindings_of_embree_give_the_same_hits():
    """amd64 has embreex, arm64 libigl; the same drive comes out of both."""
    rng = np.random.default_rng(1)
    triangles = (rng.uniform(-30, 30, (3000, 1, 3)) + rng.normal(0, 1, (3000, 3, 3))).astype(np.float32)
    scenes = [EmbreexScene(triangles), IglScene(triangles)]
    origins = np.broadcast_to(np.zeros(3, np.float32), (4000, 3))
    directions = rng.normal(size=(4000, 3)).astype(np.float32)
    (tri, distance), (other, other_distance) = (scene.nearest(origins, directions) for scene in scenes)
    assert 0.2 < (tri >= 0).mean() < 0.95 and np.array_equal(tri, other)
    assert np.allclose(distance[tri >= 0], other_distance[tri >= 0], rtol=1e-5)
    for scene in scenes:
        assert np.array_equal(scene.blocked(origins, directions), tri >= 0)
        assert len(scene.nearest(origins[:0], directions[:0])[0]) == 0


def test_without_embreex_libigl_casts_and_without_both_the_remedy_is_named(monkeypatch):
    triangles = np.zeros((1, 3, 3), np.float32)
    monkeypatch.setitem(sys.modules, "embreex", None)
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    assert isinstance(build_scene(triangles), IglScene)
    monkeypatch.setitem(sys.modules, "igl.embree", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install embreex .* or libigl"):
        build_scene(triangles)


def test_a_snapshot_sees_movers_before_what_stands_behind_them():
    wall = surface(box(10, 11, -5, 5, 0, 5), "building", (0.5, 0.5, 0.5))
    car = surface(box(-1, 1, -1, 1, 0, 2), "car", (0.5, 0.5, 0.5)).moved(pose(5, 0, 0, 0))
    snapshot = SceneSnapshot(RayCaster(wall), [car])
    tri, distance = snapshot.cast(np.array([0, 0, 1.0]), np.array([[1, 0, 0], [1, 0.4, 0]], np.float32))
    assert snapshot.cls[tri].tolist() == [ID["car"], ID["building"]]
    assert distance[0] == pytest.approx(4) and (tri[0] >= snapshot.static_count) and tri[1] < snapshot.static_count
    lit = snapshot.lit(np.array([[0, 0, 1.0], [0, 0, 4.0]], np.float32), np.array([1, 0, 0], np.float32))
    assert lit.tolist() == [False, False]
    assert snapshot.lit(np.array([[0, 0, 1.0]], np.float32), np.array([0, 0, 1], np.float32)).all()


def test_a_scan_of_a_flat_road_lies_on_it_with_the_beams_elevations():
    road = surface(quads((-200, -200, 0), (200, -200, 0), (200, 200, 0), (-200, 200, 0)), "road", (0.2, 0.2, 0.2))
    rig = make_rig("kitti", np.random.default_rng(0), 0.1)
    T = pose(0, 0, 1.73, 0.3)
    scan = lidar.scan(SceneSnapshot(RayCaster(road), []), rig.lidar, T, np.random.default_rng(1))
    points = scan.points[:, :3].astype(np.float64)
    world = points @ T[:3, :3].T + T[:3, 3]
    assert np.abs(world[:, 2]).mean() < 0.02 and (scan.cls == ID["road"]).all() and not scan.moving.any()
    elevation = np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1))
    assert np.abs(elevation - rig.lidar.elevations[scan.ring]).max() < 2e-3
    downward = (rig.lidar.elevations < np.arctan2(-1.73, 79)).sum()
    assert 0.7 * downward * 2000 < len(points) <= downward * 2000
    assert scan.points[:, 3].min() >= 0 and scan.points[:, 3].max() <= 0.99


def test_nuscenes_reports_every_firing():
    road = surface(quads((-50, -50, 0), (50, -50, 0), (50, 50, 0), (-50, 50, 0)), "road", (0.2, 0.2, 0.2))
    rig = make_rig("nuscenes", np.random.default_rng(0), 0.1)
    scan = lidar.scan(SceneSnapshot(RayCaster(road), []), rig.lidar, rig.T_base_lidar, np.random.default_rng(1))
    assert len(scan.points) == 32 * 1084
    echoes = scan.cls == lidar.NOTHING
    assert np.linalg.norm(scan.points[echoes, :3], axis=1).max() < 2.5 and echoes.any()
    # x to the right, y ahead: the mount turns the LiDAR's y axis to the vehicle's x axis.
    assert rig.T_base_lidar[:3, :3] @ np.array([0, 1, 0]) == pytest.approx([1, 0, 0], abs=0.06)


def test_samples_fill_every_cell_that_a_surface_passes():
    grid = VoxelGrid((0, 0, 0), (20, 20, 20), 0.2)
    slope = surface(quads((0.1, 0.1, 0.3), (3.9, 0.1, 1.1), (3.9, 3.9, 3.1), (0.1, 3.9, 2.3)), "terrain", (0, 0, 0))
    cls, moving = truth.voxelise([(truth.sample(slope, 0.1, np.random.default_rng(0)), np.eye(4))], grid)
    a, b = np.meshgrid(np.linspace(0.01, 0.99, 400), np.linspace(0.01, 0.99, 400))
    x, y = 0.1 + 3.8 * a, 0.1 + 3.8 * b
    dense = np.stack([x, y, 0.3 + 0.8 * a + 2.0 * b], -1).reshape(-1, 3)
    cells, count = np.unique(np.floor(dense / 0.2).astype(int), axis=0, return_counts=True)
    expected = cells[count > 0.2 * count.max()]
    assert (cls[tuple(expected.T)] == ID["terrain"]).mean() > 0.99
    assert (cls != truth.EMPTY).sum() <= len(cells) * 1.02 and not moving.any()


def test_thin_things_label_the_cells_that_they_share_with_the_ground():
    grid = VoxelGrid((0, 0, 0), (10, 10, 10), 0.4)
    road = surface(quads((0, 0, 0.1), (4, 0, 0.1), (4, 4, 0.1), (0, 4, 0.1)), "road", (0, 0, 0))
    post = surface(tube((2.1, 2.1, 0), (2.1, 2.1, 3), 0.05, 0.05), "pole", (0, 0, 0))
    walker = surface(box(-0.2, 0.2, -0.2, 0.2, 0, 1.7), "person", (0, 0, 0))
    still = truth.sample(join([road, post]), 0.2, np.random.default_rng(0))
    moved = truth.sample(walker, 0.2, np.random.default_rng(0))
    cls, moving = truth.voxelise([(still, np.eye(4)), (moved, pose(1.0, 1.0, 0.1, 0))], grid)
    assert cls[5, 5, 0] == ID["pole"] and cls[5, 5, 6] == ID["pole"] and cls[8, 8, 0] == ID["road"]
    assert cls[2, 2, 0] == ID["person"] and moving[2, 2, 0] and not moving[5, 5, 0]
    assert cls[5, 5, 8] == truth.EMPTY and cls[8, 8, 1] == truth.EMPTY


def test_visibility_agrees_with_occlusion_rays():
    rng = np.random.default_rng(0)
    boxes = [box(x, x + 2, y, y + 2, -1.7, z) for x, y, z in rng.uniform((-20, -20, 0), (20, 20, 3), (25, 3))]
    mesh = surface(
        np.concatenate([*boxes, quads((-60, -60, -1.7), (60, -60, -1.7), (60, 60, -1.7), (-60, 60, -1.7))]), "building", (0, 0, 0)
    )
    caster, origin = RayCaster(mesh), np.array([0.0, -25.0, 0.5])

    def cast(at, directions):
        return caster.cast(np.broadcast_to(at.astype(np.float32), directions.shape), directions)

    points = rng.uniform((-25, -25, -1.5), (25, 25, 4), (4000, 3)).astype(np.float32)
    seen = visibility.sees(visibility.range_image(cast, origin), origin, points)
    toward = points - origin.astype(np.float32)
    distance = np.linalg.norm(toward, axis=1)
    hit, free = caster.cast(np.broadcast_to(origin.astype(np.float32), toward.shape), toward / distance[:, None])
    expected = (hit < 0) | (free >= distance)
    assert (seen == expected).mean() > 0.985


def test_in_image_respects_the_frame_and_the_depth():
    depth = np.full((10, 20), 5.0, np.float32)
    K = np.array([[10.0, 0, 9.5], [0, 10.0, 4.5], [0, 0, 1]])
    points = np.array([[0, 0, 3], [0, 0, 5.1], [0, 0, 6], [0, 0, -3], [2.9, 0, 3], [3.1, 0, 3], [0, -1.6, 3]], np.float32)
    assert visibility.in_image(depth, K, points).tolist() == [True, True, False, False, True, False, False]


def test_surfaces_count_as_seen_through_a_seen_free_neighbour():
    occupied, seen = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    occupied[2, :, :] = True
    seen[:2] = True
    out = visibility.spread_to_surfaces(seen, occupied)
    assert out[2].all() and not out[3:].any()

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid

# Calibration of a KITTI odometry sequence.
P2 = np.array([[707.0912, 0, 601.8873, 46.88783], [0, 707.0912, 183.1104, 0.1178601], [0, 0, 1, 0.006203223]])
TR = np.array(
    [
        [-1.857739385241e-03, -9.999659513510e-01, -8.039975204516e-03, -4.784029760483e-03],
        [-6.481465826011e-03, 8.051860151134e-03, -9.999466081774e-01, -7.337429464231e-02],
        [9.999773098287e-01, -1.805528627661e-03, -6.496203536139e-03, -3.339968064433e-01],
        [0, 0, 0, 1],
    ]
)
KITTI = Camera.from_projection(P2, TR, 1226, 370)


def points_ahead(n: int = 400) -> np.ndarray:
    return np.random.default_rng(0).uniform([3, -30, -3], [60, 30, 5], (n, 3))


# --- grid


def test_index_against_a_float32_loop():
    rng = np.random.default_rng(0)
    for grid in (SEMANTICKITTI, OCC3D_NUSCENES, VoxelGrid((-1.3, 0.7, 0), (5, 4, 3), 0.3)):
        low, high = np.array(grid.origin) - 1, np.array(grid.upper) + 1
        points = rng.uniform(low, high, (500, 3)).astype(np.float32)
        ijk, inside = grid.index(points)
        assert ijk.dtype == np.int32
        for point, cell, ok in zip(points, ijk, inside):
            scaled = [(p - np.float32(o)) / np.float32(grid.resolution) for p, o in zip(point, grid.origin)]
            assert ok == all(0 <= s < n for s, n in zip(scaled, grid.shape))
            if ok:
                assert cell.tolist() == [int(np.floor(s)) for s in scaled]


def test_borders_belong_to_the_upper_cell():
    grid = VoxelGrid((0, 0, 0), (4, 4, 4), 0.5)
    ijk, inside = grid.index(np.array([[0, 0, 0], [0.5, 1.5, 1.0], [2, 0, 0], [-1e-6, 0, 0], [1.999, 1.999, 1.999]]))
    assert inside.tolist() == [True, True, False, False, True]
    assert ijk[[0, 1, 4]].tolist() == [[0, 0, 0], [1, 3, 2], [3, 3, 3]]


def test_points_that_are_not_finite_are_outside():
    _, inside = SEMANTICKITTI.index(np.array([[np.nan, 0, 0], [1, np.inf, 0], [1, -np.inf, 0], [1, 0, 0]]))
    assert inside.tolist() == [False, False, False, True]


def test_centres_by_number_are_those_by_index():
    for grid in (OCC3D_NUSCENES, VoxelGrid((-1.3, 0.7, 0), (5, 4, 3), 0.3), VoxelGrid((0.1, 0, 0), (1, 1, 7), 0.2)):
        numbers = np.random.default_rng(0).integers(0, grid.size, 300)
        expected = grid.centers(np.stack(np.unravel_index(numbers, grid.shape), 1))
        for dtype in (np.float32, np.float64):
            centers = grid.centers_at(numbers, dtype)
            assert centers.dtype == dtype
            np.testing.assert_array_equal(centers, expected)
    assert grid.centers_at(numbers[:0]).shape == (0, 3)


@given(st.tuples(st.integers(0, 199), st.integers(0, 199), st.integers(0, 15)))
def test_centres_are_inside_their_cells(cell):
    ijk, inside = OCC3D_NUSCENES.index(OCC3D_NUSCENES.centers(np.array([cell])))
    assert inside.all() and ijk.tolist() == [list(cell)]


def test_coarser_and_finer_cover_the_same_box():
    half = SEMANTICKITTI.coarser(2)
    assert half.shape == (128, 128, 16) and half.resolution == 0.4 and half.origin == SEMANTICKITTI.origin
    assert half.finer(2) == SEMANTICKITTI
    np.testing.assert_allclose(half.upper, (51.2, 25.6, 4.4))
    np.testing.assert_allclose(OCC3D_NUSCENES.upper, (40, 40, 5.4))
    points = points_ahead()
    fine, inside = SEMANTICKITTI.index(points)
    coarse, _ = half.index(points)
    np.testing.assert_array_equal(fine[inside] // 2, coarse[inside])
    with pytest.raises(ValueError, match="grouped by 3"):
        SEMANTICKITTI.coarser(3)


def test_occupied_is_the_set_of_cells():
    points = points_ahead()
    occupied = SEMANTICKITTI.occupied(points)
    ijk, inside = SEMANTICKITTI.index(points)
    assert {tuple(c) for c in np.argwhere(occupied).tolist()} == {tuple(c) for c in ijk[inside].tolist()}
    assert SEMANTICKITTI.size == occupied.size == 256 * 256 * 32


@pytest.mark.parametrize(("shape", "resolution"), [((0, 1, 1), 1), ((1, 1), 1), ((1, 1, 1), 0), ((1, 1, 1), float("nan"))])
def test_impossible_grids(shape, resolution):
    with pytest.raises(ValueError, match="grid"):
        VoxelGrid((0, 0, 0), shape, resolution)


# --- camera


def test_from_projection_equals_the_whole_matrix():
    points = points_ahead()
    uv, depth, visible = KITTI.project(points)
    for point, pixel, z, seen in zip(points, uv, depth, visible):
        x, y, w = P2 @ TR @ np.append(point, 1)
        np.testing.assert_allclose(z, w, rtol=1e-12)
        np.testing.assert_allclose(pixel, [x / w, y / w] if w > 0 else [0, 0], atol=1e-8)
        assert seen == (w > 0 and -0.5 <= x / w < 1225.5 and -0.5 <= y / w < 369.5)
    assert 50 < visible.sum() < 400


def test_dropping_the_fourth_column_would_show():
    uv, _, visible = KITTI.project(points_ahead())
    wrong, _, _ = Camera(P2[:, :3], TR, 1226, 370).project(points_ahead())
    assert np.abs(uv - wrong)[visible].max() > 3


def test_behind_the_camera_is_invisible():
    uv, depth, visible = KITTI.project(np.array([[-5.0, 0, 0], [KITTI.position[0], 3, 0]]))
    assert not visible.any() and depth[0] < 0 and uv[0].tolist() == [0, 0] and np.isfinite(uv).all()


@given(st.floats(-2, 1240), st.floats(-2, 380), st.floats(0.5, 80))
def test_project_undoes_a_pixel(u, v, depth):
    K, T = KITTI.K, KITTI.T_camera_lidar
    in_camera = depth * np.array([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1])
    point = np.linalg.inv(T) @ np.append(in_camera, 1)
    uv, z, visible = KITTI.project(point[None])
    np.testing.assert_allclose([*uv[0], z[0]], [u, v, depth], atol=1e-6)
    if min(abs(u + 0.5), abs(u - 1225.5), abs(v + 0.5), abs(v - 369.5)) > 1e-6:
        assert visible[0] == (-0.5 < u < 1225.5 and -0.5 < v < 369.5)


def test_rays_are_the_inverse_of_project():
    camera = KITTI.resized(62, 19)
    rays = camera.rays()
    assert rays.shape == (19, 62, 3)
    for distance in (1.0, 30.0):
        uv, depth, visible = camera.project((camera.position + distance * rays).reshape(-1, 3))
        v, u = np.mgrid[:19, :62]
        np.testing.assert_allclose(uv, np.c_[u.ravel(), v.ravel()], atol=1e-4)  # KITTI's rotation is orthonormal to 1e-7
        np.testing.assert_allclose(depth, distance, rtol=1e-6)
        assert visible.all()


def test_position_projects_to_depth_zero():
    _, depth, _ = KITTI.project(KITTI.position[None])
    np.testing.assert_allclose(depth, 0, atol=1e-6)


@given(st.integers(1, 3000), st.integers(1, 2000))
def test_resizing_moves_pixel_edges_in_proportion(width, height):
    """The image's borders (half a pixel outside the outer centres) stay its borders, whatever the size."""
    small = KITTI.resized(width, height)
    uv, _, visible = KITTI.project(points_ahead(40))
    uv_small, _, visible_small = small.project(points_ahead(40))
    np.testing.assert_allclose((uv_small[visible] + 0.5) / [width, height], (uv[visible] + 0.5) / [1226, 370], atol=1e-9)
    np.testing.assert_array_equal(visible, visible_small)


@pytest.mark.parametrize(
    ("K", "T", "size"),
    [
        (np.eye(4), np.eye(4), (2, 2)),
        (np.eye(3), np.eye(3), (2, 2)),
        (np.full((3, 3), np.nan), np.eye(4), (2, 2)),
        (np.eye(3), np.eye(4), (0, 2)),
    ],
)
def test_impossible_cameras(K, T, size):
    with pytest.raises(ValueError, match="camera's"):
        Camera(K, T, *size)


# --- frame


def test_a_good_frame_passes():
    camera = KITTI.resized(8, 4)
    Frame(1, np.ones((3, 4), np.float32), [np.zeros((4, 8, 3), np.uint8), None], [camera, camera]).check()


@pytest.mark.parametrize(
    ("points", "images", "message"),
    [
        (np.ones((3, 3), np.float32), (), "must be"),
        (np.ones((0, 4), np.float32), (), "empty"),
        (np.ones((3, 4)), (), r"float32, not float64; convert them: points\.astype"),
        (np.ones((3, 4), ">f4"), (), "float32, not >f4"),
        (np.array([[1, 2, np.nan, 0], [1, 1, 1, 1]], np.float32), (), "1 of 2 points"),
        (np.ones((3, 4), np.float32), (), "0 images for 1 cameras"),
        (np.ones((3, 4), np.float32), (np.zeros((8, 4, 3), np.uint8),), r"\(8, 4, 3\).*\(4, 8, 3\)"),
        (np.ones((3, 4), np.float32), (np.zeros((4, 8, 3), np.float32),), "float32"),
    ],
)
def test_bad_frames_say_why(points, images, message):
    with pytest.raises(FrameError, match=message):
        Frame(1, points, images, [KITTI.resized(8, 4)]).check()

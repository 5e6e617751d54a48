# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled preparation: the bits that NumPy and OpenCV make."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lively import looking_forward
from scenes import seeds

from occle_core.geometry.affine import transform_points
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.native import library, prepare
from occle_core.networks.blocks import voxelise as reference
from occle_core.networks.minkocc import inputs

FEW = settings(max_examples=40, deadline=None)
GRID = VoxelGrid((-3.2, -1.6, -1.0), (13, 9, 5), 0.4)


@pytest.fixture
def numpy_only(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "off")


def cloud(count, seed, grid=GRID):
    """Points in and around a grid, many of them on the borders of cells."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(np.array(grid.origin) - 1, np.array(grid.upper) + 1, (count, 3))
    snapped = rng.random((count, 3)) < 0.3
    points[snapped] = (np.round(points / grid.resolution) * grid.resolution)[snapped]
    return np.hstack([points, rng.random((count, 1))]).astype(np.float32)


@FEW
@given(count=st.integers(0, 400), most=st.integers(1, 9), seed=seeds, moved=st.booleans())
def test_voxels_and_their_features(kernels, count, most, seed, moved):
    space = prepare.Workspace(kernels)
    points = cloud(count, seed)
    if moved:
        matrix = looking_forward()
        matrix[:3, 3] = 0.3, -0.2, 0.1
        inside = transform_points(matrix, points)
        np.testing.assert_array_equal(prepare.transform_points(space, matrix, points), inside)
    else:
        inside = points
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, "off")
        right = reference.voxelise(inside[:, :3], GRID, most)
        rows, voxel, _, cells = right
        features = reference.point_features(inside[rows, :3], points[rows, 3], voxel, cells, GRID)
    for found, expected in zip(prepare.voxelise(space, inside, GRID, most), right, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    found = prepare.point_features(space, inside[rows, :3], points[rows, 3], voxel, cells, GRID)
    np.testing.assert_array_equal(found, features)
    assert (space.table(GRID.size) < 0).all()


@pytest.mark.parametrize(
    "layout", [[("r", "u2"), ("p", "f4", 4)], [("p", "f4", 4), ("r", "u2")], [("r", "u1"), ("p", "f4", 4), ("s", "u1", 3)]]
)
def test_points_between_whole_floats_as_in_a_drivers_records(kernels, layout):
    points, space, matrix = cloud(500, 0), prepare.Workspace(kernels), looking_forward()
    records = np.zeros(500, np.dtype(layout))
    records["p"] = points
    np.testing.assert_array_equal(prepare.transform_points(space, matrix, records["p"]), transform_points(matrix, points))
    out, table = np.empty((500, 4), np.float32), matrix[:3].reshape(1, 12).astype(np.float32)
    prepare.move(space, records["p"], np.zeros(500, np.float32), 0.0, 0.0, table, out)
    np.testing.assert_array_equal(out, np.hstack([transform_points(matrix, points), points[:, 3:]]))


@FEW
@given(count=st.integers(0, 300), views=st.integers(1, 3), cameras=st.integers(0, 5), seed=seeds)
def test_views(kernels, count, views, cameras, seed):
    space = prepare.Workspace(kernels)
    rng = np.random.default_rng(seed)
    points = cloud(count, seed)
    rig, images = [], []
    for _ in range(cameras):
        turn = rng.uniform(-3, 3)
        around_z = np.eye(4)
        around_z[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        pose = looking_forward() @ around_z
        rig.append(Camera(np.array([[30.0, 0, 32], [0, 30, 24], [0, 0, 1]]), pose, 64, 48))
        images.append(None if rng.random() < 0.2 else np.zeros((48, 64, 3), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, "off")
        right_view, right_uv = inputs.choose_views(points, images, rig, 5, views)
    view, uv = np.full((count, views), 5, np.int64), np.zeros((count, views, 2), np.float32)
    margin = np.full((count, views), -1.0, np.float32)
    for number, (image, camera) in enumerate(zip(images, rig)):
        if image is not None:
            prepare.see(space, points, camera, number, view, uv, margin)
    np.testing.assert_array_equal(view, right_view)
    np.testing.assert_array_equal(uv, right_uv)


@FEW
@given(h=st.integers(1, 60), w=st.integers(1, 60), height=st.integers(1, 60), width=st.integers(1, 60), seed=seeds)
def test_resize(kernels, h, w, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    if prepare.can_resize(image, width, height):
        out = np.zeros((height, width, 3), np.uint8)
        prepare.resize(prepare.Workspace(kernels), image, out)
        np.testing.assert_array_equal(out, cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    else:
        assert w < width or h < height or (w % width == 0 and h % height == 0)


@pytest.mark.parametrize(("h", "w", "height", "width"), [(375, 1242, 192, 640), (900, 1600, 192, 352), (376, 1408, 192, 640)])
def test_resize_of_real_sizes_and_of_a_part_of_an_image(kernels, h, w, height, width):
    image = np.random.default_rng(h).integers(0, 256, (h + 3, w + 5, 3), dtype=np.uint8)[2 : h + 2, 1 : w + 1]
    out = np.zeros((height, width, 3), np.uint8)
    prepare.resize(prepare.Workspace(kernels), image, out)
    np.testing.assert_array_equal(out, cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def test_what_does_not_fit_is_refused(kernels):
    space = prepare.Workspace(kernels)
    points = cloud(10, 0)
    for wrong in (points.astype(np.float64), points[:, :2], points[0]):
        with pytest.raises(ValueError, match="float32"):
            prepare.voxelise(space, wrong, GRID, 3)
    with pytest.raises(ValueError, match="do not fit"):
        voxels = np.full(10, 3)
        prepare.point_features(space, points, points[:, 3], voxels, np.zeros((2, 3), np.int64), GRID)
    with pytest.raises(ValueError, match="cannot be resized"):
        prepare.resize(space, np.zeros((8, 8, 3), np.uint8), np.zeros((9, 5, 3), np.uint8))
    camera = Camera(np.eye(3), np.eye(4), 4, 4)
    with pytest.raises(ValueError, match="points for views"):
        prepare.see(
            space, points, camera, 0, np.zeros((9, 1), np.int64), np.zeros((9, 1, 2), np.float32), np.zeros((9, 1), np.float32)
        )


def test_numpy_does_the_work_where_no_library_is_loaded(numpy_only):
    assert prepare.workspace() is None

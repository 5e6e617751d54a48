# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Eq. 2 and Eq. 5 cell by cell: which pixel each cell falls on, what is taken from there, what is summed up there."""

import numpy as np
import pytest
import torch
from occle_rig import AHEAD, ASIDE, GRID, frame
from torch.nn import functional as F

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.occle import lift
from occle_core.sparse import SparseTensor

CELLS = GRID.coarser(2)
CAMERAS = [Camera([[50, 0, 31.5], [0, 55, 15.5], [0, 0, 1]], pose, 64, 32) for pose in (AHEAD, ASIDE)]
CENTERS = lift.grid_centers(CELLS)
T_LIDAR_GRID = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 0.3], [0, 0, 0, 1.0]])


def projections(cameras=CAMERAS, T=None):
    return torch.from_numpy(np.stack([lift.projection(camera, np.eye(4) if T is None else T) for camera in cameras]))[None]


def exact_projections():
    """The same in double precision and by another way, so that no cell changes its pixel for rounding."""
    to_unit = np.array([[1 / 64, 0, 0.5 / 64], [0, 1 / 32, 0.5 / 32], [0, 0, 1]])
    return torch.from_numpy(np.stack([to_unit @ camera.K @ camera.T_camera_lidar[:3] for camera in CAMERAS]))[None]


def by_hand(camera, T=None):
    """(u, v) in pixels or None of each cell, with Camera.project, one point after the other."""
    found = []
    for center in CENTERS.double().numpy():
        point = np.append(center, 1.0)
        point = point if T is None else T @ point
        uv, _, visible = camera.project(point[None])
        found.append(tuple(uv[0]) if visible[0] else None)
    return found


def test_centers_are_those_of_the_grid():
    assert CENTERS[0].tolist() == pytest.approx([0.4, -6.0, -1.6])
    assert CENTERS.view(16, 16, 8, 3)[3, 2, 1].tolist() == pytest.approx([0.4 + 2.4, -6.0 + 1.6, -1.6 + 0.8])


@pytest.mark.parametrize("T", [None, T_LIDAR_GRID])
def test_cells_fall_where_the_camera_says(T):
    uv, visible = lift.project(projections(T=T), CENTERS)
    for view, camera in enumerate(CAMERAS):
        expected = by_hand(camera, T)
        assert visible[0, view].tolist() == [value is not None for value in expected]
        for number, value in enumerate(expected):
            if value is not None:
                pixel = uv[0, view, number].numpy() * (64, 32) - 0.5
                assert pixel.tolist() == pytest.approx(value, abs=1e-3)
    assert 0 < int(visible.sum()) < visible.numel()


def test_a_masked_camera_sees_nothing():
    assert not lift.project(torch.zeros(3, 4), CENTERS)[1].any()


def test_features_are_bilinear_samples_of_the_most_central_view():
    maps = torch.randn(1, 2, 3, 8, 16)
    out = lift.lift(maps, projections(), CENTERS)[0]
    pixels = [by_hand(camera) for camera in CAMERAS]
    seen = 0
    for number in range(0, len(CENTERS), 7):
        relative = [None if p[number] is None else ((p[number][0] + 0.5) / 64, (p[number][1] + 0.5) / 32) for p in pixels]
        inset = [-1 if r is None else min(r[0], r[1], 1 - r[0], 1 - r[1]) for r in relative]
        view = int(np.argmax(inset))
        if relative[view] is None:
            assert (out[number] == 0).all()
            continue
        if abs(inset[0] - inset[1]) < 1e-4:
            continue  # as central in both: either may be taken
        seen += relative[0] is not None and relative[1] is not None
        at = torch.tensor(relative[view], dtype=torch.float32).view(1, 1, 1, 2) * 2 - 1
        expected = F.grid_sample(maps[0, view][None], at, padding_mode="border", align_corners=False)
        torch.testing.assert_close(out[number], expected[0, :, 0, 0], atol=1e-3, rtol=1e-3)
    assert seen > 3  # cells that both cameras see


def test_samples_of_a_batch_do_not_mix():
    maps = torch.randn(3, 2, 4, 8, 16)
    both = projections().expand(3, -1, -1, -1)
    out = lift.lift(maps, both, CENTERS)
    for number in range(3):
        torch.testing.assert_close(out[number], lift.lift(maps[number : number + 1], both[:1], CENTERS)[0])


def test_labels_are_those_of_the_nearest_pixel():
    labels = torch.randint(0, 20, (1, 2, 32, 64)).to(torch.uint8)
    labels[0, 0, :, ::3] = 255
    out = lift.lift_labels(labels, exact_projections(), CENTERS.double())[0]
    pixels = [by_hand(camera) for camera in CAMERAS]
    for number in range(len(CENTERS)):
        expected = 255
        for view, found in enumerate(pixels):
            if expected == 255 and found[number] is not None:
                u, v = found[number]
                expected = int(labels[0, view, int(np.floor(v + 0.5)), int(np.floor(u + 0.5))])
        assert out[number] == expected


def test_projection_sums_up_the_cells_of_every_ray():
    features = torch.randn(2, 3, len(CENTERS), dtype=torch.float64)
    maps, count = lift.scatter_accumulate(features, exact_projections().expand(2, -1, -1, -1), CENTERS.double(), 8, 16)
    expected, hits = torch.zeros(2, 2, 3, 8, 16, dtype=torch.float64), torch.zeros(2, 2, 8, 16, dtype=torch.int64)
    for view, camera in enumerate(CAMERAS):
        for number, pixel in enumerate(by_hand(camera)):
            if pixel is not None:
                column, row = int((pixel[0] + 0.5) / 4), int((pixel[1] + 0.5) / 4)
                expected[:, view, :, row, column] += features[:, :, number]
                hits[:, view, row, column] += 1
    torch.testing.assert_close(maps, expected)
    assert torch.equal(count, hits) and int(hits.max()) > 5


def test_gradients_go_back_along_the_rays():
    small = VoxelGrid((1.0, -1.6, -0.8), (4, 4, 2), 0.8)
    centers, cameras = lift.grid_centers(small).double(), projections(CAMERAS[:1]).double()
    maps = torch.randn(1, 1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: lift.lift(value, cameras, centers), maps)
    features = torch.randn(1, 2, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: lift.scatter_accumulate(value, cameras, centers, 4, 8)[0], features)


def test_densify_is_the_tensors_own_dense_form():
    coords = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 0], [1, 3, 4, 3], [0, 0, 0, 1]])
    x = SparseTensor(torch.randn(4, 5), coords, (4, 5, 4), 2)
    assert torch.equal(lift.densify(x), x.dense())


def test_a_frames_images_may_have_any_size():
    """The camera of an image's calibration and that of its resized copy are the same matrix: 0..1 from border to border."""
    camera = frame().cameras[0]
    np.testing.assert_allclose(lift.projection(camera, np.eye(4)), lift.projection(camera.resized(640, 192), np.eye(4)), atol=1e-6)


def test_autocast_moves_no_point():
    uv, visible = lift.project(projections(), CENTERS)
    with torch.autocast("cpu", torch.bfloat16):
        again, same = lift.project(projections(), CENTERS)
    assert torch.equal(again, uv) and torch.equal(same, visible)

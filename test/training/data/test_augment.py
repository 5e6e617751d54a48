# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Augmentation: points, voxels and pixels stay where they belong together."""

import hashlib

import numpy as np
import pytest
from occle_train.data.augment import AugmentConfig, augment

from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI

AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
CALM = AugmentConfig(
    camera_dropout_prob=0,
    max_point_dropout=0,
    intensity_dropout_prob=0,
    intensity_jitter=0,
    color_jitter=0,
    grayscale_prob=0,
    blur_prob=0,
)


def sample(grid):
    rng = np.random.default_rng(0)
    lower, upper = np.array(grid.origin), np.array(grid.upper)
    points = np.concatenate([rng.uniform(lower, upper, (500, 3)), rng.random((500, 1))], 1).astype(np.float32)
    truth = np.zeros(grid.shape, np.uint8)
    ijk, _ = grid.index(points)
    truth[tuple(ijk.T)] = 1 + np.arange(500) % 15
    image = rng.integers(0, 255, (40, 80, 3), dtype=np.uint8)
    return Frame(1, points, [image], [Camera(np.array([[50.0, 0, 40], [0, 50, 20], [0, 0, 1]]), AXES, 80, 40)]), truth


@pytest.mark.parametrize("grid", [SEMANTICKITTI.coarser(2), OCC3D_NUSCENES])
@pytest.mark.parametrize("seed", range(6))
def test_every_point_stays_in_the_voxel_with_its_label(grid, seed):
    frame, truth = sample(grid)
    changed, turned = augment(frame, truth, grid, CALM, np.random.default_rng(seed))
    centers_before = grid.centers(grid.index(frame.points)[0])
    moved = centers_before @ changed.T_grid_lidar[:3, :3].T + changed.T_grid_lidar[:3, 3]
    ijk, inside = grid.index(moved)
    assert inside.all()
    assert np.array_equal(turned[tuple(ijk.T)], truth[tuple(grid.index(frame.points)[0].T)])
    np.testing.assert_array_equal(changed.points[:, :3], frame.points[:, :3])


def test_all_mirrors_and_turns_occur():
    frame, truth = sample(OCC3D_NUSCENES)
    seen = {
        augment(frame, truth, OCC3D_NUSCENES, CALM, np.random.default_rng(s))[0].T_grid_lidar[:2, :2].astype(int).tobytes()
        for s in range(60)
    }
    assert len(seen) == 8
    kitti = SEMANTICKITTI.coarser(2)
    frame, truth = sample(kitti)
    seen = {
        augment(frame, truth, kitti, CALM, np.random.default_rng(s))[0].T_grid_lidar[:2, :2].astype(int).tobytes()
        for s in range(30)
    }
    assert len(seen) == 2


def test_disturbances_keep_shapes_and_ranges():
    frame, truth = sample(OCC3D_NUSCENES)
    dropped = 0
    for seed in range(40):
        changed, _ = augment(frame, truth, OCC3D_NUSCENES, AugmentConfig(), np.random.default_rng(seed))
        changed.check()
        assert 300 <= len(changed.points) <= 500 and changed.points.dtype == np.float32
        assert changed.points[:, 3].min() >= 0 and changed.points[:, 3].max() <= 1
        dropped += changed.images[0] is None
    assert 2 <= dropped <= 16


def test_the_same_seed_gives_the_same_frame():
    frame, truth = sample(OCC3D_NUSCENES)
    a, b = (augment(frame, truth, OCC3D_NUSCENES, AugmentConfig(), np.random.default_rng(3)) for _ in range(2))
    assert (
        np.array_equal(a[0].points, b[0].points) and np.array_equal(a[1], b[1]) and np.array_equal(a[0].images[0], b[0].images[0])
    )


def test_the_defaults_give_what_they_always_gave():
    """Runs that are resumed from a checkpoint must see the same frames: the draws of the default strengths are fixed."""
    frame, truth = sample(OCC3D_NUSCENES)
    digest = hashlib.sha256()
    for seed in range(5):
        changed, turned = augment(frame, truth, OCC3D_NUSCENES, AugmentConfig(), np.random.default_rng(seed))
        # Not the pixels, which a filter may round differently elsewhere; the points are drawn after them and would show it.
        for array in (changed.points, turned, changed.T_grid_lidar, changed.cameras[0].K):
            digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == "3bbf5df3307daf97"


def test_moved_images_and_their_cameras_belong_together():
    """Bright spots at the projections of points are found where the new camera projects the same points."""
    camera = Camera(np.array([[200.0, 0, 160], [0, 210, 90], [0, 0, 1]]), AXES, 320, 180)
    rng = np.random.default_rng(0)
    uv = np.stack([rng.uniform(110, 210, 6), rng.uniform(60, 120, 6)], 1)
    points = np.column_stack([np.full(6, 8.0), -(uv[:, 0] - 160) * 8 / 200, -(uv[:, 1] - 90) * 8 / 210, np.ones(6)])
    v, u = np.mgrid[:180, :320]
    moved_far = 0
    for seed, point in enumerate(points.astype(np.float32)):
        (spot,), _, _ = camera.project(point[None])
        image = (255 * np.exp(-((u - spot[0]) ** 2 + (v - spot[1]) ** 2) / 8)).astype(np.uint8)
        frame = Frame(1, point[None], [np.repeat(image[..., None], 3, 2)], [camera])
        config = CALM.model_copy(
            update={"max_image_shift": 0.1, "max_image_scale": 0.2, "max_image_rotation": 8.0, "flip_prob": 0, "rot90_prob": 0}
        )
        changed, _ = augment(frame, np.zeros(OCC3D_NUSCENES.shape, np.uint8), OCC3D_NUSCENES, config, np.random.default_rng(seed))
        (expected,), _, visible = changed.cameras[0].project(point[None])
        bright = changed.images[0][..., 1].astype(float)
        found = np.array([(u * bright).sum(), (v * bright).sum()]) / bright.sum()
        assert visible[0] and np.abs(found - expected).max() < 0.25
        moved_far += np.abs(expected - spot).max() > 5
        changed.check()
    assert moved_far >= 4


def test_turning_the_grid_by_any_angle_moves_labels_with_points():
    for grid in (OCC3D_NUSCENES, SEMANTICKITTI.coarser(2)):
        truth = np.random.default_rng(3).integers(0, 18, (*grid.shape[:2], 1), dtype=np.uint8).repeat(grid.shape[2], 2)
        config = CALM.model_copy(update={"max_yaw": 30.0, "flip_prob": 0, "rot90_prob": 0})
        frame, _ = sample(grid)
        changed, turned = augment(frame, truth, grid, config, np.random.default_rng(1))
        angle = np.degrees(np.arctan2(changed.T_grid_lidar[1, 0], changed.T_grid_lidar[0, 0]))
        assert 1 < abs(angle) <= 30
        # Loop: the label at every cell's centre is that of the place it came from; what came from outside is unknown.
        back = np.linalg.inv(changed.T_grid_lidar)
        for i, j in np.random.default_rng(0).integers(0, grid.shape[:2], (300, 2)):
            center = grid.centers(np.array([[i, j, 2]]))[0].astype(float)
            cell = np.floor((back[:3, :3] @ center - grid.origin) / grid.resolution).astype(int)
            inside = (cell >= 0).all() and (cell < grid.shape).all()
            assert (turned[i, j] == (truth[cell[0], cell[1], cell[2]] if inside else 255)).all()
        # And the points go where their labels go, but for the cells that a turn does not map onto cells.
        at = frame.points[:, :3] @ changed.T_grid_lidar[:3, :3].T
        ijk, inside = grid.index(at)
        before = truth[tuple(grid.index(frame.points)[0][inside].T)]
        assert 0.3 < (turned[tuple(ijk[inside].T)] == before).mean() < 1


def test_dropped_voxels_become_unknown_and_nothing_else():
    frame, truth = sample(OCC3D_NUSCENES)
    shares = []
    for seed in range(10):
        config = CALM.model_copy(update={"max_voxel_dropout": 0.4, "flip_prob": 0, "rot90_prob": 0})
        _, kept = augment(frame, truth, OCC3D_NUSCENES, config, np.random.default_rng(seed))
        changed = kept != truth
        assert (kept[changed] == 255).all()
        shares.append(changed.mean())
    assert max(shares) < 0.41 and min(shares) < 0.15 < max(shares)


def test_several_volumes_follow_the_frame_alike():
    frame, truth = sample(OCC3D_NUSCENES)
    config = CALM.model_copy(update={"max_yaw": 20, "max_voxel_dropout": 0.2})
    both = np.stack([truth, 255 - truth], -1)
    _, moved = augment(frame, both, OCC3D_NUSCENES, config, np.random.default_rng(3))
    for number in range(2):
        _, alone = augment(frame, both[..., number], OCC3D_NUSCENES, config, np.random.default_rng(3))
        np.testing.assert_array_equal(moved[..., number], alone)

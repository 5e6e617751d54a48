"""Augmentation: points, voxels and pixels stay where they belong together."""

import numpy as np
import pytest

from occle_core.camera import Camera
from occle_core.frame import Frame
from occle_core.grid import OCC3D_NUSCENES, SEMANTICKITTI
from training.augment import AugmentConfig, augment

AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
CALM = AugmentConfig(drop_camera=0, drop_points=0, drop_intensity=0, intensity=0, colour=0, gray=0, blur=0)


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

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Metrics against loops over every cell and every ray."""

from __future__ import annotations

import math

import numpy as np
import pytest
from occle_train.metrics import CompletionMetrics, Occ3DMetrics, RayIoU, lidar_rays, scene_origins

from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid


def iou_of_class(pairs, c):
    """tp / (tp + fp + fn) over (pred, target) pairs, and whether the targets hold the class."""
    tp = sum(p == c and t == c for p, t in pairs)
    fp = sum(p == c and t != c for p, t in pairs)
    fn = sum(p != c and t == c for p, t in pairs)
    return (tp / (tp + fp + fn) if tp + fp + fn else None), tp + fn > 0


def frames(rng, classes, count=3):
    """Random predictions and targets that agree often, the highest class missing from the targets; 255 in the targets."""
    for _ in range(count):
        target = rng.integers(0, classes - 1, (6, 5, 4)).astype(np.uint8)
        pred = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, classes, target.shape)).astype(np.uint8)
        target[rng.random(target.shape) < 0.2] = 255
        yield pred, target, rng.random(target.shape) < 0.3


# SemanticKITTI completion


@pytest.mark.parametrize("use_invalid", [True, False])
def test_completion_matches_a_loop_over_cells(use_invalid):
    metrics, pairs = CompletionMetrics(num_classes=6), []
    for pred, target, invalid in frames(np.random.default_rng(0), 6):
        metrics.update(pred, target, invalid.astype(np.uint8) if use_invalid else None)
        kept = [i for i in np.ndindex(target.shape) if target[i] != 255 and not (use_invalid and invalid[i])]
        pairs += [(int(pred[i]), int(target[i])) for i in kept]
    result = metrics.result()
    tp = sum(p > 0 and t > 0 for p, t in pairs)
    fp = sum(p > 0 and t == 0 for p, t in pairs)
    fn = sum(p == 0 and t > 0 for p, t in pairs)
    classes = [iou_of_class(pairs, c) for c in range(1, 6)]
    assert result["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert result["precision"] == pytest.approx(tp / (tp + fp))
    assert result["recall"] == pytest.approx(tp / (tp + fn))
    assert result["per_class"].tolist() == pytest.approx([iou or 0 for iou, _ in classes])
    assert result["miou"] == pytest.approx(sum(iou or 0 for iou, _ in classes) / 5)
    present = [iou for iou, is_present in classes if is_present]
    assert len(present) == 4 and result["miou_present"] == pytest.approx(sum(present) / 4)


def test_completion_counts_an_absent_class_as_zero():
    metrics = CompletionMetrics(num_classes=20)
    metrics.update(np.array([9, 9, 0]), np.array([9, 9, 0]))
    result = metrics.result()
    assert result["iou"] == 1 and result["per_class"][8] == 1 and result["per_class"].shape == (19,)
    assert result["miou"] == pytest.approx(1 / 19) and result["miou_present"] == 1


def test_completion_of_nothing_is_not_a_number():
    metrics = CompletionMetrics(num_classes=3)
    metrics.update(np.zeros(4, int), np.full(4, 255))
    result = metrics.result()
    assert math.isnan(result["iou"]) and math.isnan(result["miou_present"]) and result["miou"] == 0


def test_completion_refuses_wrong_ids_and_shapes():
    metrics = CompletionMetrics(num_classes=3)
    with pytest.raises(ValueError, match=r"prediction holds class id 3 .* 0\.\.2"):
        metrics.update(np.array([3]), np.array([0]))
    with pytest.raises(ValueError, match="target holds class id 7"):
        metrics.update(np.array([1]), np.array([7]))
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.update(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(ValueError, match="invalid mask"):
        metrics.update(np.zeros(2, int), np.zeros(2, int), np.zeros(3))
    metrics.update(np.array([255, 1]), np.array([255, 1]))  # where the target is unknown, anything may be predicted
    assert metrics.counts.sum() == 1


# Occ3D


@pytest.mark.parametrize("use_mask", [True, False])
def test_occ3d_matches_a_loop_over_cells(use_mask):
    metrics, pairs = Occ3DMetrics(num_classes=6, free=2), []
    for pred, target, mask in frames(np.random.default_rng(1), 6):
        metrics.update(pred, target, mask if use_mask else None)
        kept = [i for i in np.ndindex(target.shape) if target[i] != 255 and (mask[i] or not use_mask)]
        pairs += [(int(pred[i]), int(target[i])) for i in kept]
    result = metrics.result()
    classes = [iou_of_class(pairs, c) for c in (0, 1, 3, 4, 5)]
    expected = [iou if present else math.nan for iou, present in classes]
    assert classes[-1] == (0, False)  # predicted, never true: left out of the mean
    assert result["per_class"].tolist() == pytest.approx(expected, nan_ok=True)
    assert result["miou"] == pytest.approx(sum(expected[:4]) / 4)
    both = sum(p != 2 and t != 2 for p, t in pairs)
    assert result["iou"] == pytest.approx(both / sum(p != 2 or t != 2 for p, t in pairs))


def test_occ3d_defaults_are_the_benchmarks():
    metrics = Occ3DMetrics()
    metrics.update(np.array([0, 16, 17, 4]), np.array([0, 16, 17, 17]), np.array([1, 1, 1, 0]))
    result = metrics.result()
    assert result["per_class"].shape == (17,) and result["miou"] == result["iou"] == 1
    with pytest.raises(ValueError, match="mask's shape"):
        metrics.update(np.zeros(2, int), np.zeros(2, int), np.zeros(3))
    assert math.isnan(Occ3DMetrics().result()["miou"])


# RayIoU

GRID = VoxelGrid((-3.0, -2.5, -1.0), (8, 7, 5), 0.7)


def end_of_ray(grid, labels, free, origin, ray):
    """Class and depth of one ray by testing it against every cell: far face of the first occupied, else of the last cell."""
    low = np.moveaxis(np.indices(grid.shape), 0, -1) * grid.resolution + np.array(grid.origin)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - origin) / ray, (low + grid.resolution - origin) / ray
    entry = np.maximum(np.minimum(a, b).max(axis=-1), 0)
    leave = np.maximum(a, b).min(axis=-1)
    crossed = entry < leave
    if not crossed.any():
        return free, -1.0
    occupied = crossed & (labels != free)
    if not occupied.any():
        return free, float(leave[crossed].max())
    first = np.unravel_index(np.where(occupied, entry, np.inf).argmin(), grid.shape)
    return int(labels[first]), float(leave[first])


def test_rayiou_matches_a_loop_over_rays():
    rng = np.random.default_rng(2)
    free, classes = 3, 5  # the free class need not be the last
    metrics = RayIoU(GRID, num_classes=classes, free=free)
    metrics.rays = lidar_rays()[rng.permutation(14040)[:600]] + 1e-9  # every one of the 14040 would take minutes here
    target_count, pred_count, correct = np.zeros(classes), np.zeros(classes), np.zeros((3, classes))
    for _ in range(2):
        target = np.where(rng.random(GRID.shape) < 0.08, rng.integers(0, classes - 1, GRID.shape), free)
        pred = np.where(rng.random(GRID.shape) < 0.3, target, np.roll(target, 2, axis=0))
        pred[rng.random(GRID.shape) < 0.02] = 4
        origins = np.array([[0.31, 0.22, 0.4], [-1.1, 0.7, 1.3], [9.0, 9.0, 9.0]])
        metrics.update(pred, target, origins)
        for origin in origins:
            for ray in metrics.rays / np.linalg.norm(metrics.rays, axis=1, keepdims=True):
                true, true_depth = end_of_ray(GRID, target, free, origin, ray)
                found, depth = end_of_ray(GRID, pred, free, origin, ray)
                if true == free:
                    continue
                target_count[true] += 1
                pred_count[found] += 1
                for row, threshold in enumerate((1, 2, 4)):
                    correct[row, true] += found == true and abs(true_depth - depth) < threshold
    solid = [0, 1, 2, 4]
    with np.errstate(invalid="ignore"):
        iou = correct / (target_count + pred_count - correct)
    result = metrics.result()
    assert correct[0].sum() < correct[1].sum() < correct[2].sum() and correct[0].sum() > 50
    assert [result["rayiou_1"], result["rayiou_2"], result["rayiou_4"]] == pytest.approx(np.nanmean(iou[:, solid], axis=1).tolist())
    assert result["rayiou"] == pytest.approx(np.nanmean(iou[:, solid]))
    assert result["per_class"].tolist() == pytest.approx(iou[:, solid].mean(axis=0).tolist(), nan_ok=True)


def wall_at(x, label=4):
    grid = VoxelGrid((0, -0.5, -0.5), (10, 1, 1), 1.0)
    labels = np.full(grid.shape, 17)
    if x is not None:
        labels[x] = label
    return grid, labels


@pytest.mark.parametrize(("moved", "scores"), [(0, (1, 1, 1)), (1, (0, 1, 1)), (2, (0, 0, 1)), (4, (0, 0, 0))])
def test_rayiou_tolerances_are_strict(moved, scores):
    grid, target = wall_at(3)
    metrics = RayIoU(grid)
    metrics.rays = np.array([[1.0, 0, 0]])
    metrics.update(wall_at(3 + moved)[1], target, [[0.5, 0, 0]])
    result = metrics.result()
    assert (result["rayiou_1"], result["rayiou_2"], result["rayiou_4"]) == scores
    assert result["rayiou"] == pytest.approx(sum(scores) / 3)


def test_rayiou_measures_to_the_far_face():
    grid, target = wall_at(3)
    metrics = RayIoU(grid)
    metrics.rays = np.array([[1.0, 0, 0]])
    classes, depth = metrics._render(target, target != metrics.free, np.array([0.5, 0, 0]))
    assert classes.tolist() == [4] and depth.tolist() == [3.5]
    classes, depth = metrics._render(wall_at(None)[1], wall_at(None)[1] != metrics.free, np.array([0.5, 0, 0]))
    assert classes.tolist() == [17] and depth.tolist() == [9.5]
    classes, depth = metrics._render(target, target != metrics.free, np.array([0.5, 7, 0]))
    assert classes.tolist() == [17] and depth.tolist() == [-1.0]


def test_rayiou_leaves_out_rays_whose_target_is_free():
    grid, pred = wall_at(3)
    metrics = RayIoU(grid)
    metrics.rays = np.array([[1.0, 0, 0]])
    metrics.update(pred, wall_at(None)[1], [[0.5, 0, 0]])
    assert math.isnan(metrics.result()["rayiou"])  # nothing counted, not even as a false positive
    metrics.update(wall_at(3, label=5)[1], pred, [[0.5, 0, 0]])
    assert metrics.result()["rayiou"] == 0  # two classes with a union of one ray each


def test_rayiou_looks_through_unknown_cells():
    grid, target = wall_at(3)
    unknown = target.copy()
    unknown[1:3] = 255
    metrics = RayIoU(grid)
    metrics.update(target, unknown, [[0.5, 0, 0]])
    assert metrics.result()["rayiou"] == 1


def test_rayiou_of_a_truth_with_itself_is_one():
    rng = np.random.default_rng(5)
    labels = np.where(rng.random(OCC3D_NUSCENES.shape) < 0.05, rng.integers(0, 17, OCC3D_NUSCENES.shape), 17).astype(np.uint8)
    metrics = RayIoU(OCC3D_NUSCENES)
    metrics.update(labels, labels, [[0.98, 0.0, 1.84]])
    assert metrics.result()["rayiou"] == 1 and metrics.target_counts.sum() > 10000


def test_rayiou_refuses_what_does_not_fit():
    grid, target = wall_at(3)
    with pytest.raises(ValueError, match="shape"):
        RayIoU(grid).update(target[1:], target, [[0, 0, 0]])
    with pytest.raises(ValueError, match="class id 18"):
        RayIoU(grid).update(wall_at(2, label=18)[1], target, [[0, 0, 0]])
    with pytest.raises(ValueError, match="origins"):
        RayIoU(grid).update(target, target, [0, 0, 0])


def test_the_rays_are_the_benchmarks():
    rays = lidar_rays()
    assert rays.shape == (39 * 360, 3)
    pitches = [-(math.pi / 2 - math.atan(k + 1)) for k in range(10)]
    while pitches[-1] < 0.21:
        pitches.append(pitches[-1] + pitches[-1] - pitches[-2])
    at = 0
    for pitch in pitches:
        for degree in range(360):
            angle = math.radians(degree)
            expected = (math.cos(pitch) * math.cos(angle), math.cos(pitch) * math.sin(angle), math.sin(pitch))
            assert rays[at].tolist() == pytest.approx(expected, abs=1e-12)
            at += 1
    assert at == len(rays) and pitches[-2] < 0.21 <= pitches[-1]


def drive(count, spacing):
    """T_world_lidar of a drive along the world's y axis, heading there."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    poses[:, 1, 3] = 100 + spacing * np.arange(count)
    return poses


def test_origins_lie_in_the_reference_frame_within_39_metres():
    T_grid_lidar = np.eye(4)
    T_grid_lidar[:3, 3] = 0.9, 0.0, 1.8
    origins = scene_origins(drive(9, 20.0), 4, T_grid_lidar)
    assert origins == pytest.approx(np.array([[-19.1, 0, 1.8], [0.9, 0, 1.8], [20.9, 0, 1.8]]))  # -39.1 and 40.9 are too far
    assert scene_origins(drive(3, 39.0), 1, np.eye(4)) == pytest.approx(np.zeros((1, 3)))  # exactly 39 m is too far


@pytest.mark.parametrize(
    ("count", "picked"),
    [
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, [0, 1, 2, 3, 5, 6, 7, 8]),
        (20, [0, 3, 5, 8, 11, 14, 16, 19]),
    ],
)
def test_of_many_origins_eight_are_picked_evenly(count, picked):
    assert scene_origins(drive(count, 1.0), 0, np.eye(4))[:, 0] == pytest.approx(picked)
    assert picked == [round(k * (count - 1) / 7) for k in range(8)]


def test_origins_need_poses():
    with pytest.raises(ValueError, match="poses"):
        scene_origins(np.eye(4), 0, np.eye(4))

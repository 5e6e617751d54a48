# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores of bundles: which ways of counting there are, and that a perfect prediction is perfect."""

from dataclasses import replace

import numpy as np
import pytest
from occle_train.evaluation.degraded import DEGRADATIONS
from occle_train.evaluation.evaluate import evaluate
from rooms import CLASSES, GRID, Oracle, Rooms

from occle_core import taxonomy
from occle_core.datasets import open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid


def predictor(grid, labels):
    return Oracle(lambda frame: labels(frame.stamp), grid)


def test_a_perfect_prediction_on_a_part_of_the_official_volume():
    rooms = Rooms("a")
    scores = evaluate(predictor(GRID, rooms.world), [rooms])
    assert scores["grid"]["iou"] == scores["grid"]["miou_present"] == 1 and scores["frames"] == 3
    assert 0 < scores["scan"]["iou"] < 1 and scores["scan"]["precision"] == 1
    assert "official" not in scores


def test_the_official_volume_is_scored_in_its_own_cells():
    rooms, coarse = Rooms("a", 1), SEMANTICKITTI.coarser(2)
    truth = {coarse.shape: np.zeros(coarse.shape, np.uint8), SEMANTICKITTI.shape: np.zeros(SEMANTICKITTI.shape, np.uint8)}
    truth[coarse.shape][10, 10, 2] = 1
    truth[SEMANTICKITTI.shape][20:22, 20:22, 4] = 1  # the upper half of the coarse cell is free
    rooms.truth = lambda i, grid: truth[grid.shape]
    scores = evaluate(predictor(coarse, lambda stamp: truth[coarse.shape]), [rooms])
    assert scores["grid"]["iou"] == 1 and scores["official"]["iou"] == pytest.approx(0.5)


RAW = {0: 0, 1: 10, 4: 18, 9: 40, 11: 48, 13: 50, 15: 70, 18: 80}
"""Raw ids of some classes."""


def streets(rng):
    """A street of blocks at 0.2 m, and a prediction at 0.4 m that is right in most cells."""
    coarse = np.where(rng.random((64, 64, 8)) < 0.9, 0, rng.choice([9, 13, 15, 18], (64, 64, 8)))
    truth = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    truth[..., 0], truth[5:9, :, 31] = 9, 1
    predicted = np.where(rng.random((128, 128, 16)) < 0.2, rng.integers(0, 20, (128, 128, 16)), truth[::2, ::2, 1::2])
    return truth, predicted.astype(np.uint8)


@pytest.mark.parametrize("release", ["1.0", "1.1"])
def test_official_is_the_benchmarks_own_arithmetic_on_files_of_either_release(tmp_path, release):
    """The benchmark's script compares files value by value, wherever a release put a cell.

    It counts predictions and truths without unknown and invalid cells; IoU is of all that is not 0, mIoU the plain mean over
    nineteen classes.
    """
    rng = np.random.default_rng(1)
    for name in ("velodyne", "voxels"):
        (tmp_path / name).mkdir()
    (tmp_path / "calib.txt").write_text("P2: 700 0 600 0 0 700 180 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    (tmp_path / "times.txt").write_text("0\n0.1\n")
    counts, predictions = np.zeros((20, 20), np.int64), []
    for i in range(2):
        truth, predicted = streets(rng)
        predictions.append(predicted)
        raw = np.vectorize(RAW.get)(truth).astype("<u2")
        raw[rng.random(truth.shape) < 0.1] = 52  # what the benchmark does not score
        cells = np.argwhere(truth > 0)[::2]
        scan = np.c_[(cells + 0.5) * 0.2 + [0, -25.6, -2], np.full(len(cells), 0.5)]
        files = [raw, rng.random(truth.shape) < 0.3, predicted.repeat(2, 0).repeat(2, 1).repeat(2, 2)]
        label, invalid, prediction = (values.ravel() for values in files)
        if release == "1.0":  # every cell one index late
            label, invalid, prediction = (np.r_[np.zeros_like(values[:1]), values[:-1]] for values in (label, invalid, prediction))
        scan.astype("<f4").tofile(tmp_path / "velodyne" / f"{i:06d}.bin")
        label.tofile(tmp_path / "voxels" / f"{i:06d}.label")
        np.packbits(invalid).tofile(tmp_path / "voxels" / f"{i:06d}.invalid")
        classes = np.full(100, 255)
        classes[list(RAW.values())] = list(RAW)
        keep = (classes[label] != 255) & ~invalid
        np.add.at(counts, (prediction[keep], classes[label][keep]), 1)
    oracle = Oracle(lambda frame: predictions[round(frame.stamp / 1e8)], SEMANTICKITTI.coarser(2), taxonomy.load("semantickitti"))
    found = evaluate(oracle, [open_dataset(tmp_path)])["official"]
    assert found["iou"] == counts[1:, 1:].sum() / (counts.sum() - counts[0, 0])
    hits = counts.diagonal()
    ious = (hits / np.maximum(1, counts.sum(0) + counts.sum(1) - hits))[1:]
    np.testing.assert_array_equal(found["per_class"], ious)
    assert found["miou"] == ious.mean()


@pytest.mark.parametrize("taken", ["nothing", "images", "colours", "intensity"])
def test_what_is_taken_from_the_network_is_not_taken_from_the_scan_that_is_scored(taken):
    rooms, shown = Rooms("a", 1), []
    scan = rooms.points(0)
    scan[:, 3] = np.linspace(0, 1, len(scan))
    rooms.points = lambda i: scan

    def labels(frame):
        shown.append(frame)
        return rooms.world(0)

    oracle = Oracle(labels)
    scores = evaluate(oracle, [rooms], degrade=DEGRADATIONS[taken])
    frame, whole = shown[0], rooms.frame(0)
    assert scores["scan"]["iou"] == evaluate(oracle, [rooms])["scan"]["iou"] > 0
    (image,) = frame.images
    assert (image is None) == (taken == "images")
    if image is not None:
        assert (image == image[..., :1]).all() == (taken == "colours")
    assert (frame.points[:, :3] == whole.points[:, :3]).all()
    assert (frame.points[:, 3] == whole.points[:, 3]).all() == (taken != "intensity")


@pytest.mark.parametrize("resolution", [0.05, 0.1, 0.25])
def test_grids_of_small_robots_have_no_official_score(resolution):
    """A hall in cells of a tenth of a metre: less than half of SemanticKITTI's."""
    rooms, grid = Rooms("a", 1), VoxelGrid((-1.6, -1.6, -0.4), (32, 32, 8), resolution)
    rooms.truth = lambda i, asked: rooms.world(0)
    scores = evaluate(predictor(grid, lambda stamp: rooms.world(0)), [rooms])
    assert scores["grid"]["iou"] == scores["grid"]["miou_present"] == 1 and "official" not in scores


def test_what_no_camera_saw_of_occ3d_is_not_free_for_other_classes_either():
    """Occ3D's files hold free space wherever nothing was seen; right predictions there must not count as wrong."""
    seen = np.zeros(OCC3D_NUSCENES.shape, bool)
    seen[:20] = True
    whole = np.zeros(OCC3D_NUSCENES.shape, np.uint8)
    whole[10:30] = 13
    rooms = Rooms("a", 1)
    rooms.kind, rooms.masks = "nuscenes", lambda i: {"camera": seen, "lidar": ~seen}
    rooms.truth = lambda i, grid: np.where(seen, whole, 0).astype(np.uint8)
    scores = evaluate(predictor(OCC3D_NUSCENES, lambda stamp: whole), [rooms])
    assert scores["grid"]["iou"] == scores["grid"]["precision"] == 1


def test_the_free_class_may_have_any_place_in_a_class_list():
    """The same cells with ids in another order have the same scores."""
    turn = np.roll(np.arange(20), 7)  # new id of every class
    names, colors = np.array(CLASSES.names)[np.argsort(turn)], CLASSES.colors[np.argsort(turn)]
    own = replace(CLASSES, name="own", names=tuple(names.tolist()), colors=colors, free=int(turn[0]))
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(GRID.shape) < 0.2, rng.integers(0, 20, GRID.shape), Rooms("a", 1).world(0)).astype(np.uint8)
    first = evaluate(predictor(GRID, lambda stamp: wrong), [Rooms("a", 1)])
    rooms = Rooms("a", 1, lambda labels: turn[labels].astype(np.uint8))
    rooms.taxonomy = own
    oracle = predictor(GRID, lambda stamp: turn[wrong].astype(np.uint8))
    oracle.taxonomy = own
    second = evaluate(oracle, [rooms])
    for kind in ("grid", "scan"):
        for name in ("iou", "precision", "recall"):
            assert second[kind][name] == first[kind][name] > 0
    assert second["grid"]["miou"] == pytest.approx(first["grid"]["miou"])
    solid = [number for number in range(20) if number != own.free]
    by_name = dict(zip((own.names[number] for number in solid), second["grid"]["per_class"]))
    assert by_name == dict(zip(CLASSES.names[1:], first["grid"]["per_class"]))

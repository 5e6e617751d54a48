# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Fitting a calibration against probabilities that are known."""

import numpy as np
import pytest
import rooms
from hypothesis import given
from hypothesis import strategies as st
from occle_train.commands import calibrate as command
from occle_train.data.truth import TRUTHS
from occle_train.evaluation.calibrate import CalibrationCounts, count_cells, expected_calibration_error
from occle_train.metrics.isotonic import isotonic

from occle_core import taxonomy
from occle_core.bundle import save_bundle, spec_for
from occle_core.datasets import DatasetError
from occle_core.frame import FrameError
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import TaxonomyConfig

CLASSES = taxonomy.load("semantickitti")
GRID = VoxelGrid((0, 0, 0), (40, 40, 20), 0.4)


def frame(seed):
    """An overconfident network: what it says with confidence c is occupied with c^2 and right with c^3."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(GRID.shape) < 0.4, 3, 0).astype(np.uint8)
    confidence = np.where(labels > 0, rng.uniform(0.3, 1, GRID.shape), 0).astype(np.float16)
    c, chance = confidence.astype(float), rng.random(GRID.shape)
    truth = np.where(chance < c**3, 3, np.where(chance < c**2, 5, 0))
    truth = np.where(labels == 0, np.where(rng.random(GRID.shape) < 0.05, 4, 0), truth).astype(np.uint8)
    truth[rng.random(GRID.shape) < 0.1] = 255
    return Occupancy.of_volumes(labels, confidence, GRID, CLASSES), truth


def counted(seeds):
    counts = CalibrationCounts()
    for seed in seeds:
        counts.add(*frame(seed))
    return counts


def test_the_fit_finds_the_curves_and_the_error_falls():
    found, held_out = counted(range(4)).fit(), counted(range(4, 8))
    for c in (0.4, 0.6, 0.8, 0.95):
        assert np.interp(c, found.confidence, found.occupied) == pytest.approx(c**2, abs=0.04)
        assert np.interp(c, found.confidence, found.correct) == pytest.approx(c**3, abs=0.04)
    assert found.free == pytest.approx(0.05, abs=0.005)
    before, after = held_out.errors(None), held_out.errors(found)
    assert before["occupied"] > 0.15 and before["class"] > 0.25
    assert max(after.values()) < 0.015


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 9)), min_size=1, max_size=8))
def test_isotonic_is_the_nearest_ascending_sequence(pairs):
    """Against the minimax formula: the fit at i is max over a <= i of min over b >= i of the mean of a..b."""
    values, weights = np.array([v for v, _ in pairs]), np.array([float(w) for _, w in pairs])
    count = len(values)

    def mean(a, b):
        return np.average(values[a : b + 1], weights=weights[a : b + 1])

    expected = [max(min(mean(a, b) for b in range(i, count)) for a in range(i + 1)) for i in range(count)]
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-12)


def test_the_calibration_error_of_two_groups():
    said, cells, true = np.array([0.9, 0.2]), np.array([10.0, 30.0]), np.array([6.0, 6.0])
    assert expected_calibration_error(said, cells, true) == pytest.approx((10 * 0.3 + 0) / 40)


def test_nothing_to_calibrate_on_is_said():
    with pytest.raises(ValueError, match="no cells to calibrate on"):
        CalibrationCounts().fit()


def test_a_network_that_is_always_equally_sure_is_calibrated_too():
    counts = CalibrationCounts()
    occupancy, truth = frame(0)
    confidence = np.where(occupancy.labels > 0, np.float16(0.5), np.float16(0))
    sure = Occupancy.of_volumes(occupancy.labels, confidence, GRID, CLASSES)
    counts.add(sure, truth)
    assert counts.errors(counts.fit())["occupied"] < 0.001


def test_frames_that_cannot_be_predicted_are_left_out_of_the_counts():
    data = rooms.Rooms("a")

    def labels(frame):
        if frame.stamp == data.frame(1).stamp:
            raise FrameError("no point lies inside the grid")
        return data.world(0)

    counts = count_cells(rooms.Oracle(labels), [data], TRUTHS["recorded"])
    assert counts.named.sum() == 2 * (data.world(0) > 0).sum()


def test_cells_of_occ3d_that_no_sensor_saw_do_not_count():
    data, grid = rooms.Rooms("a", 1), VoxelGrid((0, -6.4, -1.0), (32, 32, 8), 0.4)
    seen = [np.zeros(OCC3D_NUSCENES.shape, bool) for _ in range(2)]
    seen[0][100:112], seen[1][108:120] = True, True
    data.kind, data.masks = "nuscenes", lambda i: dict(zip(("camera", "lidar"), seen))
    world = data.world(0)
    data.truth = lambda i, asked: np.where(np.arange(32)[:, None, None] < 20, world, 0).astype(np.uint8)
    counts = count_cells(rooms.Oracle(lambda frame: world, grid), [data], TRUTHS["recorded"])
    assert counts.named.sum() == counts.correct.sum() == (world[:20] > 0).sum() < (world > 0).sum()


def test_labels_of_other_classes_are_refused():
    data = rooms.Rooms("a", 1)
    data.taxonomy = taxonomy.load("warehouse")
    with pytest.raises(DatasetError, match="a is labelled with warehouse, the bundle predicts semantickitti"):
        count_cells(rooms.Oracle(None), [data], TRUTHS["recorded"])


def test_a_bundle_of_own_classes_is_calibrated_by_these(tmp_path, monkeypatch):
    """And nothing is written where the half that is measured on has no truth."""
    listed = TaxonomyConfig(name="two", classes={"free": (0, 0, 0), "wall": (1, 1, 1)}, free="free", voxels={0: 0, 50: 1})
    spec = spec_for(rooms.NETWORK, rooms.GRID, listed, "own")
    save_bundle(tmp_path / "own", spec, spec.build())
    opened = []

    def stop(data, names, classes=None):
        opened.append(classes.name)
        raise DatasetError("stop")

    monkeypatch.setattr(command, "open_all", stop)
    with pytest.raises(DatasetError, match="stop"):
        command.calibrate(tmp_path / "own", tmp_path)
    assert opened == ["two"]
    with pytest.raises(ValueError, match="no cells to measure on, in every second sequence"):
        CalibrationCounts().require_cells("to measure on, in every second sequence")

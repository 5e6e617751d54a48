"""Scores of bundles: which ways of counting there are, and that a perfect prediction is perfect."""

from types import SimpleNamespace

import numpy as np
import pytest
from rooms import CLASSES, GRID, Rooms

from occle_core.grid import SEMANTICKITTI
from training.evaluate import evaluate


def predictor(grid, labels):
    occupancy = lambda frame: SimpleNamespace(labels=labels(frame.stamp), timings={"network": 1.0})  # noqa: E731
    return SimpleNamespace(grid=grid, taxonomy=CLASSES, predict=occupancy)


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

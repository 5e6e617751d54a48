# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy as a list of cells and as volumes: both say the same."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy, SparseLabels

CLASSES = taxonomy.load("semantickitti")
GRID = VoxelGrid((-1.0, 0.0, 2.0), (5, 4, 3), 0.5)


def volumes(seed, share):
    rng = np.random.default_rng(seed)
    named = rng.random(GRID.shape) < share
    labels = np.where(named, rng.choice([1, 9, 19, 255], GRID.shape), CLASSES.free).astype(np.uint8)
    return labels, np.where(named, rng.random(GRID.shape), 0).astype(np.float16)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_list_and_the_volumes_are_one(seed, share):
    labels, confidence = volumes(seed, share)
    listed = SparseLabels.of_volumes(labels, confidence, CLASSES.free)
    order = np.random.default_rng(seed).permutation(len(listed.cells))  # an engine lists cells in any order
    sparse = SparseLabels(listed.cells[order], listed.classes[order], listed.scores[order], GRID.shape, CLASSES.free)
    found = Occupancy(sparse, GRID, CLASSES, occupied_scores=sparse.scores, free_score=0.25)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.confidence, confidence)
    np.testing.assert_array_equal(found.probability, np.where(labels == CLASSES.free, np.float16(0.25), confidence))
    occupied = (labels != CLASSES.free) & (labels != 255)
    np.testing.assert_array_equal(found.occupied, occupied)
    centers, classes, scores = found.voxels()
    at, inside = GRID.index(centers)
    assert inside.all() and len(centers) == occupied.sum() == len(np.unique(at, axis=0))
    np.testing.assert_array_equal(classes, labels[tuple(at.T)])
    np.testing.assert_array_equal(scores, confidence[tuple(at.T)].astype(np.float32))


def test_no_volume_is_made_that_nobody_asks_for():
    sparse = SparseLabels(*(np.zeros(0, t) for t in (np.int32, np.uint8, np.float16)), (2**20, 2**20, 2**20), 0)
    huge = Occupancy(sparse, GRID, CLASSES, occupied_scores=sparse.scores)  # its volumes would take an exabyte
    assert [len(values) for values in huge.voxels()] == [0, 0, 0]


def test_unseen_cells_are_unknown_and_occupied_ones_stay():
    labels, confidence = volumes(0, 0.3)
    found = Occupancy.of_volumes(labels, confidence, GRID, CLASSES)
    unseen = (labels == CLASSES.free) & (np.arange(labels.size).reshape(labels.shape) % 2 == 0)
    marked = replace(found, unseen=unseen)
    np.testing.assert_array_equal(marked.labels, np.where(unseen, 255, labels))
    np.testing.assert_array_equal(marked.occupied, found.occupied)
    np.testing.assert_array_equal(found.labels, labels)  # the occupancy before is as it was


def test_classes_of_another_list():
    labels, confidence = volumes(1, 0.5)
    table = np.arange(256, dtype=np.uint8)
    table[9], table[19], table[CLASSES.free] = 3, 7, 7
    found = SparseLabels.of_volumes(labels, confidence, CLASSES.free).renamed(table, 7)
    np.testing.assert_array_equal(found.labels, table[labels])
    np.testing.assert_array_equal(found.confidence, np.where(table[labels] == 7, np.float16(0), confidence))

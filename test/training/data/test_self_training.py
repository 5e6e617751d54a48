# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Self-training: per-class calibration by hand-made counts, and the teacher's targets cell by cell; rays have the last word."""

import numpy as np
import pytest
import torch
from occle_train.data.self_training import ClassCalibration, SelfTrainingConfig, teacher_targets
from occle_train.losses.minkocc import alone

FREE, NONE = 0, 255


def calibrated_on(probabilities, truth):
    calibration = ClassCalibration(len(probabilities[0]))
    calibration.add(torch.tensor(probabilities), torch.tensor(truth, dtype=torch.uint8), alone)
    return calibration


def test_a_class_that_boasts_is_calibrated_and_the_others_keep_their_own_curves():
    """Class 1 says 0.9 and is right in half of the cells, class 2 says 0.7 and is always right."""
    boasting, modest = [0.075, 0.9, 0.025], [0.175, 0.125, 0.7]
    calibration = calibrated_on([boasting] * 4 + [modest] * 4 + [boasting], [1, 1, 0, 0, 2, 2, 2, 2, NONE])
    found = calibration(torch.tensor([boasting, modest]))
    # Free's curve is isotonic: at 0.075 it was right in 2 of 4, at 0.175 in 0 of 4, pooled 2 of 8. Of class 2 nothing is left.
    expected = torch.tensor([[0.25, 0.5, 0.0], [0.25, 0.0, 1.0]])
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(calibration(torch.tensor([[0.0, 0.97, 0.03]]))[0, 1], torch.tensor(1.0))  # the curve goes on level


def test_before_the_first_count_the_teacher_says_nothing_and_votes_stay():
    empty = ClassCalibration(3)(torch.tensor([[0.1, 0.8, 0.1]]))
    assert not empty.any()
    lifted, occupancy = torch.tensor([2, NONE, NONE, NONE]), torch.tensor([1, 1, 0, NONE])
    shape = (1, 4, 1, 1)
    lifted, occupancy = lifted.view(shape).to(torch.uint8), occupancy.view(shape).to(torch.uint8)
    rows = torch.zeros(shape, dtype=torch.int64)
    classes, target = teacher_targets(empty, rows, lifted, occupancy, FREE, SelfTrainingConfig())
    assert torch.equal(classes, lifted) and torch.equal(target, occupancy)


def test_what_was_counted_long_ago_is_forgotten():
    calibration = calibrated_on([[0.1, 0.9]] * 10, [0] * 10)
    for _ in range(300):
        calibration.add(torch.tensor([[0.1, 0.9]] * 10), torch.tensor([1] * 10, dtype=torch.uint8), alone)
    assert calibration(torch.tensor([[0.1, 0.9]]))[0, 1] > 0.99


def one_cell(p, vote, occupancy, config):
    """The specification of a cell: its class and its occupancy."""
    if occupancy == 0:  # rays passed it
        return NONE, 0
    if occupancy == 1:
        given = np.array([0.0, *p[1:]])
        given = given / given.sum() if given.sum() else given
        if vote != NONE:
            given[vote] += config.vote_weight
        best = int(given.argmax())
        return (best if vote != NONE or given[best] >= config.least_confidence else NONE), 1
    best = int(p.argmax())
    if p[best] < config.least_confidence:
        return NONE, NONE
    return (NONE, 0) if best == FREE else (best, 1)


@pytest.mark.parametrize("vote_weight", [0.0, 0.5])
def test_targets_are_those_of_each_cell_and_a_cell_that_rays_passed_is_free_whatever_the_teacher_says(vote_weight):
    rng = np.random.default_rng(0)
    config = SelfTrainingConfig(least_confidence=0.6, vote_weight=vote_weight)
    table = rng.dirichlet([0.3] * 5, 200).astype(np.float32)
    shape = (2, 6, 5, 4)
    rows = rng.integers(0, len(table), shape)
    occupancy = rng.choice([0, 1, NONE], shape).astype(np.uint8)
    lifted = np.where((occupancy == 1) & (rng.random(shape) < 0.5), rng.integers(1, 5, shape), NONE).astype(np.uint8)
    tensors = (torch.from_numpy(array) for array in (table, rows, lifted, occupancy))
    classes, target = (found.numpy() for found in teacher_targets(*tensors, FREE, config))
    for cell in np.ndindex(shape):
        assert (classes[cell], target[cell]) == one_cell(table[rows[cell]], lifted[cell], occupancy[cell], config)
    # Each case is there: vetoed, corrected, added by the teacher alone.
    sure = table[rows][..., 1:].max(-1) >= 0.6
    assert (sure & (occupancy == 0)).any() and (target[occupancy == NONE] == 1).any() and (target[occupancy == NONE] == 0).any()
    assert ((lifted != NONE) & (classes != lifted)).any() and ((lifted == NONE) & (occupancy == 1) & (classes != NONE)).any()

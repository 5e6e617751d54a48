# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Self-training: calibration and votes by hand-made counts, and the targets cell by cell; rays have the last word."""

import numpy as np
import torch
from occle_train.data.self_training import LEAST_CELLS, NEITHER, POINTS, CellTeacher, SelfTrainingConfig
from occle_train.losses.minkocc import alone
from teacher_cells import one_cell

FREE, NONE = 0, 255


def volume(values):
    return torch.tensor(values, dtype=torch.uint8).view(1, -1, 1, 1)


def counted(probabilities, truth, occupancy, votes=NONE, classes=3, least=0.8):
    """A teacher that has counted one frame of a cell per row."""
    teacher = CellTeacher(classes, FREE, SelfTrainingConfig(least_confidence=least))
    cells = len(truth)
    lifted, occupied = (np.broadcast_to(value, cells).tolist() for value in (votes, occupancy))
    rows = torch.arange(cells).view(1, -1, 1, 1)
    teacher.count(torch.tensor(probabilities), rows, volume(lifted), volume(occupied), volume(truth), alone)
    return teacher


def test_a_class_that_boasts_is_calibrated_and_the_others_keep_their_own_curves():
    """Class 1 says 0.9 and is right in half of the cells, class 2 says 0.7 and is always right."""
    boasting, modest = [0.075, 0.9, 0.025], [0.175, 0.125, 0.7]
    teacher = counted([boasting] * 4 + [modest] * 4 + [boasting], [1, 1, 0, 0, 2, 2, 2, 2, NONE], NONE)
    found = teacher.calibrated(torch.tensor([boasting, modest]), NEITHER)
    # Free's curve ascends: at 0.075 it was right in 2 of 4, at 0.175 in 0 of 4, pooled 2 of 8.
    expected = torch.tensor([[0.25, 0.5, 0.0], [0.25, 0.0, 1.0]])
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))
    beyond = teacher.calibrated(torch.tensor([[0.0, 0.97, 0.03]]), NEITHER)
    torch.testing.assert_close(beyond[0, 1], torch.tensor(1.0))  # the curve continues level
    assert not teacher.calibrated(torch.tensor([boasting]), POINTS).any()  # of which no cell was counted


def test_before_the_first_count_the_teacher_says_nothing_and_votes_stay():
    teacher = CellTeacher(3, FREE, SelfTrainingConfig())
    lifted, occupancy = volume([2, NONE, NONE, NONE]), volume([1, 1, 0, NONE])
    classes, target = teacher.targets(torch.tensor([[0.1, 0.8, 0.1]]), torch.zeros(1, 4, 1, 1).long(), lifted, occupancy)
    assert torch.equal(classes, lifted) and torch.equal(target, occupancy)


def test_what_was_counted_long_ago_is_forgotten():
    teacher = counted([[0.1, 0.9]] * 10, [0] * 10, 1, classes=2)
    for _ in range(300):
        rows = torch.arange(10).view(1, -1, 1, 1)
        teacher.count(torch.tensor([[0.1, 0.9]] * 10), rows, volume([NONE] * 10), volume([1] * 10), volume([1] * 10), alone)
    assert teacher.calibrated(torch.tensor([[0.1, 0.9]]), POINTS)[0, 1] > 0.99


def test_vote_and_teacher_are_fused_by_bayes_rule_and_a_vote_for_a_class_without_labels_stands():
    """Cells of class 1 get vote 1 in 3 of 4 cases and vote 2 in 1 of 4; those of class 2 get vote 2; nobody labelled class 3."""
    one, two = [0.0, 0.975, 0.025, 0.0], [0.0, 0.025, 0.975, 0.0]
    number = 4 * LEAST_CELLS
    truth, votes = [1] * number + [2] * number, [1] * (3 * number // 4) + [2] * (number // 4) + [2] * number
    # Of the cells that look like class 1, one in 40 is of class 2.
    teacher = counted([one] * number + [one] * (number // 40) + [two] * (number - number // 40), truth, 1, votes, 4)
    classes, _ = teacher.targets(torch.tensor([one]), torch.zeros(1, 4, 1, 1).long(), volume([1, 2, 3, NONE]), volume([1] * 4))
    # Vote 2 on what looks like class 1: odds of 40 to 1 by the teacher, 1 to 4 by the vote, so 10 to 1 for class 1.
    assert classes.flatten().tolist() == [1, 1, 3, 1]
    sceptic = CellTeacher(4, FREE, SelfTrainingConfig(least_confidence=0.95))
    sceptic.load_state_dict(teacher.state_dict())
    classes, _ = sceptic.targets(torch.tensor([one]), torch.zeros(1, 4, 1, 1).long(), volume([1, 2, 3, NONE]), volume([1] * 4))
    assert classes.flatten().tolist() == [1, 2, 3, 1]  # 10 to 1 is not enough


def test_targets_are_those_of_each_cell_and_a_cell_that_rays_passed_is_free_whatever_the_teacher_says():
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.dirichlet([0.2] * 5, 300).astype(np.float32))
    shape = (2, 6, 5, 4)

    def frames(count):
        occupancy = rng.choice([0, 1, NONE], (count, *shape[1:])).astype(np.uint8)
        rows = rng.integers(0, len(table), occupancy.shape)
        truth = np.array([rng.choice(5, p=(p := table[row].double().numpy()) / p.sum()) for row in rows.flat]).reshape(rows.shape)
        wrong = rng.random(rows.shape) < 0.3
        votes = np.where(wrong | (truth == FREE), rng.integers(1, 5, rows.shape), truth)
        lifted = np.where((occupancy == 1) & (rng.random(rows.shape) < 0.6), votes, NONE).astype(np.uint8)
        return [torch.from_numpy(array) for array in (rows, lifted, occupancy, truth.astype(np.uint8))]

    teacher = CellTeacher(5, FREE, SelfTrainingConfig(least_confidence=0.6))
    teacher.count(table, *frames(8), alone)
    rows, lifted, occupancy, _ = frames(2)
    classes, target = teacher.targets(table, rows, lifted, occupancy)
    for cell in np.ndindex(shape):
        expected = one_cell(teacher, table[rows[cell]], int(lifted[cell]), int(occupancy[cell]))
        assert (int(classes[cell]), int(target[cell])) == expected
    # Each case is there: vetoed by rays, overruled, named and added by the teacher alone.
    assert ((table[rows][..., 1:].amax(-1) > 0.9) & (occupancy == 0)).any()
    assert (target[occupancy == NONE] == 1).any() and (target[occupancy == NONE] == 0).any()
    assert ((lifted != NONE) & (classes != lifted)).any() and ((lifted == NONE) & (occupancy == 1) & (classes != NONE)).any()

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Lovász-softmax against the definition of a Lovász extension: the mean of the set function over all thresholds of the errors."""

import itertools

import pytest
import torch
from occle_train.losses.lovasz import lovasz, lovasz_losses

from occle_core.sparse import SparseTensor
from occle_core.taxonomy import IGNORE


def by_thresholds(errors, truth):
    """The integral over t of the Jaccard loss of the cells whose error is above t (the Choquet integral), one class."""
    bounds = sorted({0.0, *errors})
    total = 0.0
    for low, high in itertools.pairwise(bounds):
        wrong = {cell for cell, error in enumerate(errors) if error > low}
        there = {cell for cell, is_there in enumerate(truth) if is_there}
        total += (high - low) * (len(wrong) / len(there | wrong) if there | wrong else 0)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_integral_over_all_thresholds(seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(3, 12, generator=generator, dtype=torch.float64)
    truth = torch.rand(3, 12, generator=generator) < 0.4
    probabilities[0, :4] = 0.25  # equal errors
    expected = [
        by_thresholds([1 - p if there else p for p, there in zip(row, is_there)], is_there)
        for row, is_there in zip(probabilities.tolist(), truth.tolist())
    ]
    assert float(lovasz(probabilities, truth)) == pytest.approx(sum(expected) / 3, rel=1e-6)


def test_of_certain_predictions_it_is_one_minus_the_iou():
    predicted, truth = torch.tensor([[1.0, 1, 1, 0, 0, 0]]), torch.tensor([[True, True, False, True, False, False]])
    assert float(lovasz(predicted, truth)) == pytest.approx(1 - 2 / 4)
    assert float(lovasz(truth.float(), truth)) == 0


def case():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (2, 4, 4, 2), generator=generator).to(torch.uint8)
    target[:, 0] = IGNORE
    target[target == 3] = 0  # a class that is not there
    coords = torch.ones(target.shape, dtype=torch.bool).nonzero()
    logits = torch.randn(len(coords), 5, generator=generator, requires_grad=True)
    return SparseTensor(logits, coords, target.shape[1:], 2), target


def test_unknown_cells_and_absent_classes_count_nothing():
    classes, target = case()
    found = lovasz_losses(classes, target, 0, 1000, 0)
    (found[0] + found[1]).backward()
    unknown = classes.at_cells(target) == IGNORE
    assert (classes.features.grad[unknown] == 0).all() and (classes.features.grad[~unknown] != 0).any()
    rows = torch.softmax(classes.features.detach()[~unknown].double(), 1)
    labels = classes.at_cells(target)[~unknown].tolist()
    each = {
        number: by_thresholds(
            [1 - p if label == number else p for p, label in zip(rows[:, number].tolist(), labels)],
            [label == number for label in labels],
        )
        for number in set(labels)
    }
    # Free is no class of the mean.
    assert set(each) == {0, 1, 2} and float(found[0].detach()) == pytest.approx((each[1] + each[2]) / 2, rel=1e-5)
    there = [label != 0 for label in labels]
    wrong = [p if occupied else 1 - p for p, occupied in zip(rows[:, 0].tolist(), there)]
    assert float(found[1].detach()) == pytest.approx(by_thresholds(wrong, there), rel=1e-5)


def test_every_nth_cell_is_compared_and_the_others_in_other_steps():
    classes, target = case()
    seen = torch.zeros(len(classes.features), dtype=torch.bool)
    for step in range(4):
        classes.features.grad = None
        lovasz_losses(classes, target, 0, 12, step)[1].backward()
        now = (classes.features.grad != 0).any(1)
        assert 0 < now.sum() <= 12 and not (seen & now).any()
        seen |= now
    assert seen.sum() > 36  # of 48 known ones; a cell that costs nothing has no gradient


def test_without_known_cells_it_is_zero_with_zero_gradients():
    classes, target = case()
    found = lovasz_losses(classes, torch.full_like(target, IGNORE), 0, 1000, 0)
    (found[0] + found[1]).backward()
    assert float(found[0].detach()) == float(found[1].detach()) == 0 and (classes.features.grad == 0).all()

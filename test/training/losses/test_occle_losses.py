# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's losses against loops over voxels and classes, written from MonoScene's definitions."""

import math

import pytest
import torch
from occle_train.losses.occle import (
    frequency_weights,
    geometric_scale_loss,
    occupancy_loss,
    semantic_scale_loss,
    weighted_cross_entropy,
)


def case(classes=5, shape=(2, 4, 3, 2), seed=0, ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], classes, *shape[1:], generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes - 1, shape, generator=generator)  # the last class is absent
    target[torch.rand(shape, generator=generator) < ignored] = 255
    return logits, target.to(torch.uint8)


def voxels(logits, target):
    """(probabilities, label) of every known voxel, one by one."""
    for b, *cell in torch.cartesian_prod(*(torch.arange(n) for n in target.shape)).tolist():
        label = int(target[(b, *cell)])
        if label != 255:
            scores = [math.exp(float(logits[(b, c, *cell)])) for c in range(logits.shape[1])]
            yield [score / sum(scores) for score in scores], label


def log(value):
    return max(math.log(value), -100.0) if value > 0 else -100.0


def three_logs(pairs):
    """pairs of (probability of being it, is it) -> -(ln P + ln R + ln S)."""
    hits = sum(p for p, yes in pairs if yes)
    out = log(hits / sum(p for p, _ in pairs)) + log(hits / sum(1 for _, yes in pairs if yes))
    negatives = [1 - p for p, yes in pairs if not yes]
    return -(out + (log(sum(negatives) / len(negatives)) if negatives else 0.0))


@pytest.mark.parametrize("seed", range(3))
def test_semantic_scale_is_the_mean_over_present_classes(seed):
    logits, target = case(seed=seed)
    known = list(voxels(logits, target))
    present = sorted({label for _, label in known})
    expected = sum(three_logs([(p[c], label == c) for p, label in known]) for c in present) / len(present)
    assert float(semantic_scale_loss(logits, target)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("free", [0, 3])
def test_geometric_scale_is_of_occupied_against_free(free):
    logits, target = case(seed=4)
    expected = three_logs([(1 - p[free], label != free) for p, label in voxels(logits, target)])
    assert float(geometric_scale_loss(logits, target, free=free)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", [semantic_scale_loss, geometric_scale_loss])
def test_gradients_equal_finite_differences(loss):
    logits, target = case(classes=4, shape=(1, 2, 3, 2), seed=1)
    assert torch.autograd.gradcheck(lambda value: loss(value, target), logits.requires_grad_())


@pytest.mark.parametrize("loss", [semantic_scale_loss, geometric_scale_loss])
def test_what_is_ignored_does_not_matter(loss):
    logits, target = case()
    changed = torch.where((target == 255)[:, None], 9.0 * torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(changed, target), loss(logits, target))
    other = torch.where(target == 255, 77, target)
    torch.testing.assert_close(loss(logits, other, ignore=77), loss(logits, target))


@pytest.mark.parametrize("label", [0, 2, 255])
@pytest.mark.parametrize("loss", [semantic_scale_loss, geometric_scale_loss])
def test_degenerate_batches_are_finite(loss, label):
    """Nothing occupied, nothing free, nothing known."""
    logits, target = case()
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, label))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
    if loss is geometric_scale_loss or label == 255:
        assert value == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_mistakes_cost_a_hundred_per_logarithm(dtype):
    """Half of the voxels of each of two classes, every one of them surely wrong: precision, recall, specificity are all 0."""
    target = torch.tensor([0, 1]).view(1, 2, 1, 1)
    logits = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], dtype=dtype).view(1, 2, 2, 1, 1).requires_grad_()
    for loss in (semantic_scale_loss, geometric_scale_loss):
        value = loss(logits, target)
        (grad,) = torch.autograd.grad(value, logits)
        assert value.item() == pytest.approx(300) and torch.isfinite(grad).all()


def test_a_perfect_prediction_costs_nothing():
    _, target = case(ignored=0.1)
    logits = torch.nn.functional.one_hot(target.long().clamp(max=4), 5).movedim(-1, 1) * 60.0
    for loss in (semantic_scale_loss, geometric_scale_loss):
        assert float(loss(logits, target)) == pytest.approx(0, abs=1e-6)


def test_single_voxels_are_a_volume_of_their_own():
    logits, target = case()
    rows = logits.movedim(1, -1).reshape(-1, 5)
    for loss in (semantic_scale_loss, geometric_scale_loss):
        torch.testing.assert_close(loss(rows, target.reshape(-1)), loss(logits, target))


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="do not fit"):
        semantic_scale_loss(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 3))


def test_weights_fall_with_the_logarithm_of_the_frequency():
    weights = frequency_weights(torch.tensor([10_000_000, 1000, 1, 0]))
    assert weights.tolist() == pytest.approx([1 / math.log(1e7), 1 / math.log(1000), 1, 1])


def test_cross_entropy_divides_by_the_sum_of_weights():
    logits, target = case()
    weights = torch.tensor([0.1, 1, 2, 3, 4], dtype=torch.float64)
    total = norm = 0.0
    for p, label in voxels(logits, target):
        total -= float(weights[label]) * math.log(p[label])
        norm += float(weights[label])
    assert float(weighted_cross_entropy(logits, target, weights)) == pytest.approx(total / norm)
    assert float(weighted_cross_entropy(logits, torch.full_like(target, 255), weights)) == 0


def test_occupancy_loss_is_the_sum_of_its_three():
    logits, target = case()
    weights = torch.rand(5, dtype=torch.float64) + 0.1
    parts = weighted_cross_entropy(logits, target, weights) + semantic_scale_loss(logits, target)
    torch.testing.assert_close(
        occupancy_loss(logits, target, weights, free=2), parts + geometric_scale_loss(logits, target, free=2)
    )

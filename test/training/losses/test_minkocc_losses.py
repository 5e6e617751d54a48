# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Losses against loops and textbook formulas."""

import numpy as np
import pytest
import torch
from occle_train.losses.minkocc import class_balanced_weights, occupancy_pyramid, soft_cross_entropy, supervised_loss

from occle_core.networks.minkocc.network import MinkOccPrediction
from occle_core.networks.minkocc.unet import DecoderLevel
from occle_core.sparse import SparseTensor

IGNORE, FREE = 255, 0


def test_class_balanced_weights_by_the_formula():
    counts = torch.tensor([1, 10, 1000, 0])
    raw = np.array([(1 - 0.9) / (1 - 0.9 ** max(int(n), 1)) for n in counts])
    np.testing.assert_allclose(class_balanced_weights(counts, 0.9), raw * 4 / raw.sum(), rtol=1e-6)
    assert torch.allclose(class_balanced_weights(counts, 0.0), torch.ones(4))
    with pytest.raises(ValueError, match="beta"):
        class_balanced_weights(counts, 1.0)


def test_occupancy_pyramid_against_a_loop():
    target = torch.from_numpy(np.random.default_rng(0).choice([FREE, 3, IGNORE], (2, 8, 8, 4), p=[0.7, 0.1, 0.2]).astype(np.uint8))
    pyramid = occupancy_pyramid(target, FREE, 3)
    for level, volume in enumerate(pyramid):
        size = 2**level
        for index in np.ndindex(*volume.shape):
            b, i, j, k = index
            box = target[b, i * size : (i + 1) * size, j * size : (j + 1) * size, k * size : (k + 1) * size]
            solid, unknown = bool(((box != FREE) & (box != IGNORE)).any()), bool((box == IGNORE).any())
            assert volume[index] == (1 if solid else IGNORE if unknown else 0)


def prediction_for(target, logits_seed=0):
    generator = torch.Generator().manual_seed(logits_seed)
    coords = torch.ones(target.shape, dtype=torch.bool).nonzero()
    classes = SparseTensor(
        torch.randn(len(coords), 4, generator=generator, requires_grad=True), coords, target.shape[1:], len(target)
    )
    levels = []
    for volume in occupancy_pyramid(target, FREE, 2):
        cells = torch.ones(volume.shape, dtype=torch.bool).nonzero()
        proposed = SparseTensor(torch.zeros(len(cells), 1), cells, volume.shape[1:], len(volume))
        levels.append(DecoderLevel(proposed, torch.randn(len(cells), generator=generator, requires_grad=True)))
    return MinkOccPrediction(classes, levels, classes)


def test_supervised_loss_against_a_loop():
    target = torch.from_numpy(np.random.default_rng(1).choice([0, 1, 2, 3, IGNORE], (1, 4, 4, 4)).astype(np.uint8))
    prediction, weights = prediction_for(target), torch.tensor([1.0, 2.0, 0.5, 3.0])
    pyramid = occupancy_pyramid(target, FREE, 2)
    losses = supervised_loss(prediction, target, pyramid, weights)
    total = weight = 0.0
    for row, (b, i, j, k) in enumerate(prediction.classes.coords.tolist()):
        label = int(target[b, i, j, k])
        if label != IGNORE:
            total -= float(weights[label] * torch.log_softmax(prediction.classes.features[row].detach(), 0)[label])
            weight += float(weights[label])
    assert float(losses["semantic"].detach()) == pytest.approx(0.5 * total / weight, rel=1e-5)
    bce = 0.0
    for level, volume in zip(prediction.levels, pyramid):
        terms = []
        for row, (b, i, j, k) in enumerate(level.proposed.coords.tolist()):
            if volume[b, i, j, k] != IGNORE:
                p = float(torch.sigmoid(level.occupancy[row].detach()))
                terms.append(-np.log(p) if volume[b, i, j, k] else -np.log(1 - p))
        bce += np.mean(terms)
    assert float(losses["occupancy"].detach()) == pytest.approx(bce, rel=1e-4)


def test_unknown_voxels_have_no_gradient():
    target = torch.full((1, 4, 4, 4), IGNORE, dtype=torch.uint8)
    target[0, 0, 0, 0] = 2
    prediction = prediction_for(target)
    supervised_loss(prediction, target, occupancy_pyramid(target, FREE, 2), torch.ones(4))["total"].backward()
    grad = prediction.classes.features.grad
    assert (grad[1:] == 0).all() and (grad[0] != 0).any()


def test_a_batch_without_any_label_gives_a_finite_zero():
    target = torch.full((1, 4, 4, 4), IGNORE, dtype=torch.uint8)
    losses = supervised_loss(prediction_for(target), target, occupancy_pyramid(target, FREE, 2), torch.ones(4))
    assert float(losses["total"].detach()) == 0


def test_soft_cross_entropy_by_hand():
    # Softmax of (0, 0) is 1/2 each, of (ln 3, 0) is 3/4 and 1/4.
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0], [np.log(3.0), 0.0], [5.0, -7.0]])
    target = torch.tensor([0, 0, 1, IGNORE], dtype=torch.uint8)
    loss = soft_cross_entropy(logits, target, torch.tensor([1.0, 0.5, 0.25, 1.0]))
    assert float(loss) == pytest.approx((np.log(2) + 0.5 * np.log(4 / 3) + 0.25 * np.log(4)) / 3, rel=1e-6)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.25, 1.5, 0.75)])
def test_soft_cross_entropy_on_images_against_a_loop(weights):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2, 5, 4, 6))).requires_grad_()
    target = torch.from_numpy(rng.choice([0, 1, 2, 3, 4, IGNORE], (2, 4, 6)).astype(np.uint8))
    confidence = torch.from_numpy(rng.random((2, 4, 6)))
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = soft_cross_entropy(logits, target, confidence, weights=given)
    by_class = weights or (1.0,) * 5
    terms, pulls = [], torch.zeros(2, 4, 6, dtype=torch.float64)
    for b, v, u in np.ndindex(2, 4, 6):
        if target[b, v, u] != IGNORE:
            p = np.exp(logits[b, :, v, u].detach().numpy())
            pulls[b, v, u] = by_class[target[b, v, u]]
            terms.append(-float(pulls[b, v, u] * confidence[b, v, u]) * np.log(p[target[b, v, u]] / p.sum()))
    assert float(loss.detach()) == pytest.approx(np.sum(terms) / float(pulls.sum()), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    # d/dlogits = w c (softmax - one-hot) / sum of the labelled pixels' w, 0 at the others.
    onehot = torch.nn.functional.one_hot(torch.where(target == IGNORE, 0, target).long(), 5).permute(0, 3, 1, 2)
    expected = (pulls * confidence)[:, None] * (torch.softmax(logits.detach(), 1) - onehot) / pulls.sum()
    torch.testing.assert_close(gradient, expected)


def test_soft_cross_entropy_without_labels_is_zero_with_zero_gradients():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    nothing = torch.full((1, 2, 2), IGNORE, dtype=torch.uint8)
    loss = soft_cross_entropy(logits, nothing, torch.full((1, 2, 2), float("nan")))
    loss.backward()
    assert float(loss.detach()) == 0 and torch.equal(logits.grad, torch.zeros_like(logits))
    with pytest.raises(ValueError, match="do not fit"):
        soft_cross_entropy(logits, nothing[0], torch.zeros(2, 2))

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The neural shader."""

import pytest
import torch
from occle_train.losses.minkocc import soft_cross_entropy
from occle_train.rendering.shader import Shader


@pytest.mark.parametrize("size", [(48, 88), (37, 51), (4, 4)])
def test_logits_have_the_size_of_the_features(size):
    logits = Shader(6, 18, width=8)(torch.randn(2, 6, *size))
    assert logits.shape == (2, 18, *size) and torch.isfinite(logits).all()


def test_a_pixel_sees_its_surroundings_and_views_do_not_mix():
    torch.manual_seed(0)
    shader = Shader(4, 3, width=8)
    features = torch.randn(2, 4, 16, 16, requires_grad=True)
    shader(features)[0, :, 8, 8].sum().backward()
    assert (features.grad[0].abs().sum(0) > 0).float().mean() > 0.5
    assert not features.grad[1].any()


def test_it_learns_labels_from_features():
    torch.manual_seed(0)
    shader, features = Shader(4, 3, width=8), torch.randn(2, 4, 12, 20)
    target = (features[:, 0] > 0).long() + (features[:, 1] > 0.5).long()
    optimizer = torch.optim.Adam(shader.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = soft_cross_entropy(shader(features), target, torch.ones(target.shape))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]

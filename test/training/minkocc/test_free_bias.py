# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The free class's bias: found again where it is known, and left alone where nothing can be measured."""

import numpy as np
import pytest
import torch
from occle_train.minkocc.free_bias import add_free_bias, choose_free_bias

from occle_core.bundle import rig_spec
from occle_core.frame import Frame
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import label_grid

FREE = 0


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = rig_spec("tiny", "kitti").build().eval()
    with torch.no_grad():
        for head in network.unet.occupancy:
            head.bias.zero_()
        network.head.weight.mul_(20)
    return network


@pytest.fixture(scope="module")
def frames(network):
    """Inputs and what the network says about them, half of it unknown."""
    spec, rng = rig_spec("tiny", "kitti"), np.random.default_rng(0)
    found = []
    for _ in range(3):
        points = rng.uniform(spec.voxel_grid.origin, spec.voxel_grid.upper, (3000, 3))
        inputs = prepare(Frame(0, np.hstack([points, points[:, :1] % 1]).astype(np.float32)), spec.voxel_grid, spec.network)
        with torch.no_grad():
            labels = label_grid(network(inputs).classes, FREE)[0][0].numpy().copy()
        labels[rng.random(labels.shape) < 0.5] = 255
        found.append((inputs, labels))
    assert len(np.unique(found[0][1])) > 4
    return found


@pytest.mark.parametrize("known", [0.0, 1.5, 3.0])
def test_a_bias_that_was_added_is_found(network, frames, known):
    add_free_bias(network, FREE, known)
    try:
        assert choose_free_bias(network, frames, FREE) == -known
    finally:
        add_free_bias(network, FREE, -known)


def test_without_labels_nothing_is_chosen(network, frames):
    assert choose_free_bias(network, [], FREE) == 0
    assert choose_free_bias(network, [(inputs, np.full_like(labels, 255)) for inputs, labels in frames], FREE) == 0


def test_what_is_added_is_added_to_the_free_logit_alone(network, frames):
    with torch.no_grad():
        before = network(frames[0][0]).classes.features
        add_free_bias(network, FREE, 0.5)
        after = network(frames[0][0]).classes.features
        add_free_bias(network, FREE, -0.5)
    torch.testing.assert_close(after[:, FREE] - before[:, FREE], torch.full((len(before),), 0.5), atol=1e-3, rtol=0)
    assert torch.equal(after[:, 1:], before[:, 1:])

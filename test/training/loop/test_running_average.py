# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The running average of the weights: short trainings forget their random start, long ones average over `1 / (1 - decay)` steps."""

import pytest
import torch
from occle_train.loop.running_average import running_average, warmed_decay
from torch import nn


def test_the_decay_warms_up_to_its_value():
    assert [warmed_decay(n, 0.998) for n in (0, 10, 90)] == [0.1, 11 / 20, 91 / 100]
    assert warmed_decay(4400, 0.998) < 0.998 == warmed_decay(5000, 0.998)
    assert warmed_decay(100, 0.5) == 0.5


def test_the_average_is_that_of_a_loop_over_numbers():
    network = nn.Linear(1, 1, bias=False)
    average = running_average(network, 0.9)
    expected, values = None, [3.0, -1.0, 4.0, 1.0, -5.0, 9.0] * 20
    for number, value in enumerate(values):
        network.weight.data.fill_(value)
        average.update_parameters(network)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("steps", [20, 100, 300])
def test_after_a_short_training_little_of_the_start_is_left(steps):
    """Weights that jump from 1 to 0: what is left of the 1 is the share of the start, which was 55 % of 300 steps."""
    network = nn.Linear(1, 1, bias=False)
    average = running_average(network, 0.998)
    network.weight.data.fill_(1)
    average.update_parameters(network)
    network.weight.data.fill_(0)
    for _ in range(steps):
        average.update_parameters(network)
    assert 0 <= average.module.weight.item() < 1e-3


def test_integer_buffers_are_averaged_too():
    network = nn.BatchNorm1d(2)
    average = running_average(network, 0.9)
    network(torch.randn(4, 2))
    average.update_parameters(network)
    assert average.module.num_batches_tracked == 1
    assert torch.equal(average.module.running_mean, network.running_mean)


def test_tables_of_indices_stay_what_they_are():
    """The mean of two equal integers in floating point is rounded down now and then."""
    network = nn.Linear(1, 1)
    network.register_buffer("order", torch.arange(1000))
    network.register_buffer("count", torch.tensor(0))
    average = running_average(network, 0.998)
    for _ in range(5):
        average.update_parameters(network)
    assert torch.equal(average.module.order, network.order)

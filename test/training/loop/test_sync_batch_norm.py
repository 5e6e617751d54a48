# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Synced batch norm beside a process that has no cell: PyTorch's own. Two full processes: test_process_group.py."""

import copy

import pytest
import torch
from occle_train.loop.sync_batch_norm import sync_batch_norms
from occle_train.process_group import ProcessGroup
from torch import distributed, nn


@pytest.fixture
def beside_an_empty_process(monkeypatch):
    def gather(parts, own):
        parts[0].copy_(own)
        parts[1].zero_()

    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather", gather)
    monkeypatch.setattr(distributed, "all_reduce", lambda value: None)


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm1d, (50, 6)), (nn.BatchNorm2d, (2, 6, 5, 7)), (nn.BatchNorm3d, (2, 6, 3, 4, 5))]
)
def test_it_is_pytorchs_own(beside_an_empty_process, kind, shape):
    torch.manual_seed(0)
    norm = kind(6)
    nn.init.uniform_(norm.weight)
    own, x, upstream = copy.deepcopy(norm), 3 * torch.randn(shape) + 5, torch.randn(shape)
    results = []
    for layer in (norm, own):
        inward = x.clone().requires_grad_()
        with sync_batch_norms(layer, ProcessGroup(0, 2 if layer is norm else 1)):
            out = layer(inward)
        out.backward(upstream)
        results.append([out.detach(), inward.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_process_without_any_cell_takes_part(beside_an_empty_process):
    norm, x = nn.BatchNorm1d(6), torch.zeros(0, 6, requires_grad=True)
    with sync_batch_norms(norm, ProcessGroup(0, 2)):
        out = norm(x)
    out.sum().backward()
    assert out.shape == x.grad.shape == (0, 6) and not norm.weight.grad.any()
    assert norm.running_mean.isfinite().all() and norm.running_var.isfinite().all()

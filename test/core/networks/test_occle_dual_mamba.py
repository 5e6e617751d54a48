# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Dual Mamba against its steps written out, cell by cell."""

import pytest
import torch

from occle_core.networks.occle.dual_mamba import DualMamba, DualMambaBlock, exchange_channels
from occle_core.networks.occle.hilbert import hilbert_order

WAYS = ("down_blocks", "up_blocks")


def test_half_of_the_channels_change_places():
    one, other = torch.zeros(1, 3, 6), torch.ones(1, 3, 6)
    first, second = exchange_channels(one, other)
    assert first[0, 0].tolist() == [0, 0, 0, 1, 1, 1] and second[0, 0].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("shape", [(4, 4, 4), (5, 3, 2), (1, 1, 1)])
def test_a_block_is_embed_exchange_order_scan_restore(shape):
    torch.manual_seed(0)
    block = DualMambaBlock(4, shape, state=3, expand=2)
    grids = [torch.randn(1, 4, *shape), torch.randn(1, 4, *shape)]
    out = block(*grids)
    cells = [(x, y, z) for x in range(shape[0]) for y in range(shape[1]) for z in range(shape[2])]
    walk = [cells[number] for number in hilbert_order(shape).tolist()]
    placed = []
    for grid, embed in zip(grids, block.embed):
        tokens = []
        for cell in walk:
            position = torch.tensor([(index + 0.5) / count * 2 - 1 for index, count in zip(cell, shape)])
            tokens.append(grid[(0, slice(None), *cell)] + embed(position))
        placed.append(torch.stack(tokens))
    mixed = [torch.cat([placed[0][:, :2], placed[1][:, 2:]], 1), torch.cat([placed[1][:, :2], placed[0][:, 2:]], 1)]
    for branch in range(2):
        scanned = block.mamba[branch](block.norm[branch](mixed[branch])[None])[0]
        for number, cell in enumerate(walk):
            expected = grids[branch][(0, slice(None), *cell)] + scanned[number]
            torch.testing.assert_close(out[branch][(0, slice(None), *cell)], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(16, 16, 8), (25, 13, 2), (10, 10, 1)])
def test_grids_of_any_size_come_back_in_their_size(shape):
    network = DualMamba(4, (4, 6, 6, 8), shape, state=2, expand=1)
    one, other = torch.randn(2, 4, *shape, requires_grad=True), torch.randn(2, 4, *shape, requires_grad=True)
    out = network(one, other)
    assert out.shape == (2, 4, *shape)
    out.square().sum().backward()
    assert one.grad.abs().sum() > 0 and other.grad.abs().sum() > 0
    dead = {name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0}
    # Where a stage is a single cell, nothing decays, and the position is 0.
    alone = {stage for stage, block in enumerate(network.down_blocks) if len(block.order) == 1}
    idle = ("mamba.0.A_log", "mamba.1.A_log", "embed.0.0.weight", "embed.1.0.weight")
    assert dead == {f"{way}.{stage}.{name}" for way in WAYS for stage in alone for name in idle}


def test_four_stages_down_and_four_up_with_a_block_in_each():
    network = DualMamba(4, (4, 4, 4, 4), (64, 64, 8), state=2, expand=1)
    lengths = [len(block.order) for block in network.down_blocks]
    assert lengths == [32 * 32 * 4, 16 * 16 * 2, 8 * 8 * 1, 4 * 4 * 1]
    assert [len(block.order) for block in network.up_blocks] == lengths


def test_odd_channels_cannot_be_halved():
    with pytest.raises(ValueError, match="even"):
        DualMambaBlock(5, (2, 2, 2), 2, 1)

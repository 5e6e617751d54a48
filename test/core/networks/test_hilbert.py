# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The Hilbert order by brute force: every cell once, steps to face neighbours, blocks walked through in one go."""

import numpy as np
import pytest
import torch

from occle_core.networks.occle.hilbert import hilbert_order, inverse

# Grids of the Dual Mamba's stages: SemanticKITTI's, Occ3D's and the 0.4 m bundle's, halved and rounded up again and again.
STAGES = [(64, 64, 8), (32, 32, 4), (16, 16, 2), (8, 8, 1), (50, 50, 4), (25, 25, 2), (13, 13, 1), (7, 7, 1), (4, 4, 1), (1, 1, 1)]


def walk(shape):
    return np.stack(np.unravel_index(hilbert_order(shape).numpy(), shape), 1)


@pytest.mark.parametrize("shape", STAGES)
def test_every_cell_is_visited_once(shape):
    seen = np.zeros(shape, int)
    for cell in walk(shape):
        seen[tuple(cell)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("edge", [2, 4, 8, 16, 32])
def test_every_step_on_a_cube_goes_to_a_face_neighbour(edge):
    assert (np.abs(np.diff(walk((edge,) * 3), axis=0)).sum(1) == 1).all()


@pytest.mark.parametrize("edge", [8, 16])
def test_every_aligned_block_is_walked_through_in_one_go(edge):
    """What makes it Hilbert's curve and not just any path: an octant is finished before the next one begins, on all scales."""
    blocks = walk((edge,) * 3)
    for size in (edge // 2, edge // 4):
        block = blocks // size
        changes = (np.diff(block, axis=0) != 0).any(1).sum()
        assert changes == (edge // size) ** 3 - 1


@pytest.mark.parametrize("shape", [(64, 64, 8), (50, 50, 4), (25, 25, 2)])
def test_flat_boxes_are_walked_with_few_jumps(shape):
    steps = np.abs(np.diff(walk(shape), axis=0)).sum(1)
    assert (steps == 1).mean() > 0.8
    # Cells in C order need a jump back at the end of every row.
    line = np.abs(np.diff(np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), 1), axis=0)).sum(1)
    assert steps.mean() < line.mean()


def test_the_inverse_restores_the_grid():
    order = hilbert_order((6, 5, 3))
    values = torch.randn(90)
    assert torch.equal(values[order][inverse(order)], values)


def test_the_result_is_the_callers_own():
    order = hilbert_order((4, 4, 4))
    order.zero_()
    assert hilbert_order((4, 4, 4)).any()


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="three positive counts"):
        hilbert_order(shape)

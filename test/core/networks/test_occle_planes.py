# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Planes, attention and products (OccLE, Eqs. 3 and 4) against loops and torch's own attention."""

import pytest
import torch
from torch import nn

from occle_core.networks.occle.cross_plane import CrossPlaneSynergy, FrameFusion, PlaneAttention, plane_products

X, Y, Z, C = 5, 4, 3, 4


def test_products_are_those_of_the_planes():
    xz, xy, yz_y, yz_z = (torch.randn(2, C, *shape) for shape in ((X, Z), (X, Y), (Y, Z), (Y, Z)))
    out = plane_products(xz, xy, yz_y, yz_z)
    for b in range(2):
        for c in range(C):
            for x in range(X):
                for y in range(Y):
                    for z in range(Z):
                        expected = xz[b, c, x, z] * yz_y[b, c, y, z] + xy[b, c, x, y] * yz_z[b, c, y, z]
                        assert float(out[b, c, x, y, z]) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_torchs_multi_head_attention_column_by_column(heads):
    ours = PlaneAttention(C, heads)
    torchs = nn.MultiheadAttention(C, heads, batch_first=True)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(ours.qkv.weight)
        torchs.in_proj_bias.copy_(ours.qkv.bias)
        torchs.out_proj.weight.copy_(ours.out.weight)
        torchs.out_proj.bias.copy_(ours.out.bias)
    plane = torch.randn(2, C, Y, Z)
    out = ours(plane)
    for z in range(Z):
        tokens = plane[:, :, :, z].transpose(1, 2)
        expected, _ = torchs(tokens, tokens, tokens, need_weights=False)
        torch.testing.assert_close(out[:, :, :, z], expected.transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_synergy_step_by_step():
    """Stacks as loops over the flattened axis; which sensor gives which plane; attention along y, and along z on the transpose."""
    torch.manual_seed(0)
    synergy = CrossPlaneSynergy(C, (X, Y, Z), heads=2)
    lidar, image = torch.randn(1, C, X, Y, Z), torch.randn(1, C, X, Y, Z)

    def plane(conv, grid, axis):
        stacked = torch.cat([grid.select(axis, i)[:, c : c + 1] for c in range(C) for i in range(grid.shape[axis])], 1)
        return conv(stacked)

    xz, xy, yz = plane(synergy.lidar_xz, lidar, 3), plane(synergy.lidar_xy, lidar, 4), plane(synergy.image_yz, image, 2)
    assert xz.shape[2:] == (X, Z) and xy.shape[2:] == (X, Y) and yz.shape[2:] == (Y, Z)
    yz_y = yz + synergy.along_y(yz)
    yz_z = yz + synergy.along_z(yz.mT).mT
    expected = torch.einsum("bcxz,bcyz->bcxyz", xz, yz_y) + torch.einsum("bcxy,bcyz->bcxyz", xy, yz_z)
    torch.testing.assert_close(synergy(lidar, image), expected, atol=1e-5, rtol=1e-4)


def test_frames_are_fused_by_a_conv1d_over_time():
    fusion = FrameFusion(C, 3)
    grids = torch.randn(2, 3, C, X, Y, Z)
    sequences = grids.permute(0, 3, 4, 5, 2, 1).reshape(-1, C, 3)
    expected = fusion.conv(sequences)[..., 0].view(2, X, Y, Z, C).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(fusion(grids), expected, atol=1e-5, rtol=1e-4)

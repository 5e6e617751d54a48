# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bilinear samples of feature maps as gather and sum, which every engine converts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from occle_core.sparse.coordinates import constant


def sample_bilinear(image: Tensor, view: Tensor, uv: Tensor) -> Tensor:
    """Bilinear samples, with the image's edge pixels repeated beyond its border.

    Args:
        image: (I, C, H, W).
        view: (P, M) int64 image number; I stands for none.
        uv: (P, M, 2) position, 0..1 from border to border.

    Returns:
        (P, M, C); zeros for view I.
    """
    rows, shares = corners([image], view, uv)
    # (1, M, 4, P) -> (4, P * M)
    rows, shares = (each[0].permute(1, 2, 0).reshape(4, -1) for each in (rows, shares))
    return weighted_sum(pixels_of([image]), rows, shares).view(*view.shape, -1)


def pixels_of(images: Sequence[Tensor]) -> Tensor:
    """(I, C, H, W) of each size -> (N + 1, C): the pixels of all, and a row of zeros."""
    flat = [image.permute(0, 2, 3, 1).reshape(-1, image.shape[1]) for image in images]
    return torch.cat([*flat, flat[0].new_zeros(1, flat[0].shape[1])])


def corners(images: Sequence[Tensor], view: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each position, in the images of every size, and what they share in its bilinear sample.

    Args:
        images: (I, C, H_l, W_l) of each size.
        view: (P, M) int64 image number; I stands for none.
        uv: (P, M, 2) position, 0..1 from border to border.

    Returns:
        rows (L, M, 4, P) int32 of `pixels_of(images)`, the row of zeros for view I; shares (L, M, 4, P), a sample's sum is 1.
    """
    count = images[0].shape[0]
    sizes = [(image.shape[2], image.shape[3]) for image in images]
    begins = list(accumulate((count * height * width for height, width in sizes), initial=0))

    def per_level(values: Sequence[int]) -> Tensor:
        return constant(values, uv.device, torch.int32).view(-1, 1, 1)

    heights, widths = (per_level(edges) for edges in zip(*sizes))
    # Points last: what the processor works on in a row is then long.
    view, (u, v) = view.t().int(), uv.permute(2, 1, 0).contiguous()
    x = torch.minimum((u * widths - 0.5).clamp(min=0), (widths - 1).to(uv.dtype))
    y = torch.minimum((v * heights - 0.5).clamp(min=0), (heights - 1).to(uv.dtype))
    left, top = x.floor(), y.floor()
    fx, fy = x - left, y - top
    left, top = left.int(), top.int()
    right, bottom = torch.minimum(left + 1, widths - 1), torch.minimum(top + 1, heights - 1)
    begin = view * (heights * widths) + per_level(begins[:-1])
    upper, lower = begin + top * widths, begin + bottom * widths
    rows = torch.stack([upper + left, upper + right, lower + left, lower + right], 2)
    rows = torch.where((view < count)[:, None], rows, begins[-1])
    return rows, torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], 2)


def weighted_sum(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """(N, C), (K, P) rows, (K, P) weights -> (P, C)."""
    if torch.compiler.is_exporting():
        out = sum(features.index_select(0, some) * weight[:, None] for some, weight in zip(rows, weights))
    else:
        rows, weights = rows.t().contiguous(), weights.t().to(features.dtype).contiguous()
        out = embedding_bag(rows, features, per_sample_weights=weights, mode="sum")  # one pass over the features instead of many
    assert isinstance(out, Tensor)
    return out

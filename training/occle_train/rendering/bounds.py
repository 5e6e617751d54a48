# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pixel bounds of spheres in an image."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MARGIN = 0.01
"""Pixels by which bounds are widened: far above rounding, far below a pixel."""


def pixel_bounds(
    centers: Tensor, radii: Tensor, K: NDArray[np.float64], size: tuple[int, int], far: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The smallest box of pixels around every sphere's outline.

    Args:
        centers: (N, 3) in the camera's frame, metres.
        radii: (N,) metres.
        K: (3, 3) intrinsics; the last row is 0, 0, 1.
        size: (width, height), pixels.
        far: spheres that begin beyond this distance touch nothing.

    Returns:
        first column, first row, number of columns and of rows, 0 where the sphere is not in the image (such as around the
        camera or behind it); and the pixel row * width + column that the centre falls into, where the radius is under a
        pixel and that is in the image, else -1. All (N,) int64.
    """
    width, height = size
    # Double precision: the number of spheres is small beside that of pairs.
    x, y, z = centers.detach().double().unbind(1)
    radius = radii.detach().double()
    across, down = _slopes(x, z, radius), _slopes(y, z, radius)
    low_u, high_u = _interval(K[0], across, down)
    low_v, high_v = _interval(K[1], across, down)
    first_u, last_u = _whole(torch.ceil(low_u - MARGIN), width), _whole(torch.floor(high_u + MARGIN), width)
    first_v, last_v = _whole(torch.ceil(low_v - MARGIN), height), _whole(torch.floor(high_v + MARGIN), height)
    ahead = torch.where(z > 0, z, torch.ones_like(z))
    u = _whole(torch.floor((K[0, 0] * x + K[0, 1] * y) / ahead + K[0, 2] + 0.5), width)
    v = _whole(torch.floor((K[1, 0] * x + K[1, 1] * y) / ahead + K[1, 2] + 0.5), height)
    focal = math.sqrt(abs(float(np.linalg.det(K[:2, :2]))))
    small = (z > 0) & (radius * focal < z) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    first_u, last_u = torch.where(small, torch.minimum(first_u, u), first_u), torch.where(small, torch.maximum(last_u, u), last_u)
    first_v, last_v = torch.where(small, torch.minimum(first_v, v), first_v), torch.where(small, torch.maximum(last_v, v), last_v)
    first_u, first_v = first_u.clamp(min=0), first_v.clamp(min=0)
    columns = (last_u.clamp(max=width - 1) - first_u + 1).clamp(min=0)
    rows = (last_v.clamp(max=height - 1) - first_v + 1).clamp(min=0)
    distance = torch.sqrt(x * x + y * y + z * z)
    seen = (radius > 0) & (distance > radius) & (distance - radius <= far)
    columns, rows = torch.where(seen, columns, 0), torch.where(seen, rows, 0)
    return first_u, first_v, columns, rows, torch.where(small, v * width + u, -1)


def _slopes(side: Tensor, ahead: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest side / ahead over the part of a disc that lies ahead: tangents from the origin; low > high if none does."""
    angle, half = torch.atan2(side, ahead), torch.asin((radius / torch.hypot(side, ahead)).clamp(max=1))
    low, high = angle - half, angle + half
    around = half >= math.pi / 2
    limit = math.pi / 2 - 1e-9
    infinite = torch.full_like(angle, torch.inf)
    lowest = torch.where(around | (low <= -limit), -infinite, torch.where(low >= limit, infinite, torch.tan(low)))
    highest = torch.where(around | (high >= limit), infinite, torch.where(high <= -limit, -infinite, torch.tan(high)))
    return lowest, highest


def _interval(row: NDArray[np.float64], across: tuple[Tensor, Tensor], down: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The interval of row[0] a + row[1] b + row[2] for a, b in the intervals `across`, `down`."""
    low = high = torch.full_like(across[0], float(row[2]))
    for factor, (first, last) in zip(row.tolist(), (across, down)):
        if factor:
            # An empty interval stays empty: ends are swapped by the factor's sign, never by comparing them.
            first, last = (first, last) if factor > 0 else (last, first)
            low, high = low + factor * first, high + factor * last
    return low, high


def _whole(value: Tensor, limit: int) -> Tensor:
    """To int64, limited to -1..limit before the conversion, which infinite values would not survive."""
    return value.nan_to_num(-1.0).clamp(-1, limit).long()

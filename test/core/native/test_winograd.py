# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Winograd's filtering by its polynomials: kernels are transformed rightly, and the points round less than the usual ones."""

import numpy as np
import pytest

from occle_core.native import images
from occle_core.native.images import POINTS, WINDOW, filter_transform

USUAL = (0.0, 1.0, -1.0, 2.0, -2.0)


def other_transforms(points, tile):
    """B^T and A^T of points and infinity: coefficients of the products of (x - q), and powers of the points."""
    others = [np.poly([q for q in points if q != p])[::-1] for p in points]
    windows = np.array([*(np.append(row, 0) for row in others), np.poly(points)[::-1]])
    sums = np.array([[p**power for p in points] + [float(power == tile - 1)] for power in range(tile)])
    return windows, sums


def filtered(points, size, x, weight, kind):
    """Windows (N, WINDOW, WINDOW, C) and a kernel (size, size, C, D) -> the tiles of the convolution, computed as `kind`."""
    windows, sums = (matrix.astype(kind) for matrix in other_transforms(points, WINDOW + 1 - size))
    kernels = np.einsum("ay,bx,yxcd->abcd", filter_transform(size), filter_transform(size), weight).astype(kind)
    inner = np.einsum("bx,naxc->nabc", windows, np.einsum("ay,nyxc->naxc", windows, x.astype(kind)))
    products = np.einsum("nabc,abcd->nabd", inner, kernels)
    return np.einsum("jb,nibd->nijd", sums, np.einsum("ia,nabd->nibd", sums, products))


def direct(size, x, weight):
    tile = WINDOW + 1 - size
    parts = [x[:, y : y + tile, k : k + tile] @ weight[y, k] for y in range(size) for k in range(size)]
    return np.sum(parts, axis=0)


@pytest.mark.parametrize("size", [3, 4])
def test_the_points_are_right_and_round_less_than_the_usual_ones(monkeypatch, size):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(200, WINDOW, WINDOW, 32)), 0)
    weight = rng.normal(size=(size, size, 32, 32))
    expected = direct(size, x, weight)
    errors = []
    for points in (POINTS, USUAL):
        monkeypatch.setattr(images, "POINTS", points)
        np.testing.assert_allclose(filtered(points, size, x, weight, np.float64), expected, atol=1e-10)
        errors.append((filtered(points, size, x, weight, np.float32) - expected).std())
    assert errors[0] < 0.6 * errors[1] and errors[0] < 2e-6 * expected.std()

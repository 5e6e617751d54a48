# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The functions that engine `native` runs for a frame, by stage, and what each has to do at least.

A cost takes a function's result and its arguments; it is the floating-point operations (of the pairs of cells that exist) and the
bytes that have to move once: inputs, results and weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from occle_core.native import decoder
from occle_core.native.cells import Cells
from occle_core.native.conv import Pairs
from occle_core.native.images import WINDOW, Kernel, Stack, uses_winograd
from occle_core.networks.minkocc import inputs, native_images, native_network, native_unet

Cost = tuple[float, float]
"""Operations, bytes."""


def nothing(result: object, *args: object) -> Cost:
    """Of what has no floor."""
    return 0.0, 0.0


def moved(result: Any, *args: Any) -> Cost:
    """The bytes of the arrays among arguments and result."""
    return 0.0, sum(_bytes(part) for part in (result, *args))


def _bytes(part: Any) -> float:
    if isinstance(part, (np.ndarray, Tensor)):
        return float(part.nbytes)
    if isinstance(part, Cells):
        return float(part.keys.nbytes)
    if isinstance(part, (tuple, list)):
        return sum(_bytes(one) for one in part)
    return 6.0 * count_pairs(part) if isinstance(part, Pairs) else 0.0


def resize_cost(result: Any, images: Any, config: Any) -> Cost:
    """A multiplication and an addition per channel of a source pixel along x, and of a half-made one along y."""
    across = sum(image.size for image in images if image is not None)
    down = sum(image.shape[0] * config.image.width * 3 for image in images if image is not None)
    return 2.0 * (across + down), float(across + result.nbytes)


def fuse_cost(result: Any, space: Any, points: Any, pyramid: Any, view: Any, uv: Any, score: Any) -> Cost:
    """Of every sample of a point: four pixels mixed, the score, the share of the sum. The pyramid moves once."""
    samples = int(((view >= 0) & (view < len(pyramid[0]))).sum()) * len(pyramid)
    return 11.0 * samples * len(score.weight), moved(result, points, pyramid, view, uv)[1]


def encode_cost(result: Any, space: Any, points: Any, table: Any, weights: Any) -> Cost:
    """Two linear layers per point, and a part of the second per voxel."""
    (inputs_, width), kept = weights.first.shape, int((table < len(points)).sum())
    flops = 2.0 * width * (kept * (inputs_ + width) + len(table) * width)
    return flops, moved(result, points, table)[1]


def linear_cost(result: Any, space: Any, x: Any, weight: Any, relu: bool = False) -> Cost:
    """A product of all rows."""
    return 2.0 * len(x) * weight.channels * len(weight.bias), moved(result, x, weight.weight)[1]


def convolve_cost(result: Any, space: Any, x: Any, weight: Any, pairs: Any, relu: bool = False) -> Cost:
    """A product of every pair of cells."""
    return 2.0 * count_pairs(pairs) * weight.channels * len(weight.bias), moved(result, x, weight.weight, pairs)[1]


def finest_cost(result: Any, space: Any, cells: Any, x: Any, up: Any, skip: Any, more: Any, head: Any) -> Cost:
    """Children's features and logits; those that are pruned are never written."""
    flops = 2.0 * len(cells) * up.channels * len(up.bias) + 2.0 * len(cells) * len(up.bias)
    return flops, moved(result, cells, x, up.weight, skip, more)[1]


def labels_cost(result: Any, space: Any, cells: Any, x: Any, head: Any, free: int) -> Cost:
    """The head's product and a softmax's sum, some ten operations a logit."""
    logits = len(x) * len(head.bias)
    return 2.0 * head.channels * logits + 10.0 * logits, moved(result, cells, x, head.weight)[1]


def image_cost(result: Any, space: Any, x: Stack, kernel: Kernel, out: Stack, more: Any = None, relu: bool = False) -> Cost:
    """A direct convolution's operations, or the products of Winograd's windows without his own sums."""
    images, height, width, _ = kernel.shape_of(x)
    flops = 2.0 * images * height * width * kernel.direct.size
    if kernel.winograd is not None and uses_winograd(x, kernel, out, more):
        tile = WINDOW + 1 - kernel.size
        flops = 2.0 * images * -(-height // tile) * -(-width // tile) * kernel.winograd.size
    moved_ = float(sum(part.nbytes for part in (x.array, kernel.direct, out.array, *([more.array] if more else []))))
    return flops, moved_


def largest_cost(result: Any, space: Any, x: Stack, out: Stack) -> Cost:
    """Nine numbers compared for one."""
    return 9.0 * out.array.size, float(x.array.nbytes + out.array.nbytes)


def look_up_cost(result: Any, space: Any, images: Any, table: Any, out: Stack) -> Cost:
    """Bytes become floats."""
    return 0.0, float(images.nbytes + out.array.nbytes)


def count_pairs(pairs: Pairs) -> int:
    """Pairs of cells that exist."""
    return int(pairs.starts.reshape(-1, pairs.kernel + 1)[:, -1].sum())


RECORDED: list[tuple[Any, str, str, Callable[..., Cost]]] = [
    (inputs, "prepare_images", "prepare", resize_cost),
    (inputs, "drop_own_vehicle", "prepare", moved),
    (inputs, "transform_points", "prepare", moved),
    (inputs, "voxelise", "prepare", moved),
    (inputs, "choose_views", "prepare", moved),
    (inputs, "point_features", "prepare", moved),
    (native_images, "look_up", "image branch", look_up_cost),
    (native_images, "convolve", "image branch", image_cost),
    (native_images, "largest", "image branch", largest_cost),
    (native_network, "cells_of", "points", moved),
    (native_network, "fuse", "points", fuse_cost),
    (native_network, "encode", "points", encode_cost),
    (native_network, "labels", "output", labels_cost),
    (native_unet, "convolve", "3D products", convolve_cost),
    (native_unet, "linear", "3D products", linear_cost),
    (native_unet, "finest", "3D products", finest_cost),
    (native_unet, "excite", "3D cells", lambda _, space, y, x, weights: (5.0 * y.size, 4.0 * 3 * y.size)),
    (native_unet, "strided", "3D cells", moved),
    (native_unet, "grown", "3D cells", moved),
    (native_unet, "add_at", "3D cells", moved),
    (native_unet, "children", "3D cells", moved),
    (native_unet, "unite", "3D cells", moved),
    (native_unet, "prune", "3D cells", moved),
    (decoder, "children", "3D cells", moved),
    (Cells, "neighbours", "3D cells", moved),
]
"""Module or class, function, stage ("3D" becomes the half of the UNet that it is in) and costs."""

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Tensor splits that every export format knows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def split_by_slices(tensor: Tensor, sizes: Sequence[int], dim: int) -> list[Tensor]:
    """Split a tensor by slices, because exported `Tensor.split`s are sequences of tensors, which TensorRT does not know."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [tensor.narrow(dim, start, size) for start, size in zip(starts, sizes)]

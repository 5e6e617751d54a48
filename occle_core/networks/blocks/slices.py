"""A tensor in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def split_by_slices(tensor: Tensor, sizes: Sequence[int], dim: int) -> list[Tensor]:
    """As `Tensor.split`, but made of slices: exported splits are sequences of tensors, which TensorRT does not know."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [tensor.narrow(dim, start, size) for start, size in zip(starts, sizes)]

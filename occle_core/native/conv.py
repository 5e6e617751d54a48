"""Sparse convolutions on compiled kernels: pairs of rows, and weights in the layout of the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.native.library import Library, address
from occle_core.native.workspace import Workspace

Floats = NDArray[np.float32]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which input rows meet which output rows under which kernel offset, by tiles of output rows.

    Attributes:
        inputs, outputs: how many rows there are.
        kernel: offsets.
        source: int32 input rows, target: uint16 output rows within the tile, starts: int32; see conv.cpp.
    """

    inputs: int
    outputs: int
    kernel: int
    source: Int32
    target: NDArray[np.uint16]
    starts: Int32

    @classmethod
    def empty(cls, space: Workspace, inputs: int, outputs: int, kernel: int) -> Pairs:
        """With room for all pairs that there can be."""
        tiles = -(-outputs // space.library.tile_rows)
        room = tiles * space.library.call("pairs_region", kernel)
        source, target = space.empty(np.int32, room), space.empty(np.uint16, room)
        return cls(inputs, outputs, kernel, source, target, space.empty(np.int32, tiles * (kernel + 1)))

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Of source, target and starts."""
        return (
            address(self.source, np.int32, None),
            address(self.target, np.uint16, len(self.source)),
            address(self.starts, np.int32, None),
        )


class Weight:
    """A kernel of K matrices and its bias, output channels padded with zeros to whole vectors.

    Args:
        library: the kernels that it is for.
        weight: (K, C, D) float.
        bias: (D,); None stands for zeros.
        fill: the padding's bias.
    """

    def __init__(self, library: Library, weight: ArrayLike, bias: ArrayLike | None = None, fill: float = 0.0) -> None:
        source = np.asarray(weight, np.float32)
        self.kernel, self.channels, self.width = source.shape
        self.weight: Floats = np.zeros((self.kernel, self.channels, library.padded(self.width)), np.float32)
        self.weight[:, :, : self.width] = source
        self.bias: Floats = np.full(self.weight.shape[2], fill, np.float32)
        self.bias[: self.width] = 0 if bias is None else np.asarray(bias, np.float32)


def padded_rows(library: Library, matrix: Any) -> Floats:
    """(N, C) float -> (N, C rounded up to whole vectors), zeros behind."""
    rows = np.asarray(matrix, np.float32)
    out: Floats = np.zeros((len(rows), library.padded(rows.shape[1])), np.float32)
    out[:, : rows.shape[1]] = rows
    return out


def pairs_of_table(space: Workspace, table: Int32, keys: Int32, steps: Int32, inputs: int) -> Pairs:
    """Pairs of cells with the cells that are `steps` away from them.

    Args:
        table: (cells,) rows of the input by key, negative where there is none.
        keys: (M,) of the output's cells, whose steps all lie in the table.
        steps: (K,) from a key to its neighbours'.
        inputs: rows of the input.
    """
    pairs = Pairs.empty(space, inputs, len(keys), len(steps))
    space.library.call(
        "pairs_of_table",
        space.pool.handle,
        address(table, np.int32, None),
        address(keys, np.int32, None),
        len(keys),
        address(steps, np.int32, None),
        len(steps),
        *pairs.addresses,
    )
    return pairs


def pairs_of_map(space: Workspace, rows: Int32, inputs: int) -> Pairs:
    """Pairs of a map (M, K) of input rows; numbers that are no row stand for none."""
    pairs = Pairs.empty(space, inputs, *rows.shape)
    where = address(rows, np.int32, None, None)
    space.library.call("pairs_of_map", space.pool.handle, where, *rows.shape, inputs, *pairs.addresses)
    return pairs


def convolve(space: Workspace, x: Floats, weight: Weight, pairs: Pairs, relu: bool = False) -> Floats:
    """act(bias + sum over an output's pairs of x[source] @ weight[offset]): (inputs, C or more) -> (outputs, padded D)."""
    _check(x, weight, pairs.inputs, pairs.kernel)
    out = space.empty(np.float32, pairs.outputs, len(weight.bias))
    space.library.call(
        "convolve",
        space.pool.handle,
        address(x, np.float32, pairs.inputs, None),
        x.shape[1],
        weight.channels,
        address(weight.weight, np.float32, pairs.kernel, weight.channels, len(weight.bias)),
        pairs.kernel,
        len(weight.bias),
        *pairs.addresses,
        pairs.outputs,
        address(weight.bias, np.float32, None),
        relu,
        address(out, np.float32, pairs.outputs, None),
    )
    return out


def linear(space: Workspace, x: Floats, weight: Weight, relu: bool = False) -> Floats:
    """act(x @ weight[0] + bias): (N, C or more) -> (N, padded D)."""
    _check(x, weight, len(x), 1)
    out = space.empty(np.float32, len(x), len(weight.bias))
    space.library.call(
        "linear",
        space.pool.handle,
        address(x, np.float32, None, None),
        x.shape[1],
        len(x),
        weight.channels,
        address(weight.weight, np.float32, 1, weight.channels, len(weight.bias)),
        len(weight.bias),
        address(weight.bias, np.float32, None),
        relu,
        address(out, np.float32, None, None),
    )
    return out


def _check(x: Floats, weight: Weight, inputs: int, kernel: int) -> None:
    if x.ndim != 2 or len(x) != inputs or x.shape[1] < weight.channels or weight.kernel != kernel:
        raise ValueError(
            f"features {x.shape} and a weight of {weight.kernel} offsets and {weight.channels} channels do not fit "
            f"{inputs} rows and {kernel} offsets"
        )

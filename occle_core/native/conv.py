# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions on compiled kernels: pairs of rows, and weights in the layout of the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
    def empty(cls, space: Workspace, inputs: int, outputs: int, kernel: int, kept: bool) -> Pairs:
        """With room for all pairs that there can be; `kept` ones outlive the frame."""
        tiles = -(-outputs // space.library.tile_rows)
        room, starts = tiles * space.library.constant("pairs_region", kernel), tiles * (kernel + 1)
        if kept:
            return cls(inputs, outputs, kernel, np.empty(room, np.int32), np.empty(room, np.uint16), np.empty(starts, np.int32))
        source, target = space.empty(np.int32, room), space.empty(np.uint16, room)
        return cls(inputs, outputs, kernel, source, target, space.empty(np.int32, starts))

    @cached_property
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

    @classmethod
    def of_whole_vectors(cls, weight: Floats) -> Weight:
        """A weight (K, C, D) without bias whose D is a multiple of the vector; it is not copied."""
        new = cls.__new__(cls)
        new.kernel, new.channels, new.width = weight.shape
        new.weight, new.bias = weight, np.zeros(new.width, np.float32)
        return new

    @cached_property
    def addresses(self) -> tuple[int, int]:
        """Of weight and bias."""
        depth = len(self.bias)
        where = address(self.weight, np.float32, self.kernel, self.channels, depth)
        return where, address(self.bias, np.float32, depth)


def pairs_of_cells(space: Workspace, table: Int32, sources: Int32, keys: Int32, steps: Int32, kept: bool = False) -> Pairs:
    """Pairs of cells with those among the sources that are `steps` away from them.

    Args:
        table: (cells,) of the level, negative everywhere before and after.
        sources: (N,) keys of the input's cells.
        keys: (M,) of the output's cells, whose steps all lie in the table.
        steps: (K,) from a key to its neighbours'.
        kept: whether the pairs outlive the frame.
    """
    pairs = Pairs.empty(space, len(sources), len(keys), len(steps), kept)
    space.library.call(
        "pairs_of_cells",
        space.pool.handle,
        address(table, np.int32, None),
        address(sources, np.int32, None),
        len(sources),
        address(keys, np.int32, None),
        len(keys),
        address(steps, np.int32, None),
        len(steps),
        *pairs.addresses,
    )
    return pairs


def pairs_of_map(space: Workspace, rows: Int32, inputs: int, kept: bool = False) -> Pairs:
    """Pairs of a map (M, K) of input rows; numbers that are no row stand for none."""
    pairs = Pairs.empty(space, inputs, rows.shape[0], rows.shape[1], kept)
    where = address(rows, np.int32, None, None)
    space.library.call("pairs_of_map", space.pool.handle, where, *rows.shape, inputs, *pairs.addresses)
    return pairs


def turned(space: Workspace, rows: Int32, inputs: int) -> Int32:
    """A map (M, K) with inputs and outputs exchanged: (inputs, K) output rows, -1 for none; under an offset no input meets two."""
    out = space.empty(np.int32, inputs, rows.shape[1])
    where = address(rows, np.int32, None, None)
    space.library.call("turned_map", where, *rows.shape, inputs, address(out, np.int32, inputs, rows.shape[1]))
    return out


def convolve(space: Workspace, x: Floats, weight: Weight, pairs: Pairs, relu: bool = False, out: Floats | None = None) -> Floats:
    """act(bias + sum over an output's pairs of x[source] @ weight[offset]): (inputs, C or more) -> (outputs, padded D).

    `out` is the result's memory; None takes the workspace's.
    """
    check(x, weight, pairs.inputs, pairs.kernel)
    if out is None:
        out = space.empty(np.float32, pairs.outputs, len(weight.bias))
    weights, bias = weight.addresses
    space.library.call(
        "convolve",
        space.pool.handle,
        address(x, np.float32, pairs.inputs, None),
        x.shape[1],
        weight.channels,
        weights,
        pairs.kernel,
        len(weight.bias),
        *pairs.addresses,
        pairs.outputs,
        bias,
        relu,
        address(out, np.float32, pairs.outputs, len(weight.bias)),
    )
    return out


def correlate(space: Workspace, x: Floats, grad: Floats, pairs: Pairs) -> Floats:
    """Every offset's sum over pairs of x[source]^T grad[target]: (inputs, C), (outputs, D) -> (K, C, D), the caller's own."""
    (rows, channels), width = x.shape, grad.shape[1]
    if rows != pairs.inputs or width % space.library.lanes:
        raise ValueError(f"features {x.shape} and gradients {grad.shape} do not fit {pairs.inputs} rows and whole vectors")
    out = np.empty((pairs.kernel, channels, width), np.float32)
    space.library.call(
        "correlate",
        space.pool.handle,
        address(x, np.float32, rows, channels),
        channels,
        address(grad, np.float32, pairs.outputs, width),
        width,
        pairs.kernel,
        *pairs.addresses,
        pairs.outputs,
        address(out, np.float32, None, None, None),
    )
    return out


def linear(space: Workspace, x: Floats, weight: Weight, relu: bool = False) -> Floats:
    """act(x @ weight[0] + bias): (N, C or more) -> (N, padded D)."""
    check(x, weight, len(x), 1)
    out = space.empty(np.float32, len(x), len(weight.bias))
    weights, bias = weight.addresses
    space.library.call(
        "linear",
        space.pool.handle,
        address(x, np.float32, None, None),
        x.shape[1],
        len(x),
        weight.channels,
        weights,
        len(weight.bias),
        bias,
        relu,
        address(out, np.float32, None, None),
    )
    return out


def check(x: Floats, weight: Weight, inputs: int, kernel: int) -> None:
    """Raise ValueError where features do not fit a weight, its kernel or a number of rows."""
    if x.ndim != 2 or len(x) != inputs or x.shape[1] < weight.channels or weight.kernel != kernel:
        raise ValueError(
            f"features {x.shape} and a weight of {weight.kernel} offsets and {weight.channels} channels do not fit "
            f"{inputs} rows and {kernel} offsets"
        )

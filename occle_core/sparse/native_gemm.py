# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The gather-GEMM on CPUs as a compiled kernel (see occle_core/native/src/conv.cpp), with gradients: for training on CPUs.

`gather_gemm.py` and `runs.py` keep PyTorch's ways for other types and widths, and for machines without the library.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from occle_core.console import ProgressCallback
from occle_core.errors import EngineError
from occle_core.native.cells import keys_of as native_keys
from occle_core.native.cells import strided_keys
from occle_core.native.conv import Pairs, Weight, convolve, correlate, pairs_of_cells, pairs_of_map, turned
from occle_core.native.library import Library, load, loaded
from occle_core.native.workspace import Workspace

_OWN = threading.local()
_switch = {"on": False}


@contextmanager
def use_kernels(on: bool = True) -> Iterator[None]:
    """Inside the block the sparse layers of this process run on compiled kernels, once the library is loaded; or, off, on PyTorch.

    They differ from PyTorch's own way by rounding, so engine `torch`, the reference of all others, never turns them on.
    """
    before, _switch["on"] = _switch["on"], on
    try:
        yield
    finally:
        _switch["on"] = before


@contextmanager
def compiled_kernels(device: str, on_progress: ProgressCallback) -> Iterator[None]:
    """Inside the block the layers train on compiled kernels on a CPU, built the first time; without a compiler, on PyTorch."""
    if device == "cpu":
        try:
            load(on_progress)
        except EngineError as error:
            on_progress(f"continues without compiled kernels: {error}")
    with use_kernels(device == "cpu"):
        yield


def _library() -> Library | None:
    return loaded() if _switch["on"] else None


def workspace() -> Workspace | None:
    """This thread's, with PyTorch's number of threads; None where the layers do not use the kernels."""
    library = _library()
    if library is None:
        return None
    threads = torch.get_num_threads()
    space: Workspace | None = getattr(_OWN, "space", None)
    if space is None or space.library is not library or space.pool.threads != threads:
        space = _OWN.space = Workspace(library, threads)
    return space


def available(features: Tensor, weight: Tensor) -> bool:
    """Whether the kernel runs on these: float32 on a CPU, outside of autocast and exports, channels in whole vectors."""
    if features.device.type != "cpu" or not features.dtype == weight.dtype == torch.float32:
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting():
        return False
    library = _library()
    return library is not None and not any(channels % library.lanes for channels in weight.shape[1:])


def keys_of(coords: Tensor, shape: tuple[int, int, int], grids: int) -> Tensor | None:
    """Keys (N,) int64 of cells (N, 4); None without the library, or where a cell lies outside or stands twice."""
    space = workspace() if coords.device.type == "cpu" else None
    if space is None or not 0 < grids * math.prod(size + 2 for size in shape) < 2**31:
        return None
    with space.frame():
        keys, wrong = native_keys(space, coords.long().contiguous().numpy(), shape, grids)
        return torch.from_numpy(keys.astype(np.int64)) if wrong is None else None


def pairs_of_keys(keys: Tensor, strides: tuple[int, int, int], cells: int) -> Pairs | None:
    """Pairs of a submanifold 3 x 3 x 3 convolution of cells in padded boxes (see Coordinates); None without the library."""
    space = workspace()
    if space is None or cells >= 2**31:
        return None
    steps = [x * strides[0] + y * strides[1] + z for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    own = keys.numpy().astype(np.int32)
    with space.frame():
        return pairs_of_cells(space, space.table(cells), own, own, np.array(steps, np.int32), kept=True)


def strided(keys: Tensor, shape: tuple[int, int, int], grids: int) -> tuple[Tensor, Tensor] | None:
    """Keys (M,) int64 of the coarser cells and (M, 8) int32 fine rows under each, of kernel 2, stride 2; None: no library."""
    space = workspace() if keys.device.type == "cpu" else None
    x, y, z = (size + 2 for size in shape)
    if space is None or grids * x * y * z >= 2**31:
        return None
    a, b, c = ((size + 1) // 2 + 2 for size in shape)
    with space.frame():
        made, rows = strided_keys(space, keys.numpy().astype(np.int32), (x, y, z), (a, b, c), grids, len(keys))
        return torch.from_numpy(made.astype(np.int64)), torch.from_numpy(rows.copy())


def pairs_of_rows(rows: Tensor, size: int) -> Pairs:
    """Pairs of a map (M, K) int32 of an input with `size` rows, made once for all layers that share the tensor."""
    if rows not in _KNOWN:
        _KNOWN[rows] = _pairs(np.ascontiguousarray(rows.numpy()), size)
    known: Pairs = _KNOWN[rows]
    return known


_KNOWN, _TURNED = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()


def multiply(features: Tensor, weight: Tensor, pairs: Pairs, rows: Tensor | None = None) -> Tensor:
    """Every output's sum over its pairs of features[source] @ weight[offset]; differentiable once in features and weight.

    Args:
        features: (N, C), weight: (K, C, D); see `available`.
        pairs: of the map.
        rows: the map; None stands for a submanifold one, where j is i's k-th neighbour exactly if i is j's (K-1-k)-th.
    """
    out: Tensor = _Multiply.apply(features, weight, pairs, rows)  # type: ignore[no-untyped-call]
    return out


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: Pairs, rows: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs, ctx.rows = pairs, rows  # type: ignore[attr-defined]
        return _product(features, weight, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        pairs: Pairs = ctx.pairs  # type: ignore[attr-defined]
        needs_features, needs_weight, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_features: Tensor | None = None
        grad_weight: Tensor | None = None
        if needs_features:
            transposed = weight.transpose(1, 2)
            rows: Tensor | None = ctx.rows  # type: ignore[attr-defined]
            if rows is None:
                grad_features = _product(grad, transposed.flip(0), pairs)
            else:
                grad_features = _product(grad, transposed, _turned(rows, len(features)))
        if needs_weight:
            found = correlate(_space(), _rows(features), _rows(grad), pairs)
            grad_weight = torch.from_numpy(found)
        return grad_features, grad_weight, None, None


def _space() -> Workspace:
    space = workspace()
    assert space is not None  # `available` was asked before
    return space


def _rows(tensor: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = tensor.detach().contiguous().numpy()
    return rows


def _product(features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    out = torch.empty(pairs.outputs, weight.shape[2])
    packed = Weight.of_whole_vectors(_rows(weight))
    convolve(_space(), _rows(features), packed, pairs, out=out.numpy())
    return out


def _turned(rows: Tensor, size: int) -> Pairs:
    """The pairs of a map with inputs and outputs exchanged: under one offset no input row meets two outputs."""
    if rows not in _TURNED:
        space = _space()
        with space.frame():
            _TURNED[rows] = pairs_of_map(space, turned(space, np.ascontiguousarray(rows.numpy()), size), len(rows), kept=True)
    known: Pairs = _TURNED[rows]
    return known


def _pairs(rows: NDArray[np.int32], size: int) -> Pairs:
    space = _space()
    with space.frame():
        return pairs_of_map(space, rows, size, kept=True)

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkowskiEngine as the engine of sparse convolutions in training: `sparse_backend: minkowski`.

The parameters stay where they are, weight for weight, so that checkpoints and bundles are the same with either engine. How to
build MinkowskiEngine, and what to expect of it: docs/how_to/minkowski.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, SubmanifoldConv3d
from occle_core.sparse.coordinates import Coordinates

Layer = SubmanifoldConv3d | StridedConv3d | GenerativeConvTranspose3d

_Levels = WeakKeyDictionary[Coordinates, tuple[Any, Any]]
"""MinkowskiEngine's manager and key of cells that convolutions have read: neighbours are looked up once per level, as in occle."""


@contextmanager
def use_minkowski(network: nn.Module) -> Iterator[None]:
    """Inside the block, MinkowskiEngine computes all sparse convolutions of a network, forward and backward.

    Which cells a layer makes, and their order, stays occle's. Layers with a kernel of one cell are a plain matrix product and
    stay as they are, and a tensor without any cell, which MinkowskiEngine refuses, takes occle's own path.

    Raises:
        ModuleNotFoundError: MinkowskiEngine is not installed.
    """
    engine, levels = _engine(), _Levels()
    layers = [m for m in network.modules() if isinstance(m, Layer) and m.kernel_size > 1]
    try:
        for layer in layers:
            # An attribute of the instance stands before the class's method, and its removal brings that back.
            object.__setattr__(layer, "forward", functools.partial(_forward, engine, levels, layer, layer.forward))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def minkowski_order(kernel_size: int) -> Tensor:
    """(K^3,) which of our offsets each of MinkowskiEngine's is: weight_minkowski = weight[minkowski_order(k)].

    Ours run in C order (z fastest), MinkowskiEngine's with x fastest: its number i = x + k y + k^2 z is our k^2 x + k y + z.
    The permutation is its own inverse.
    """
    return torch.arange(kernel_size**3).view(kernel_size, kernel_size, kernel_size).permute(2, 1, 0).reshape(-1)


def _engine() -> ModuleType:
    try:
        import MinkowskiEngine
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sparse_backend: minkowski needs MinkowskiEngine 0.5.4: see docs/how_to/minkowski.md, or set sparse_backend: occle"
        ) from error
    module: ModuleType = MinkowskiEngine
    return module


def _forward(
    engine: ModuleType, levels: _Levels, layer: Layer, own: Callable[[SparseTensor], SparseTensor], x: SparseTensor
) -> SparseTensor:
    """A layer's forward: cells by occle, features by MinkowskiEngine."""
    if not len(x):
        return own(x)
    stride = 1 if isinstance(layer, SubmanifoldConv3d) else layer.stride
    made = _made(layer, x.coordinates)
    if isinstance(layer, GenerativeConvTranspose3d):
        # MinkowskiEngine counts cells in steps of the finest level that a manager knows: here the output's.
        manager, target = _insert(engine, _manager(engine, x.features), made, 1)
        manager, source = _insert(engine, manager, x.coordinates, stride)
        function = engine.MinkowskiConvolutionTransposeFunction
    else:
        if x.coordinates not in levels:
            levels[x.coordinates] = _insert(engine, _manager(engine, x.features), x.coordinates, 1)
        manager, source = levels[x.coordinates]
        target = source if made is x.coordinates else _insert(engine, manager, made, stride)[1]
        function = engine.MinkowskiConvolutionFunction
    weight = layer.weight[minkowski_order(layer.kernel_size).to(layer.weight.device)]
    generator = engine.KernelGenerator(kernel_size=layer.kernel_size, stride=stride, dimension=3)
    mode = import_module("MinkowskiEngineBackend._C").ConvolutionMode.DEFAULT  # not among the names that the package shows
    features: Tensor = function.apply(x.features, weight, generator, mode, source, target, manager)
    return SparseTensor.at(made, features if layer.bias is None else features + layer.bias)


def _made(layer: Layer, source: Coordinates) -> Coordinates:
    """The cells of a layer's output."""
    if isinstance(layer, SubmanifoldConv3d):
        return source
    if isinstance(layer, StridedConv3d):
        return source.strided(layer.kernel_size, layer.stride)[0]
    return source.children() if layer.kernel_size == layer.stride == 2 else source.transposed(layer.kernel_size, layer.stride)[0]


def _insert(engine: ModuleType, manager: Any, cells: Coordinates, tensor_stride: int) -> tuple[Any, Any]:
    """Insert a level's cells, `tensor_stride` of its finest cells wide, into a manager. Returns the manager and the level's key."""
    coords = cells.coords * torch.tensor([1, *[tensor_stride] * 3], device=cells.keys.device)
    key, _ = manager.insert_and_map(coords.int().contiguous(), [tensor_stride] * 3, "")
    return manager, key


def _manager(engine: ModuleType, features: Tensor) -> Any:
    kinds = engine.CoordinateMapType
    return engine.CoordinateManager(D=3, coordinate_map_type=kinds.CUDA if features.is_cuda else kinds.CPU)

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roofline of engine `native`: a frame's operations, stage by stage, against the best that this processor does.

The functions that call kernels are replaced by ones that take the time, the floating-point operations (of the pairs of cells that
exist) and the bytes that have to move once: inputs, results and weights. A function within another is taken out of its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.engines.native_engine import native_engine
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.native import decoder
from occle_core.native.cells import Cells
from occle_core.native.conv import Pairs
from occle_core.native.images import WINDOW, Kernel, Stack, uses_winograd
from occle_core.networks.minkocc import inputs, native_images, native_network, native_unet
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc

RUNS = 40
ROWS = 4096
SHORT = 0.1
"""Milliseconds of an operation that has no row of its own."""
Cost = tuple[float, float]


@dataclass
class Operation:
    """One call in a frame: its stage and name, operations, bytes, channels in and out, and milliseconds in each run."""

    stage: str
    name: str
    flops: float
    size: float
    widths: tuple[int, int] | None = None
    times: list[float] = field(default_factory=list)

    def at_best(self, flops: float, copy: float) -> float:
        """Milliseconds at `flops` operations and `copy` bytes a second, the longer of the two."""
        return max(self.flops / flops, self.size / copy) * 1e3

    @property
    def fastest(self) -> float:
        """Milliseconds of the fastest run: other work on the machine only adds."""
        return min(self.times)


class Recorder:
    """Times calls in the order in which a frame makes them, which is always the same for the same frame."""

    def __init__(self, threads: int) -> None:
        # One thread's own time leaves out other work on the machine.
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self.operations: list[Operation] = []
        self.wholes: list[float] = []
        self._next = 0
        self._within: list[float] = []
        self._decodes = False

    def run(self, frame: Callable[[], object]) -> None:
        """One frame; the first run counts and is not timed."""
        counted = bool(self.operations)
        self._next, self._within, self._decodes = 0, [0.0], False
        began = self._clock()
        frame()
        if counted:
            self.wholes.append((self._clock() - began) * 1e3)
        else:
            for operation in self.operations:
                operation.times.clear()

    def timed(self, stage: str, name: str, function: Callable[..., Any], cost: Callable[..., Cost]) -> Callable[..., Any]:
        """The function, recorded; `cost` gets its result and its arguments. "3D" becomes the half of the UNet that it is in."""

        def call(*args: Any, **options: Any) -> Any:
            position = self._next
            self._next += 1
            if position == len(self.operations):
                self.operations.append(Operation("", "", 0, 0))
            self._within.append(0.0)
            began = self._clock()
            result = function(*args, **options)
            took = self._clock() - began
            own = self.operations[position]
            own.times.append((took - self._within.pop()) * 1e3)
            self._within[-1] += took
            if not own.name:
                half = "decoder" if self._decodes else "encoder"
                own.stage, own.name = stage.replace("3D", f"3D {half}"), _label(name, args, result)
                own.flops, own.size = cost(result, *args)
                if name in ("convolve", "linear"):
                    own.widths = (args[2].channels, len(args[2].bias))
            self._decodes = self._decodes or name == "grown"
            return result

        return call


def measure(spec: BundleSpec, network: MinkOcc, dataset: Dataset, threads: int) -> Recorder:
    """Frame 0 of a data set, from sensors to labels."""
    engine = native_engine(spec, network, threads, 1, print)
    frame, found = dataset.frame(0), Recorder(threads)
    assert isinstance(spec.network, MinkOccConfig)
    config: MinkOccConfig = spec.network
    with recorded(found), torch.inference_mode():
        for _ in range(RUNS + 1):
            found.run(lambda: engine.run(_prepare(found, frame, spec.voxel_grid, config)))
    return found


def _prepare(found: Recorder, frame: Frame, grid: VoxelGrid, config: MinkOccConfig) -> Any:
    """`prepare`, whose rest outside of its own parts is recorded too."""
    return found.timed("prepare", "the rest", inputs.prepare, nothing)(frame, grid, config)


def tables(found: Recorder, flops: float, copy: float, layers: bool) -> list[Table]:
    """A row per stage, and with `layers` one per operation: what was measured, and what `flops` and `copy` a second would allow."""
    shown = Table("stage", "ms", "GFLOP", "MB", "GFLOP/s", "at best, ms", "reached", title="by stage")
    stages: dict[str, list[Operation]] = {}
    for operation in found.operations:
        stages.setdefault(operation.stage, []).append(operation)
    for name, parts in (*stages.items(), ("all", found.operations)):
        took, best = sum(part.fastest for part in parts), sum(part.at_best(flops, copy) for part in parts)
        operations, size = sum(part.flops for part in parts), sum(part.size for part in parts)
        rate = operations / took / 1e6
        shown.add_row(
            name,
            *(f"{took:.1f}", f"{operations / 1e9:.2f}", f"{size / 1e6:.0f}"),
            *(f"{rate:.0f}" if rate > 5 else "", f"{best:.1f}", f"{best / took:.0%}"),
        )
    shown.caption = f"the whole frame at once: {min(found.wholes):.1f} ms at least, {np.median(found.wholes):.1f} median"
    if not layers:
        return [shown]
    each = Table("stage", "operation", "ms", "GFLOP/s", "GB/s", "reached", "GEMM of that width, GFLOP/s", title="by operation")
    for part in found.operations:
        if part.fastest > SHORT:
            rate, width = part.flops / part.fastest / 1e6, f"{gemm_flops(*part.widths) / 1e9:.0f}" if part.widths else ""
            each.add_row(
                *(part.stage, part.name, f"{part.fastest:.2f}", f"{rate:.0f}" if rate > 5 else ""),
                *(f"{part.size / part.fastest / 1e6:.1f}", f"{part.at_best(flops, copy) / part.fastest:.0%}", width),
            )
    return [shown, each]


@lru_cache
def gemm_flops(channels: int, width: int) -> float:
    """Operations a second of PyTorch's product of many rows with a (channels, width) matrix."""
    x, weight = torch.randn(ROWS, channels), torch.randn(channels, width)
    return 2.0 * ROWS * channels * width / fastest(lambda: x @ weight, 2 * RUNS)


def fastest(run: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


@contextmanager
def recorded(found: Recorder) -> Iterator[None]:
    """Within it the functions that a frame calls are recorded."""
    parts: list[tuple[Any, str, str, Callable[..., Cost]]] = [
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
    with ExitStack() as stack:
        for owner, name, stage, cost in parts:
            stack.enter_context(patch.object(owner, name, found.timed(stage, name, getattr(owner, name), cost)))
        yield


def _label(name: str, args: tuple[Any, ...], result: Any) -> str:
    """A convolution's channels, cells and pairs stand behind its name."""
    if name not in ("convolve", "linear"):
        return name
    weight = args[2]
    if isinstance(weight, Kernel):
        images, height, width, channels = weight.shape_of(args[1])
        how = ", Winograd" if uses_winograd(*args[1:4], args[4] if len(args) > 4 else None) else ""
        return f"{weight.size} x {weight.size}, {weight.channels} to {channels}, {images} x {height} x {width} pixels{how}"
    text = f"{name} {weight.channels} to {len(weight.bias)}, {len(result)} rows"
    return f"{text}, {_count(args[3]) / max(1, len(result)):.1f} of {weight.kernel} pairs a row" if name == "convolve" else text


def _count(pairs: Pairs) -> int:
    return int(pairs.starts.reshape(-1, pairs.kernel + 1)[:, -1].sum())


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
    return 6.0 * _count(part) if isinstance(part, Pairs) else 0.0


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
    return 2.0 * _count(pairs) * weight.channels * len(weight.bias), moved(result, x, weight.weight, pairs)[1]


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

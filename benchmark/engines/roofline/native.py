# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roofline of engine `native`: a frame's operations, stage by stage, against the best that this processor does.

The functions that call kernels are replaced by ones that take the time and the costs of `native_costs`. A function within another
is taken out of its time.
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

from benchmark.engines.roofline.native_costs import RECORDED, Cost, count_pairs, nothing
from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.engines.native_engine import native_engine
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.native.images import Kernel, uses_winograd
from occle_core.networks.minkocc import inputs
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc

RUNS = 40
ROWS = 4096
SHORT = 0.1
"""Milliseconds of an operation that has no row of its own."""


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
    with ExitStack() as stack:
        for owner, name, stage, cost in RECORDED:
            stack.enter_context(patch.object(owner, name, found.timed(stage, name, getattr(owner, name), cost)))
        yield


def _label(name: str, args: tuple[Any, ...], result: Any) -> str:
    """A convolution's channels, cells and pairs stand behind its name."""
    if name not in ("convolve", "linear"):
        return name
    weight = args[2]
    if isinstance(weight, Kernel):
        images, height, width, channels = weight.shape_of(args[1])
        more = args[4] if len(args) > 4 else None
        how = ", Winograd" if uses_winograd(args[1], weight, args[3], more) else ""
        return f"{weight.size} x {weight.size}, {weight.channels} to {channels}, {images} x {height} x {width} pixels{how}"
    text = f"{name} {weight.channels} to {len(weight.bias)}, {len(result)} rows"
    return (
        f"{text}, {count_pairs(args[3]) / max(1, len(result)):.1f} of {weight.kernel} pairs a row" if name == "convolve" else text
    )

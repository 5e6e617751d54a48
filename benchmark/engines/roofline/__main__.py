# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roofline of an engine, time per operation against this processor's peak: `python -m benchmark.engines.roofline --engine native`.

The best that matrix products and convolutions could do is their floating-point operations over the rate of this machine's own
best GEMM; the best of everything else is the bytes that it reads and writes over the rate of a plain copy. Eager PyTorch is
measured layer by layer: a sparse convolution's operations are those of the pairs that exist, and what no layer does has no floor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from occle_train.minkocc.fit import minkocc_config
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmark.engines.roofline import native
from benchmark.machine import drive, machine
from occle_core.bundle import BundleSpec, load_bundle
from occle_core.datasets import Dataset
from occle_core.engines import openvino_engine
from occle_core.engines.static import onnx_file
from occle_core.engines.static.program import capacities_of, pad
from occle_core.engines.torch_engine import TorchEngine
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.sparse import GenerativeConvTranspose3d, StridedConv3d, SubmanifoldConv3d

RUNS = 12
CACHED = 1 << 20
"""Numbers of an array that the last cache holds, as a frame's arrays are."""
LAYERS = (nn.Conv2d, nn.Linear, SubmanifoldConv3d, StridedConv3d, GenerativeConvTranspose3d)


def main() -> int:
    """Print a row per type of operation."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.engines.roofline", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("config/bundles/kitti"))
    parser.add_argument("--engine", default="openvino", choices=("openvino", "torch", "native"))
    parser.add_argument("--rig", default="kitti", choices=("kitti", "nuscenes"))
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layers", action="store_true", help="of engine native: a row per operation too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    spec, network, _ = load_bundle(given.bundle)
    if not isinstance(network, MinkOcc):
        parser.error(f"--bundle {given.bundle}: a network of kind {spec.network.kind}; this counts the operations of minkocc")
    sized = spec.model_copy(update={"capacities": spec.typical or spec.capacities, "typical": None})
    dataset = drive(given.out / f"drive_{given.rig}", given.rig, 12)
    if given.engine == "native":
        found = native.measure(spec, network, dataset, given.threads)
        flops, stream, copy = peak_flops(), peak_bandwidth(), peak_bandwidth(CACHED)
        console = Console()
        console.print(machine(given.threads), highlight=False)
        console.print(
            f"{given.bundle}: best GEMM {flops / 1e9:.0f} GFLOP/s, best copy {stream / 1e9:.0f} GB/s, in the cache {copy / 1e9:.0f}"
        )
        for shown in native.tables(found, flops, copy, given.layers):
            console.print(shown)
        return 0
    rows = measure(sized, network, dataset, given.threads) if given.engine == "openvino" else measure_layers(spec, network, dataset)
    flops, bandwidth = peak_flops(), peak_bandwidth()
    table = Table(title=f"{given.bundle}: best GEMM {flops / 1e9:.0f} GFLOP/s, best copy {bandwidth / 1e9:.1f} GB/s")
    for heading in ("operation", "nodes", "measured, ms", "GFLOP", "MB", "at best, ms"):
        table.add_column(heading, justify="right" if heading != "operation" else "left")
    total = best = 0.0
    for name, (count, milliseconds, operations, size) in sorted(rows.items(), key=lambda row: -row[1][1]):
        least = max(operations / flops, size / bandwidth) * 1e3
        total += milliseconds
        # What takes no time moves no bytes: reshapes share their input's memory.
        if milliseconds > 0.2:
            best += least
            table.add_row(name, str(count), f"{milliseconds:.1f}", f"{operations / 1e9:.2f}", f"{size / 1e6:.0f}", f"{least:.1f}")
    table.add_row("all", "", f"{total:.1f}", "", "", f"{best:.1f}", style="bold")
    console = Console()
    console.print(machine(given.threads), highlight=False)
    console.print(table)
    return 0


def measure(spec: BundleSpec, network: MinkOcc, dataset: Dataset, threads: int) -> dict[str, tuple[int, float, float, float]]:
    """Per type of node: how many, milliseconds, floating-point operations, bytes read and written."""
    core = openvino_engine.shared_core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    model = core.compile_model(core.read_model(onnx_file.onnx_of(spec, network, print)), "CPU", options)
    request = model.create_infer_request()
    inputs = prepare(dataset.frame(0), spec.voxel_grid, minkocc_config(spec))
    padded = [np.ascontiguousarray(array) for array in pad(spec, inputs, capacities_of(spec)).values()]
    times = defaultdict(list)
    for _ in range(RUNS):
        request.infer(padded)
        for node in request.profiling_info:
            times[node.node_name, node.node_type].append(node.real_time.total_seconds() * 1e3)
    costs = {op.get_friendly_name(): cost(op) for op in model.get_runtime_model().get_ordered_ops()}
    return summed((kind, values, costs.get(name, (0.0, 0.0))) for (name, kind), values in times.items())


def measure_layers(spec: BundleSpec, network: MinkOcc, dataset: Dataset) -> dict[str, tuple[int, float, float, float]]:
    """The same per type of layer of the eager network, and for all that is outside of layers."""
    engine = TorchEngine(spec, network)
    inputs = prepare(dataset.frame(0), spec.voxel_grid, minkocc_config(spec))
    layers = [module for module in engine.network.modules() if isinstance(module, LAYERS)]
    began: dict[nn.Module, float] = {}
    times = defaultdict(list)
    costs = {}

    def before(layer: nn.Module, args: tuple[Any, ...]) -> None:
        began[layer] = time.perf_counter()

    def after(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        times[layer].append((time.perf_counter() - began[layer]) * 1e3)
        if layer not in costs:
            costs[layer] = layer_cost(layer, args[0], out)

    engine.run(inputs)
    for layer in layers:
        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)
    engine.run(inputs)  # counts operations, untimed
    times.clear()
    wholes = []
    for _ in range(RUNS):
        start = time.perf_counter()
        engine.run(inputs)
        wholes.append((time.perf_counter() - start) * 1e3)
    rows = summed((type(layer).__name__, values, costs[layer]) for layer, values in times.items())
    rest = float(np.median(wholes)) - sum(row[1] for row in rows.values())
    return rows | {"outside of these layers": (0, rest, 0.0, 0.0)}


def summed(parts: Iterable[tuple[str, list[float], tuple[float, float]]]) -> dict[str, tuple[int, float, float, float]]:
    """Kind, times and (operations, bytes) of every part -> per kind how many, median milliseconds, operations, bytes."""
    rows: dict[str, tuple[int, float, float, float]] = {}
    for kind, values, (operations, size) in parts:
        count, milliseconds, *costs = rows.get(kind, (0, 0.0, 0.0, 0.0))
        rows[kind] = (count + 1, milliseconds + float(np.median(values)), costs[0] + operations, costs[1] + size)
    return rows


def layer_cost(layer: nn.Module, x: Any, out: Any) -> tuple[float, float]:
    """Floating-point operations and bytes of a layer: its input, output and weight."""
    assert isinstance(layer.weight, Tensor)
    numbers = layer.weight.numel() + sum((t if isinstance(t, Tensor) else t.features).numel() for t in (x, out))
    if isinstance(layer, nn.Conv2d):
        return 2.0 * out.numel() * layer.weight[0].numel(), 4.0 * numbers
    if isinstance(layer, nn.Linear):
        return 2.0 * out.numel() * layer.weight.shape[1], 4.0 * numbers
    if isinstance(layer, SubmanifoldConv3d):
        pairs = int((x.coordinates.neighbours(layer.kernel_size) < len(x)).sum())
    else:  # a cell has one place under a strided kernel as wide as its stride, and makes a cell for every place of a generative one
        pairs = len(x) * (1 if isinstance(layer, StridedConv3d) else layer.weight.shape[0])
    return 2.0 * pairs * layer.weight[0].numel(), 4.0 * numbers


def cost(op: Any) -> tuple[float, float]:
    """Floating-point operations (matrix products and convolutions only) and bytes of a node."""
    shapes = [tuple(port.get_shape()) for port in op.inputs()]
    out = [tuple(port.get_shape()) for port in op.outputs()]
    ports = [*op.inputs(), *op.outputs()]
    size = float(sum(np.prod(port.get_shape()) * port.get_element_type().size for port in ports))
    kind = op.get_rt_info()["layerType"].astype(str) if "layerType" in op.get_rt_info() else ""
    if kind == "FullyConnected":
        return 2.0 * np.prod(out[0]) * shapes[0][-1], size
    if kind == "Convolution":
        return 2.0 * np.prod(out[0]) * np.prod(shapes[1][1:]), size
    return 0.0, size


def peak_flops() -> float:
    """Floating-point operations a second of the best float32 GEMM here."""
    return max(2 * size**3 / fastest(_product(size)) for size in (256, 512, 1536))


def _product(size: int) -> Callable[[], Tensor]:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return lambda: a @ b


def peak_bandwidth(numbers: int = 1 << 25) -> float:
    """Bytes a second, read and written, of a copy of `numbers` float32 numbers; the default fits no cache."""
    source, target = torch.randn(numbers), torch.empty(numbers)
    return 2 * numbers * 4 / fastest(lambda: target.copy_(source))


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    return native.fastest(run, RUNS)


if __name__ == "__main__":
    sys.exit(main())

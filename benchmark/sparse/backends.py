# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The whole network on other libraries' sparse convolutions: `python -m benchmark.sparse.backends`, milliseconds and ratios.

One network, one frame after the other, all competitors in turns in one process: eager PyTorch as it is, with the compiled kernels
behind its layers, with spconv and MinkowskiEngine in their place where they are installed, and engine `native`. Which cells there
are, images, fusion and heads stay occle's in all but `native`; spconv computes the submanifold layers, MinkowskiEngine all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from occle_train.loop.minkowski_backend import use_minkowski
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmark.machine import drive, machine
from benchmark.sparse.library_peers import import_spconv
from occle_core.bundle import find_bundle, load_bundle
from occle_core.engines.base import Engine
from occle_core.engines.native_engine import native_engine
from occle_core.engines.torch_engine import TorchEngine
from occle_core.errors import EngineError
from occle_core.native import library
from occle_core.networks.registry import prepare
from occle_core.sparse import SparseTensor, SubmanifoldConv3d
from occle_core.sparse.coordinates import Coordinates
from occle_core.sparse.native_gemm import use_kernels

Competitor = tuple[Engine, Callable[[], AbstractContextManager[None]]]


def main() -> int:
    """Measure each bundle, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.sparse.backends", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--frames", type=int, default=4, help="of each simulated drive")
    parser.add_argument("--turns", type=int, default=5, help="how often all frames are run")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; spconv's results differ with more than one")
    given = parser.parse_args()
    console = Console(width=150)
    console.print(machine(given.threads), highlight=False)
    torch.set_num_threads(given.threads)
    rows = []
    for rig in ("kitti", "nuscenes"):
        dataset = drive(given.out / f"drive_{rig}", rig, given.frames)
        spec, network, _ = load_bundle(find_bundle(rig))
        frames = [dataset.frame(i) for i in range(min(given.frames, len(dataset)))]
        with torch.inference_mode():
            inputs = [prepare([frame], spec.voxel_grid, spec.network) for frame in frames]
        for row in compare_backends(competitors(spec, network, given.threads), inputs, given.turns):
            rows.append({"network": rig, **row})
    shown = Table(title=f"a frame from prepared inputs, CPU milliseconds of {given.threads} thread(s), medians")
    for heading in ("network", "backend", "CPU, ms", "quartiles", "times torch", "cells different"):
        shown.add_column(heading)
    for row in rows:
        if "why" in row:
            shown.add_row(row["network"], row["backend"], row["why"])
        else:
            quartiles = f"{row['quartiles'][0]:.0f} to {row['quartiles'][1]:.0f}"
            shown.add_row(
                row["network"], row["backend"], f"{row['ms']:.0f}", quartiles, f"{row['ratio']:.2f}", str(row["different"])
            )
    console.print(shown)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "backends.json").write_text(json.dumps({"machine": machine(given.threads), "rows": rows}, indent=1))
    return 0


def competitors(spec: Any, network: Any, threads: int) -> dict[str, Competitor | str]:
    """Engines by name, each with what has to be entered while it runs; or why there is none."""
    eager = TorchEngine(spec, network)
    found: dict[str, Competitor | str] = {"torch": (eager, nullcontext)}
    backends: dict[str, Callable[[nn.Module], AbstractContextManager[None]]] = {
        "torch with spconv": use_spconv,
        "torch with MinkowskiEngine": use_minkowski,
    }
    for name, backend in backends.items():
        try:
            with backend(eager.network):
                found[name] = (eager, partial(backend, eager.network))
        except ImportError:
            found[name] = "not installed"
    try:
        library.load()
        found["torch with native kernels"] = (eager, use_kernels)
        found["native"] = (native_engine(spec, network, threads, 1, print), nullcontext)
    except EngineError as error:
        found["native"] = str(error)
    return found


def compare_backends(engines: dict[str, Competitor | str], inputs: list[Any], turns: int) -> list[dict[str, Any]]:
    """Median CPU milliseconds of each, what multiple of the first's that is, and cells whose label differs from the first's."""
    times: dict[str, list[float]] = {}
    different: dict[str, int] = {}
    right: list[Any] = []
    for turn in range(turns + 1):  # the first turn warms up, and compares
        for name, entry in engines.items():
            if isinstance(entry, str):
                continue
            engine, enter = entry
            for number, frame in enumerate(inputs):
                with enter():
                    began = time.process_time()
                    labels = engine.run(frame).labels
                    taken = (time.process_time() - began) * 1e3
                if turn:
                    times.setdefault(name, []).append(taken)
                elif len(right) <= number:
                    right.append(labels)
                    different.setdefault(name, 0)
                else:
                    different[name] = different.get(name, 0) + int(np.count_nonzero(labels != right[number]))
    first = float(np.median(next(iter(times.values()))))
    rows: list[dict[str, Any]] = []
    for name, entry in engines.items():
        if isinstance(entry, str):
            rows.append({"backend": name, "why": entry})
            continue
        low, middle, high = (float(value) for value in np.percentile(times[name], (25, 50, 75)))
        rows.append(
            {"backend": name, "ms": middle, "quartiles": [low, high], "ratio": middle / first, "different": different[name]}
        )
    return rows


@contextmanager
def use_spconv(network: nn.Module) -> Iterator[None]:
    """Inside the block spconv computes the submanifold convolutions of a network, forward; neighbours are found once per level.

    Raises:
        ImportError: spconv is not installed.
    """
    spconv = import_spconv()
    levels: WeakKeyDictionary[Coordinates, Any] = WeakKeyDictionary()
    layers = [module for module in network.modules() if isinstance(module, SubmanifoldConv3d) and module.kernel_size == 3]
    try:
        for layer in layers:
            object.__setattr__(layer, "forward", partial(_submanifold, spconv, _peer(spconv, layer), levels, layer))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _peer(spconv: Any, layer: SubmanifoldConv3d) -> Any:
    """spconv's layer with the same weights, made once."""
    if "spconv" not in layer.__dict__:
        k, (_, channels, width) = layer.kernel_size, layer.weight.shape
        peer = spconv.SubMConv3d(channels, width, k, bias=False, indice_key="map").eval()
        weight = layer.weight.detach().view(k, k, k, channels, width).permute(4, 0, 1, 2, 3).contiguous()
        peer.weight = nn.Parameter(weight, requires_grad=False)
        object.__setattr__(layer, "spconv", peer)
    return layer.__dict__["spconv"]


def _submanifold(spconv: Any, peer: Any, levels: Any, layer: SubmanifoldConv3d, x: SparseTensor) -> SparseTensor:
    if x.coordinates not in levels:
        indices = x.coordinates.coords.int().contiguous()
        levels[x.coordinates] = spconv.SparseConvTensor(x.features, indices, list(x.shape), x.batch_size)
    features = peer(levels[x.coordinates].replace_feature(x.features)).features
    return SparseTensor.at(x.coordinates, features if layer.bias is None else features + layer.bias)


if __name__ == "__main__":
    sys.exit(main())

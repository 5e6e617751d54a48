# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Engines by network and voxel size on a GPU: parity, time, memory, and where the time goes. A part of `benchmark.gpu`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.gpu.frames import FrameSource
from benchmark.gpu.report import Report, Row
from benchmark.machine import spread
from occle_core.bundle import BundleSpec, find_bundle, load_bundle, rig_spec
from occle_core.engines.base import Engine
from occle_core.engines.loading import load_engine
from occle_core.engines.onnxruntime_engine import CUDA, onnxruntime
from occle_core.engines.parity import compare
from occle_core.engines.static.measure import limits_of, measure
from occle_core.engines.torch_engine import TorchEngine
from occle_core.errors import EngineError
from occle_core.networks import capacities
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.networks.registry import prepare
from occle_core.taxonomy import load as load_taxonomy

ENGINES = (("torch", "fp32"), ("torch_graph", "fp32"), ("torch_graph", "fp16"), ("onnxruntime", "fp32"), ("tensorrt", "fp32"))
SECONDS, LEAST_RUNS = 3.0, 10
"""Of timing an engine, and the runs that it makes in any case."""
WARM = 3
FRAMES = 4


@dataclass(frozen=True)
class Case:
    """A network to measure: a shipped bundle, or a size with random weights, its cells `finer` times smaller."""

    name: str
    bundle: str = ""
    size: Any = "base"
    rig: Any = "nuscenes"
    kind: str = "minkocc"
    finer: int = 1
    engines: tuple[tuple[str, str], ...] = ENGINES

    def load(self) -> tuple[BundleSpec, Network]:
        """Spec and network, in evaluation mode."""
        if self.bundle:
            spec, network, _ = load_bundle(find_bundle(self.bundle))
            return spec, network
        spec = tiny_spec(self.kind) if self.size == "tiny" else rig_spec(self.size, self.rig, self.kind)
        if self.finer > 1:
            grid = spec.grid
            shape = tuple(cells * self.finer for cells in grid.shape)
            finer = grid.model_copy(update={"shape": shape, "resolution": grid.resolution / self.finer})
            spec = spec.model_copy(update={"grid": finer})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return spec, spec.build().eval()


CASES = (
    Case("KITTI bundle, 0.4 m", "kitti"),
    Case("nuScenes bundle, 0.4 m", "nuscenes"),
    Case("base, six cameras, 0.4 m"),
    Case("base, six cameras, 0.1 m", finer=4),
    Case("base, six cameras, 0.2 m", finer=2),
    Case("OccLE base, KITTI", rig="kitti", kind="occle"),
    Case("OccLE base, nuScenes", kind="occle"),
)
TINY = (
    Case("tiny", size="tiny", rig="kitti", engines=ENGINES[:2]),
    Case("OccLE tiny", size="tiny", rig="kitti", kind="occle", engines=ENGINES[:1]),
)


def tiny_spec(kind: str = "minkocc") -> BundleSpec:
    """The smallest network, on a part of its grid."""
    spec = rig_spec("tiny", "kitti", kind)
    return spec.model_copy(update={"grid": spec.grid.model_copy(update={"shape": (32, 64, 16)})})


def measure_networks(report: Report, source: FrameSource, device: str, tiny: bool) -> None:
    """A row per network and engine; the first of each network is the eager one, which the others are compared with."""
    for case in TINY if tiny else CASES:
        loaded: dict[str, Any] = {}

        def ready(case: Case = case, loaded: dict[str, Any] = loaded) -> tuple[BundleSpec, Network, list[NetworkInputs], Engine]:
            if not loaded:
                spec, network = case.load()
                frames = source.samples(spec, 1 if tiny else FRAMES)
                with torch.inference_mode():
                    inputs = [prepare(sample, spec.voxel_grid, spec.network) for sample in frames]
                reference = TorchEngine(spec, network, device)
                if not case.bundle:  # random weights have no capacities yet; on the GPU, as 0.1 m take a CPU minutes
                    moved = [each.to(device) for each in inputs]
                    counts = measure(reference.network, moved)
                    full = capacities.choose_capacities(counts, limits_of(network, spec.network.max_points))
                    spec = spec.model_copy(update={"capacities": full})
                loaded["all"] = spec, network, inputs, reference
            found: tuple[BundleSpec, Network, list[NetworkInputs], Engine] = loaded["all"]
            return found

        for name, precision in case.engines:

            def row(name: str = name, precision: str = precision, ready: Callable[[], Any] = ready) -> Row:
                spec, network, inputs, reference = ready()
                began = time.monotonic()
                if name == "onnxruntime" and device != "cpu" and CUDA not in onnxruntime().get_available_providers():
                    raise EngineError("this ONNX Runtime has no CUDA: pip install onnxruntime-gpu")
                engine = reference if name == "torch" else load_engine(spec, network, None, name, precision)
                if device != "cpu" and engine.device == "CPU":
                    raise EngineError("it runs on the CPU, as CUDA's provider found no libraries")
                built = time.monotonic() - began
                return {"build, s": round(built, 1), **measure_engine(engine, reference, spec, inputs, device, tiny)}

            report.measure("networks", {"network": case.name, "engine": f"{name} {precision}"}, row)
        loaded.clear()
        if device != "cpu":
            with suppress(RuntimeError):  # after an illegal access, which the row has reported, nothing works any more
                torch.cuda.empty_cache()


def measure_engine(
    engine: Engine, reference: Engine, spec: BundleSpec, inputs: list[NetworkInputs], device: str, tiny: bool
) -> Row:
    """Parity with the reference, milliseconds a frame, peak memory, and a profile of one frame."""
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for frame in inputs[: 1 if tiny else WARM]:
        engine.run(frame)
    row: Row = {}
    if engine is not reference:
        parity = compare(engine, reference, inputs, load_taxonomy(spec.taxonomy).free)
        row |= {"equal occupied, %": 100 * parity.occupied_agreement, "cells different": parity.different}
        row |= {"frames that did not fit": parity.overflowed}
    times, stages = [], []
    ends = time.monotonic() + (0 if tiny else SECONDS)
    for frame in cycle(inputs):
        began = time.perf_counter()
        stages.append(engine.run(frame).timings)
        times.append((time.perf_counter() - began) * 1e3)
        if time.monotonic() > ends and len(times) >= (2 if tiny else LEAST_RUNS):
            break
    row["p50"], row["p95"], row["p99"] = spread(times)
    row["stages, ms"] = {name: round(float(np.median([stage[name] for stage in stages])), 2) for name in stages[0]}
    if on_gpu:
        row["peak, GB"] = torch.cuda.max_memory_allocated() / 2**30
    return row | profiled(lambda: engine.run(inputs[0]), on_gpu)


def profiled(run: Callable[[], object], on_gpu: bool) -> Row:
    """Launches, copies by kind and the kernels that take longest of one run; on a CPU operations in the place of launches."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    run()
    with profile(activities=activities) as found:
        run()
        if on_gpu:
            torch.cuda.synchronize()
    events = found.events() or []
    names = Counter(str(event.name) for event in events)
    starts = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch") if on_gpu else ("aten::",)
    spent: Counter[str] = Counter()
    for event in events:
        # An annotation, such as the optimiser's, covers kernels that count by themselves.
        on_device = "CUDA" in str(event.device_type) and not event.is_user_annotation
        spent[str(event.name)[:60]] += (event.self_device_time_total if on_device else 0) if on_gpu else event.self_cpu_time_total
    row: Row = {"launches" if on_gpu else "operations": sum(n for name, n in names.items() if name.startswith(starts))}
    if on_gpu:
        row["device, ms"] = sum(spent.values()) / 1e3
        row["copies"] = {name: n for name, n in names.items() if name.startswith("Memcpy")}
        row["waits"] = sum(n for name, n in names.items() if "Synchronize" in name)
    row["longest, ms"] = {name: round(time / 1e3, 2) for name, time in spent.most_common(3)}
    return row

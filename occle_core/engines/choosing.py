# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`auto` on a CPU: the engine that is fastest on this machine, measured once for a second and kept in the engine cache."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.base import Engine
from occle_core.errors import EngineError
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.native import build
from occle_core.native.library import VARIABLE
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.networks.registry import prepare

SECONDS = 1.0
"""Of measuring, all engines together; each runs at least twice besides."""
PACKAGES = ("torch", "openvino", "onnxruntime")
POINTS = 60_000
FILE = "choice.json"


class Choice(TypedDict):
    """What was measured: the engine, milliseconds a frame of each, and why others were passed over."""

    engine: str
    times: dict[str, float]
    passed: dict[str, str]


def fastest_engine(
    spec: BundleSpec,
    network: Network,
    load: Callable[[str], Engine],
    precision: str,
    threads: int | None,
    max_concurrent: int,
    progress: Callable[[str], None],
) -> Engine:
    """The engine that needs the least time for a frame of those that work here: one frame at a time, or several at once.

    Args:
        spec: the bundle's spec.
        network: its network.
        load: gives an engine by its name; EngineError where it does not work here.
        precision: that `load` gives them in.
        threads: CPU threads that the engines may use; None: their own choice.
        max_concurrent: frames at the same time.
        progress: called with what takes long, and with what was passed over.

    Raises:
        EngineError: none works here.
    """
    passed: dict[str, str] = {}
    engines: dict[str, Engine] = {}

    def take(*names: str) -> None:
        """Load the first of these that works."""
        for name in names:
            try:
                engines[name] = load(name)
                return
            except EngineError as error:
                passed[name] = str(error)
                progress(f"not {name}: {error}")

    def measure() -> Choice:
        take("native")
        # A fixed program takes a minute to export: only where the compiled kernels have no wide vectors, or are not there.
        if ("native" not in engines or build.supported()[0] == "plain") and max_concurrent == 1:
            take("openvino", "onnxruntime")
        take("torch")
        if not engines:
            take("openvino", "onnxruntime")
        if not engines:
            raise EngineError("no engine works here: " + "; ".join(f"{name}: {why}" for name, why in passed.items()))
        if len(engines) == 1:
            return {"engine": next(iter(engines)), "times": {}, "passed": passed}
        progress(f"measuring {', '.join(engines)} for a second, once")
        times = frame_times(engines, synthetic(spec), max_concurrent)
        return {"engine": min(times, key=times.__getitem__), "times": times, "passed": passed}

    def keep(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(measure()), encoding="utf-8")

    try:
        folder = cached(_key(spec, network, precision, threads, max_concurrent), keep, progress)
        choice: Choice = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except EngineError as error:
        if engines or passed:
            raise
        progress(f"the choice of an engine is not kept: {error}")
        choice = measure()
    try:
        engine = engines.get(choice["engine"]) or load(choice["engine"])
    except EngineError as error:
        progress(f"not {choice['engine']}, which was the fastest here before: {error}")
        passed[choice["engine"]] = str(error)
        engine, choice = load("torch"), {"engine": "torch", "times": {}, "passed": passed}
    measured = ", ".join(f"{name} {ms:.0f} ms" for name, ms in choice["times"].items())
    why = f"the fastest here, a frame: {measured}" if measured else "works here"
    engine.reason = f"auto: {why}" + "".join(f"; not {name}: {text}" for name, text in choice["passed"].items())
    return engine


def frame_times(
    engines: Mapping[str, Engine], inputs: NetworkInputs, max_concurrent: int, seconds: float = SECONDS
) -> dict[str, float]:
    """Milliseconds per frame of each engine, in turns, so that a busy machine is busy for all; the median of its turns."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    with ThreadPoolExecutor(max_concurrent) as threads:

        def turn(engine: Engine) -> float:
            began = time.perf_counter()
            list(threads.map(engine.run, [inputs] * max_concurrent))
            return (time.perf_counter() - began) * 1e3 / max_concurrent

        for engine in engines.values():
            turn(engine)  # the first run takes memory and compiles
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends or len(next(reversed(taken.values()))) < 2:
            for name, engine in engines.items():
                taken[name].append(turn(engine))
    return {name: float(np.median(values)) for name, values in taken.items()}


def synthetic(spec: BundleSpec, points: int = POINTS, seed: int = 0) -> NetworkInputs:
    """Inputs of a made-up street."""
    with torch.inference_mode():
        inputs: NetworkInputs = prepare(
            [synthetic_frame(spec, points, seed)] * spec.network.num_frames, spec.voxel_grid, spec.network
        )
    return inputs


def synthetic_frame(spec: BundleSpec, points: int = POINTS, seed: int = 0) -> Frame:
    """A made-up street: ground, a wall and clutter in the bundle's grid, noise in its cameras."""
    rng = np.random.default_rng(seed)
    grid = spec.voxel_grid
    at = rng.uniform(grid.origin, grid.upper, (points, 3))
    at[: points // 2, 2] = grid.origin[2] + grid.resolution
    at[points // 2 : points * 3 // 4, 1] = grid.origin[1] + (grid.upper[1] - grid.origin[1]) / 4
    forward = np.eye(4)
    forward[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    camera = Camera(np.array([[300.0, 0, 320], [0, 300, 96], [0, 0, 1]]), forward, 640, 192)
    images = [rng.integers(0, 256, (192, 640, 3), dtype=np.uint8) for _ in range(spec.network.num_cameras)]
    cloud = np.hstack([at, rng.random((points, 1))]).astype(np.float32)
    return Frame(0, cloud, images, [camera] * len(images), T_world_lidar=np.eye(4))


def _key(spec: BundleSpec, network: Network, precision: str, threads: int | None, max_concurrent: int) -> dict[str, str]:
    """What the choice depends on: this machine, the bundle, the versions, and how it is used."""
    return {
        "kind": "fastest engine",
        "cpu": f"{_cpu()}, {os.cpu_count()} CPUs",
        "weights": weights_digest(spec, network),
        "versions": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        "native": f"{build.sources_digest()} {os.environ.get(VARIABLE, '')} {_compiler()}",
        "use": f"{precision}, threads {threads}, at once {max_concurrent}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _compiler() -> str:
    try:
        return build.compiler()[1]
    except EngineError as error:
        return str(error)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Time of engines on a made-up street, measured in a process of its own.

What an engine takes on its first frames stays with its process: PyTorch's convolutions keep some 280 MB. A node that only wanted
to know who is faster would carry that to its end, and an engine that crashes would take it along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from occle_core.bundle import BundleSpec
from occle_core.console import one_line
from occle_core.engines.base import Engine
from occle_core.errors import EngineError
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.networks.registry import prepare

SECONDS = 1.0
"""Of measuring, all engines together; each runs at least twice besides."""
POINTS = 60_000
TIMEOUT = 600.0
"""Seconds for the process to load its engines and to measure them."""
PROCESS = "occle_core.engines.timing_process"
SPEC, WEIGHTS, USE, TIMES = "spec.json", "weights.pt", "use.json", "times.json"


def times_apart(
    spec: BundleSpec,
    network: Network,
    folder: Path | None,
    names: Sequence[str],
    precision: str,
    threads: int | None,
    max_concurrent: int,
) -> dict[str, float]:
    """`frame_times` of engines that a process of its own loads; the arguments are those of `load_engine`.

    Raises:
        EngineError: the process cannot be started, or does not come to an end in order.
    """
    use = {
        "folder": str(folder.resolve()) if folder else None,
        "names": list(names),
        "precision": precision,
        "threads": threads,
        "max_concurrent": max_concurrent,
    }
    with tempfile.TemporaryDirectory(prefix="occle-") as name:
        home = Path(name)
        try:
            (home / SPEC).write_text(spec.model_dump_json(), encoding="utf-8")
            torch.save(network.state_dict(), home / WEIGHTS)
            (home / USE).write_text(json.dumps(use), encoding="utf-8")
            command = [sys.executable, "-m", PROCESS, name]
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            environment = {**os.environ, "PYTHONPATH": paths}
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment)
            if run.returncode:
                last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
                raise EngineError(f"the process that measures {', '.join(names)} failed: {one_line(last)}")
            times: dict[str, float] = json.loads((home / TIMES).read_text(encoding="utf-8"))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise EngineError(f"{', '.join(names)} cannot be measured in a process apart: {one_line(error)}") from error
    return times


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

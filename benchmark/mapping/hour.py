# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map over an hour of frames, as fast as it goes: `python -m benchmark.mapping.hour --write docs/reports/map.md`.

A few simulated frames come again and again with poses along a winding road of 36 km, so that the window scrolls on and on. As in
the node, layers are made now and then. Exit code 1 where the memory grew by more than 5 %.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from occle_train.streets import simulate

from benchmark.machine import machine
from benchmark.page import add_write_option, publish
from occle_core.datasets import open_dataset
from occle_core.mapping import RollingMap
from occle_core.mapping.layers import HeightBand, project_bands
from occle_core.predictor import Predictor

KINDS, SEED, SCALE = 8, 940, 0.52
"""Frames that come again, and how they are simulated."""
WARM, EVERY, LAYERS = 1000, 1000, 10
"""Frames before the memory counts, between two of its samples, and between two snapshots with their layer."""
GROWTH = 0.05


def main() -> int:
    """Simulate, predict, map, watch the memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.mapping.hour", description=__doc__)
    parser.add_argument("--frames", type=int, default=36_000, help="an hour at 10 Hz")
    parser.add_argument("--bundle", type=Path, default=Path("config/bundles/kitti"))
    add_write_option(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.load(given.bundle, threads=1, on_progress=lambda text: print(text, file=sys.stderr))
    with TemporaryDirectory(prefix="occle-map-hour-") as folder:
        simulate(Path(folder), "kitti", 1, KINDS, SEED, SCALE, workers=1)
        dataset = open_dataset(Path(folder))
        frames = [dataset.frame(i) for i in range(KINDS)]
        seen = [(predictor.predict(frame), frame) for frame in frames]
    world = RollingMap(predictor.taxonomy)
    samples: list[tuple[int, float]] = []
    spent: list[float] = []
    for number, T in enumerate(road(given.frames)):
        occupancy, frame = seen[number % KINDS]
        began = time.thread_time()
        update = world.update(occupancy, frame, T, number * 100_000_000)
        spent.append((time.thread_time() - began) * 1e3)
        if not update.accepted or update.restarted:
            raise ValueError(f"frame {number}: {update}")
        if number % LAYERS == 0:
            project_bands(world.snapshot(), [HeightBand(0.3, 2.0)])
        if (number + 1) % EVERY == 0:
            samples.append((number + 1, resident_mb()))
            print(f"{samples[-1][0]} frames: {samples[-1][1]:.1f} MB", file=sys.stderr)
    _, first = next(sample for sample in samples if sample[0] >= WARM)
    lines = [f"`python -m benchmark.mapping.hour {shlex.join(sys.argv[1:])}` on {machine(1)}", ""]
    lines += [
        f"{given.frames} frames, {np.hypot(*T[:2, 3]) / 1e3:.1f} km from where they began, {median(spent):.1f} ms of processor"
    ]
    lines[-1] += f" time each (median). Resident memory of the process, network included, sampled every {EVERY} frames:"
    lines += ["", "| frames | MB |", "| ---: | ---: |"]
    lines += [f"| {count} | {memory:.1f} |" for count, memory in samples if count in (EVERY, samples[-1][0]) or count % 6000 == 0]
    lines += ["", f"Lowest {min(mb for _, mb in samples):.1f} MB, highest {max(mb for _, mb in samples):.1f} MB."]
    publish("\n".join(lines), "benchmark.mapping.hour", given.write)
    return int(samples[-1][1] > first * (1 + GROWTH))


def road(count: int) -> NDArray[np.float64]:
    """(N, 4, 4) poses a metre apart along a road that winds and climbs."""
    way = np.arange(count)
    yaw = 0.6 * np.sin(way / 200)
    poses = np.tile(np.eye(4), (count, 1, 1))
    c, s = np.cos(yaw), np.sin(yaw)
    poses[:, :2, :2] = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    poses[:, :3, 3] = np.stack([np.cumsum(c), np.cumsum(s), 30 * np.sin(way / 700)], -1)
    return poses


def resident_mb() -> float:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())

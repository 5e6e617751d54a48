# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a second process is worth in training and scoring: `python -m benchmark.process_scaling --data STREETS --labels LABELS`.

MinkOcc and OccLE train with the same batch in one process and shared by two, scoring runs on one process and on two; each process
has one thread. The machine must have two idle cores. A step's time is apart from its wait for the loader.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from occle_train.data.samples import open_all
from occle_train.evaluation.processes import Job, evaluate_in_processes
from occle_train.worker_pool import find_workers

from benchmark.machine import machine

WARM = 3
"""Steps, and scored frames of every process, before anything counts."""
BUNDLES = Path(__file__).resolve().parents[1] / "config" / "bundles"
FIT = ("--start-from", BUNDLES / "kitti", "--set", "batch_size=4", "--set", "num_workers=0")
FIT_OCCLE = ("--start-from", BUNDLES / "kitti_occle", "--set", "recipe.batch_size=4", "--set", "recipe.num_workers=0")


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.process_scaling", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="simulated streets of the KITTI rig")
    parser.add_argument("--labels", type=Path, required=True, help="their 2D pseudo-labels, for OccLE")
    parser.add_argument("--bundle", type=Path, default=BUNDLES / "kitti", help="bundle that is scored")
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each training")
    given = parser.parse_args()
    print(machine(1))
    print("\n| work | one process, frames/s | two | ratio | of it wait for the loader, one and two |\n|---|---:|---:|---:|---:|")
    for name, command in (
        ("MinkOcc training", ["fit", "--data", given.data, *FIT]),
        ("OccLE training", ["fit-occle", "--data", given.data, "--labels", given.labels, *FIT_OCCLE]),
    ):
        (one, one_waits), (two, two_waits) = (_trained(command, given.steps, processes) for processes in (1, 2))
        print(f"| {name} | {one:.2f} | {two:.2f} | {two / one:.2f} | {one_waits:.0%}, {two_waits:.0%} |", flush=True)
    one, two = (_scored(given.bundle, given.data, processes) for processes in (1, 2))
    print(f"| scoring | {one:.2f} | {two:.2f} | {two / one:.2f} | |")
    return 0


def _trained(command: list[str | Path], steps: int, processes: int) -> tuple[float, float]:
    """Frames a second of a step, and the share of it that is a wait for the loader; medians."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--steps", str(steps), "--out", f"{folder}/run", "--threads", "1", "--processes", str(processes)]
        called = [sys.executable, "-m", "occle_train.cli", *map(str, command), *options]
        done = subprocess.run(called, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(called)}\n{done.stdout}{done.stderr}")
        logs = list(Path(folder).rglob("log.csv"))
        rows = [row for log in logs for row in list(csv.DictReader(log.open()))[WARM:]]
    waits = [float(row["loader_wait"]) / float(row["seconds"]) for row in rows]
    return median(float(row["frames_per_second"]) for row in rows), median(waits)


def _scored(bundle: Path, data: Path, processes: int) -> float:
    """Frames a second, from when every process has scored some."""
    job = Job(bundle, "torch", "fp32", 1, data, (), "recorded")
    times: list[tuple[float, int]] = []
    evaluate_in_processes(job, open_all(data), 1, find_workers(processes), lambda count: times.append((time.monotonic(), count)))
    first = next(number for number in range(len(times)) if sum(count for _, count in times[: number + 1]) >= WARM * processes)
    return sum(count for _, count in times[first + 1 :]) / (times[-1][0] - times[first][0])


if __name__ == "__main__":
    sys.exit(main())

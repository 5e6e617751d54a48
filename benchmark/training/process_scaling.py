# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Worth of a second process in training and scoring: `python -m benchmark.training.process_scaling --data STREETS --labels L`.

MinkOcc and OccLE train a batch of four frames (--batch) in one process and shared by two, scoring runs on one process and on two;
each process has one thread. The machine must have two idle cores. Two more trainings say where the rest goes: one process with a
share of the batch, and two such processes at once that know nothing of each other: what the machine can give two.
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
BUNDLES = Path(__file__).resolve().parents[2] / "config" / "bundles"
FIT = ("--start-from", BUNDLES / "kitti", "--set", "num_workers=0")
FIT_OCCLE = ("--start-from", BUNDLES / "kitti_occle", "--set", "recipe.num_workers=0")


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.process_scaling", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="simulated streets of the KITTI rig")
    parser.add_argument("--labels", type=Path, required=True, help="their 2D pseudo-labels, for OccLE")
    parser.add_argument("--bundle", type=Path, default=BUNDLES / "kitti", help="bundle that is scored")
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each training")
    parser.add_argument("--batch", type=int, default=4, help="frames of a step, an even number")
    given = parser.parse_args()
    print(machine(1))
    print(
        "\n| frames/s | one process | two share its batch | ratio | one with a share | ratio to it | two apart, with a share each "
        "| two sharing, of these | wait for the loader, one and two |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name, command, batch in (
        ("MinkOcc training", ["fit", "--data", given.data, *FIT], "batch_size"),
        ("OccLE training", ["fit-occle", "--data", given.data, "--labels", given.labels, *FIT_OCCLE], "recipe.batch_size"),
    ):
        whole, share = ([*command, "--set", f"{batch}={size}"] for size in (given.batch, given.batch // 2))
        (one, wait), (two, waits) = (_trained(whole, given.steps, processes) for processes in (1, 2))
        (alone, _), (apart, _) = _trained(share, given.steps), _trained(share, given.steps, at_once=2)
        print(
            f"| {name} | {one:.2f} | {two:.2f} | {two / one:.2f} | {alone:.2f} | {two / alone:.2f} | {apart:.2f} "
            f"| {two / apart:.2f} | {wait:.0%}, {waits:.0%} |",
            flush=True,
        )
    one, two = (_scored(given.bundle, given.data, processes) for processes in (1, 2))
    print(f"| scoring | {one:.2f} | {two:.2f} | {two / one:.2f} | | | | | |")
    return 0


def _trained(command: list[str | Path], steps: int, processes: int = 1, at_once: int = 1) -> tuple[float, float]:
    """Frames a second of all trainings at once, and the share of a step that is a wait for the loader; medians over steps."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--steps", str(steps), "--threads", "1", "--processes", str(processes)]
        called = [sys.executable, "-m", "occle_train.cli", *map(str, command), *options]
        outs = [Path(folder) / str(number) for number in range(at_once)]
        runs = [subprocess.Popen([*called, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for out in outs]
        for run in runs:
            _, said = run.communicate()
            if run.returncode:
                raise SystemExit(f"{' '.join(called)}\n{said.decode()}")
        logs = [[row for log in out.rglob("log.csv") for row in list(csv.DictReader(log.open()))[WARM:]] for out in outs]
    waits = [float(row["loader_wait"]) / float(row["seconds"]) for rows in logs for row in rows]
    return sum(median(float(row["frames_per_second"]) for row in rows) for rows in logs), median(waits)


def _scored(bundle: Path, data: Path, processes: int) -> float:
    """Frames a second, from when every process has scored some."""
    job = Job(bundle, "torch", "fp32", 1, data, (), "recorded")
    times: list[tuple[float, int]] = []
    evaluate_in_processes(job, open_all(data), 1, find_workers(processes), lambda count: times.append((time.monotonic(), count)))
    first = next(number for number in range(len(times)) if sum(count for _, count in times[: number + 1]) >= WARM * processes)
    return sum(count for _, count in times[first + 1 :]) / (times[-1][0] - times[first][0])


if __name__ == "__main__":
    sys.exit(main())

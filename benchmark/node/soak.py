# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A long run of the live node, and what it holds on to: memory, file descriptors, threads and latency over time.

`python -m benchmark.node.soak --minutes 20` drives the node at 0.8 of what it sustains; `--load 5` overloads it. Viewers come and
go, those of the map among them, and a camera falls silent now and then. Exit code 1 where something grew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmark.node.driven_node import driven_node
from benchmark.node.driver import MAP_VIEWS, VIEWS, Driver
from occle_ros.system.child_process import ChildProcess

CYCLE = 4
"""Intervals in which everything happens once: viewers, no viewers, a silent camera, all cameras."""
MEMORY_GROWTH, LATENCY_GROWTH = 0.05, 1.5
"""Largest growth from beginning to end: a share of the memory, a factor of the latency."""


@dataclass(frozen=True)
class Sample:
    """One cycle.

    Args:
        minutes: since the beginning.
        memory_mb: that the node's process holds for itself.
        files, threads: that it has open.
        rate_hz: frames that came out a second.
        latency_p50_ms, latency_p95_ms: from a scan's stamp to its voxels' arrival.
    """

    minutes: float
    memory_mb: float
    files: int
    threads: int
    rate_hz: float
    latency_p50_ms: float
    latency_p95_ms: float


@dataclass(frozen=True)
class Report:
    """Measurements of a run.

    Args:
        frame_ms: from a scan to its voxels when no scan ever waits and the network is never idle.
        sent_hz: scans a second.
        samples: in the order of time.
        stop_seconds: from SIGINT in the middle of a frame to the end of the process; exit_code: its code.
    """

    frame_ms: float
    sent_hz: float
    samples: list[Sample]
    stop_seconds: float
    exit_code: int


def soak(
    minutes: float,
    load: float,
    interval: float,
    bundle: str = "",
    engine: str = "auto",
    data: Path | None = None,
    max_concurrent: int | None = None,
) -> Report:
    """Drive a node of its own in a ROS domain of its own.

    Args:
        minutes: how long.
        load: scans a second, as a share of what the node sustains; at most 10 Hz up to a load of 1.
        interval: seconds; four of them are a cycle and give a sample.
        bundle: folder of the network; empty: the shipped one.
        engine: parameter of the node.
        data: a data set; None simulates a street.
        max_concurrent: frames that the node works on at the same time; None: as its file of parameters says.

    Raises:
        ProcessError: the node did not start or ended.
    """
    given: dict[str, Any] = {"engine": engine} | ({"bundle": bundle} if bundle else {})
    if max_concurrent:
        given["max_concurrent_frames"] = max_concurrent
    with driven_node(data, given) as (node, driver, concurrent):
        frame, sustained = driver.pace(concurrent)
        hz = load * sustained if load > 1 else min(10.0, load * sustained)
        samples = list(_cycles(driver, node, minutes * 60, hz, interval))
        driver.send()
        time.sleep(frame / 3)
        began = time.monotonic()
        code = node.stop(10)
        return Report(frame * 1e3, hz, samples, time.monotonic() - began, code)


def growth(samples: Sequence[Sample]) -> list[str]:
    """Quantities that grew from the first to the last third, the first fifth (warming up) left out; empty where all is flat."""
    steady = samples[len(samples) // 5 :]
    third = max(1, len(steady) // 3)
    first, last = steady[:third], steady[-third:]

    def of(part: Sequence[Sample], name: str) -> float:
        return float(median(getattr(sample, name) for sample in part))

    limits = {"memory_mb": 1 + MEMORY_GROWTH, "files": 1.0, "threads": 1.0, "latency_p50_ms": LATENCY_GROWTH}
    return [
        f"{name} grew from {of(first, name):.1f} to {of(last, name):.1f}"
        for name, limit in limits.items()
        if of(last, name) > limit * of(first, name)
    ]


def _cycles(driver: Driver, node: ChildProcess, seconds: float, hz: float, interval: float) -> Iterator[Sample]:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        latencies: list[float] = []
        cycle = time.monotonic()
        for number in range(CYCLE):
            driver.view({**VIEWS, **MAP_VIEWS} if number < 2 else {})
            latencies += driver.drive(interval, hz, silent_camera=number == 2)
            node.check()
        process = Path(f"/proc/{node.pid}")
        p50, p95 = np.percentile(latencies, [50, 95]) * 1e3 if latencies else (float("nan"), float("nan"))
        yield Sample(
            minutes=(time.monotonic() - began) / 60,
            memory_mb=_memory_mb(process),
            files=len(list((process / "fd").iterdir())),
            threads=len(list((process / "task").iterdir())),
            rate_hz=len(latencies) / (time.monotonic() - cycle),
            latency_p50_ms=float(p50),
            latency_p95_ms=float(p95),
        )


def _memory_mb(process: Path) -> float:
    """Resident memory of the process's own; Fast DDS's shared segments, of fixed size, fill up in the first minutes."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 where something grew, or where the node did not end within two seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node.soak", description="A long run of the live node.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--load", type=float, default=0.8, help="share of what the node sustains; 5 overloads it")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds; four of them give a line")
    parser.add_argument("--bundle", default="", help="folder of the network; default: the shipped one")
    parser.add_argument("--engine", default="auto")
    parser.add_argument(
        "--at-once", type=int, dest="max_concurrent", help="frames at the same time; default: as the node's parameters say"
    )
    parser.add_argument("--data", type=Path, help="a data set; default: a simulated street")
    given = parser.parse_args(arguments)
    report = soak(given.minutes, given.load, given.interval, given.bundle, given.engine, given.data, given.max_concurrent)
    print(f"one frame takes {report.frame_ms:.0f} ms; sent at {report.sent_hz:.1f} Hz")
    print("  ".join(field.name for field in fields(Sample)))
    for sample in report.samples:
        print("  ".join(f"{getattr(sample, field.name):{len(field.name)}.1f}" for field in fields(Sample)))
    grown = growth(report.samples)
    late = [sample for sample in report.samples if sample.latency_p95_ms > 2 * report.frame_ms]
    print("; ".join(grown) or "memory, file descriptors, threads and latency are flat")
    print(f"p95 of the latency above two frame times in {len(late)} of {len(report.samples)} lines")
    print(f"ended {report.stop_seconds:.2f} s after SIGINT in the middle of a frame, exit code {report.exit_code}")
    return 1 if grown or report.stop_seconds > 2 or report.exit_code else 0


if __name__ == "__main__":
    sys.exit(main())

"""A long run of the live node, and what it holds on to: memory, file descriptors, threads and latency over time.

`python -m benchmark.soak --minutes 20` drives the node at 0.8 of what it sustains; `--load 5` overloads it. Viewers come and go,
and a camera falls silent now and then. Exit code 1 where something grew.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from occle_core.datasets import list_scenes, open_dataset
from occle_ros.config import PRESETS, preset_for
from occle_ros.dataset_messages import POINTS_TOPIC, DatasetMessages
from occle_ros.play import message_class
from occle_ros.processes import Child
from occle_ros.transport import ros_node, share_file
from training.streets import simulate

FRAMES = 8
"""So many frames are sent again and again, with new stamps."""
CYCLE = 4
PACE_FRAMES = 16
"""Intervals in which everything happens once: viewers, no viewers, a silent camera, all cameras."""
APART = 0.1
"""Seconds between the frames that the node gets to work on at the same time."""
MEMORY_GROWTH, LATENCY_GROWTH = 0.05, 1.5
"""What the end may have more of than the beginning: a share of the memory, a factor of the latency."""


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
    """What a run showed.

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
    at_once: int | None = None,
) -> Report:
    """Drive a node of its own in a ROS domain of its own.

    Args:
        minutes: how long.
        load: scans a second, as a share of what the node sustains; at most 10 Hz up to a load of 1.
        interval: seconds; four of them are a cycle and give a sample.
        bundle: folder of the network; empty: the shipped one.
        engine: parameter of the node.
        data: a data set; None simulates a street.
        at_once: frames that the node works on at the same time; None: as its file of parameters says.

    Raises:
        ProcessError: the node did not start or ended.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        data = data.resolve() if data else _street(folder / "street")
        scene = list_scenes(data)[0]
        dataset = open_dataset(data, scene=scene)
        preset = preset_for(dataset.camera_names)
        os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
        at_once = at_once or PRESETS[preset].frames_at_once
        given = {"calibration_file": f"{data}#{scene}", "engine": engine} | ({"bundle": bundle} if bundle else {})
        parameters = [word for name, value in given.items() for word in ("-p", f'{name}:="{value}"')]
        parameters += ["-p", f"frames_at_once:={at_once}"]
        file = str(share_file(f"config/{preset}.yaml"))
        command = [sys.executable, "-m", "occle_ros.cli", "node", "--ros-args", "--params-file", file, *parameters]
        node = stack.enter_context(Child("node", command, folder / "node.log"))
        node.wait_for("ready: bundle", 300)
        compressed = PRESETS[preset].cameras[dataset.camera_names[0]].compressed
        driver = _Driver(stack.enter_context(ros_node("soak")), DatasetMessages(dataset, compressed, min(FRAMES, len(dataset))))
        driver.connect()
        frame, sustained = driver.pace(at_once)
        hz = load * sustained if load > 1 else min(10.0, load * sustained)
        samples = list(_cycles(driver, node, minutes * 60, hz, interval))
        driver.send()
        time.sleep(frame / 3)
        began = time.monotonic()
        code = node.stop(10)
        return Report(frame * 1e3, hz, samples, time.monotonic() - began, code)


def growth(samples: Sequence[Sample]) -> list[str]:
    """What grew from the first to the last third, the first fifth (warming up) left out; empty where all is flat."""
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


def _cycles(driver: _Driver, node: Child, seconds: float, hz: float, interval: float) -> Iterator[Sample]:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        latencies: list[float] = []
        cycle = time.monotonic()
        for number in range(CYCLE):
            driver.view(number < 2)
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


class _Driver:
    """Sends the data set's messages with new stamps, and measures how late their voxels come."""

    def __init__(self, node: Node, source: DatasetMessages) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._frames = _frames(source)
        self._publishers: dict[str, Any] = {}
        for topic in self._frames[0]:
            kind = message_class(source.topics[topic])
            assert kind is not None
            self._publishers[topic] = node.create_publisher(kind, topic, 5)
        self._images = [topic for topic in self._publishers if "/image" in topic]
        self._latencies: list[float] = []
        self._views: list[Any] = []
        self._sent = 0
        node.create_subscription(PointCloud2, "/occupancy/voxels", self._take, 5, raw=True)

    def connect(self) -> None:
        """Wait for the node's subscriptions."""
        end = time.monotonic() + 30
        while not all(publisher.get_subscription_count() for publisher in self._publishers.values()):
            if time.monotonic() > end:
                raise TimeoutError("the node did not subscribe within 30 s")
            self._executor.spin_once(timeout_sec=0.05)
        self._spin(0.5)

    def send(self, without: str = "") -> None:
        """One frame, stamped now."""
        frame = self._frames[self._sent % len(self._frames)]
        self._sent += 1
        stamp = divmod(time.time_ns(), 1_000_000_000)
        for topic, data in frame.items():
            if topic != without:
                struct.pack_into("<iI", data, 4, *stamp)  # every one of them begins with its header
                self._publishers[topic].publish(bytes(data))

    def pace(self, at_once: int) -> tuple[float, float]:
        """Seconds that a frame takes, and frames a second that come out, with always `at_once` of them on their way."""
        for _ in range(at_once):
            self.send()
            self._spin(APART)  # sent together, the second would take the first one's place
        came, arrivals = 0, []
        while came < PACE_FRAMES:
            end = time.monotonic() + 30
            while len(self._latencies) == came and time.monotonic() < end:
                self._executor.spin_once(timeout_sec=0.05)
            came += 1
            arrivals.append(time.monotonic())
            self.send()
        self._spin(2 * max(self._latencies))
        return median(self._latencies[at_once:came]), (came - at_once) / (arrivals[-1] - arrivals[at_once - 1])

    def drive(self, seconds: float, hz: float, silent_camera: bool) -> list[float]:
        """Send frames at a rate; returns the latencies of those that came out, seconds."""
        self._latencies.clear()
        began = time.monotonic()
        number = 0
        while (now := time.monotonic() - began) < seconds:
            if now >= number / hz:
                self.send(self._images[0] if silent_camera else "")
                number += 1
            self._executor.spin_once(timeout_sec=max(0.0, min(number / hz, seconds) - (time.monotonic() - began)))
        return list(self._latencies)

    def view(self, wanted: bool) -> None:
        """Let viewers of markers and map come or go."""
        if wanted and not self._views:
            kinds = {"/occupancy/markers": MarkerArray, "/occupancy/occupancy_grid": OccupancyGrid}
            self._views = [self._node.create_subscription(kind, t, lambda raw: None, 5, raw=True) for t, kind in kinds.items()]
        elif not wanted:
            for view in self._views:
                self._node.destroy_subscription(view)
            self._views = []

    def _take(self, raw: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
        self._latencies.append((time.time_ns() - seconds * 1_000_000_000 - nanoseconds) / 1e9)

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)


def _street(folder: Path) -> Path:
    simulate(folder, "kitti", drives=1, frames=FRAMES, seed=7, workers=1)
    return folder


def _frames(source: DatasetMessages) -> list[dict[str, bytearray]]:
    """Topic -> CDR bytes of each frame: CameraInfo and image of every camera, and the scan last."""
    frames: list[dict[str, bytearray]] = []
    frame: dict[str, bytearray] = {}
    for _, topic, data in source.messages([topic for topic in source.topics if not topic.startswith("/tf")]):
        frame[topic] = bytearray(data)
        if len(frame) == len(source.topics) - 2:
            frames.append({**{t: d for t, d in frame.items() if t != POINTS_TOPIC}, POINTS_TOPIC: frame[POINTS_TOPIC]})
            frame = {}
    return frames


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 where something grew, or where the node did not end within two seconds."""
    parser = argparse.ArgumentParser("benchmark.soak", description="A long run of the live node.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--load", type=float, default=0.8, help="share of what the node sustains; 5 overloads it")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds; four of them give a line")
    parser.add_argument("--bundle", default="", help="folder of the network; default: the shipped one")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--at-once", type=int, help="frames at the same time; default: as the node's parameters say")
    parser.add_argument("--data", type=Path, help="a data set; default: a simulated street")
    given = parser.parse_args(arguments)
    report = soak(given.minutes, given.load, given.interval, given.bundle, given.engine, given.data, given.at_once)
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

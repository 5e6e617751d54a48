# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Overload, crashes and the end of the process, with a network that is as slow as a test wants it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from documented import assert_rows, rows_of
from fault_rig import Car, arguments_of, connected, write_place
from ros_process import Process, own_domain, ready_node

from occle_ros.config.node_config import NodeConfig

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
FAULTS: list[str] = []
fault = rows_of(FAULTS)


class Slow(NamedTuple):
    """A node whose network takes as long as the file `delay` says; a word instead of a number breaks it. `segments` is its shared
    memory, which differs from its peers' only while it has none."""

    node: Process
    car: Car
    delay: Path
    segments: set[Path]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    place = write_place(tmp_path_factory.mktemp("overload"))
    delay = place / "delay"
    delay.write_text("0.2")
    command = [str(Path(__file__).parents[1] / "slow_node.py"), str(delay), *arguments_of(place)[3:]]
    with pytest.MonkeyPatch.context() as environment, own_domain(environment), ready_node(command, place / "slow.log") as node:
        segments = node.segments()
        with connected(Car) as car:
            yield Slow(node, car, delay, segments)


@fault("overload at 5x the sustainable rate")
def test_the_newest_scan_wins(slow: Slow) -> None:
    node, car, _, _ = slow
    max_concurrent = NodeConfig().max_concurrent_frames
    period = time_of_a_frame(car) / max_concurrent / 5
    memory: list[int] = []
    first, began = len(car.stamps), time.monotonic()
    while time.monotonic() - began < 5 or (len(car.stamps) - first < 15 and time.monotonic() - began < 25):
        car.base = time.time_ns()
        for kind in "ABS":
            car.send(kind, 0)
        car.spin(period)
        memory.append(resident(node.pid))
    stamps = car.stamps[first + 2 :]
    assert len(stamps) > 6
    # Never idle, the network needs for a frame what lies between two that come out, if it takes one at a time. A scan waits for
    # the one before it at most until the next scan replaces it.
    took = np.array([car.arrived[stamp] - car.arrived[before] for before, stamp in zip(stamps, stamps[max_concurrent:])])
    late = np.array([car.arrived[stamp] - stamp for stamp in stamps[max_concurrent:]])
    assert np.mean(late < 2 * took) >= 0.9, (late / 1e6, took / 1e6)
    assert memory[-1] - memory[len(memory) // 3] < 30e6, memory
    assert car.spin_until(lambda: car.counts()["dropped.replaced_by_newer"] > 2 * len(stamps), 3)


@fault("crash in one frame")
@fault("engine that keeps failing")
def test_a_crash_costs_one_frame_and_three_the_engine(slow: Slow) -> None:
    node, car, delay, _ = slow
    car.spin(1.0)
    car.play("F0", (0,))  # nothing of an earlier test is still on its way
    seen = len(car.stamps)
    for crashes in (1, 3):
        delay.write_text("broken")
        for number in range(crashes):
            car.play("F0")
            stamp = f"scan {car.base / 1e9:.3f}"
            # The same problem is reported once in five seconds; diagnostics always have the newest.
            assert car.spin_until(lambda stamp=stamp: stamp in car.values().get("last_error", ""), 5), (number, node.output)
        delay.write_text("0.2")
        car.play("F0", (0,))
        assert car.stamps[-1] == car.base
    assert len(car.stamps) == seen + 2
    assert "ValueError: could not convert string to float: 'broken'" in node.output and "Traceback" in node.output
    assert car.counts()["dropped.internal_error"] == 4
    assert "3 frames in a row failed with engine torch" in node.output
    assert car.spin_until(lambda: "3 frames in a row failed" in car.values().get("degraded", ""), 3)


@fault("SIGTERM mid-frame")
def test_the_end_in_the_middle_of_a_frame(slow: Slow) -> None:
    node, car, delay, segments = slow
    assert segments and all(segment.exists() for segment in segments)
    delay.write_text("30")
    car.play("F0")
    node.wait_for("at work")
    began = time.monotonic()
    node.interrupt(signal.SIGTERM)
    assert node.result(6) == 0, node.output
    assert time.monotonic() - began < 2
    assert "the last frame is still being processed; exiting without it" in node.output
    assert not any(segment.exists() for segment in segments)


def time_of_a_frame(car: Car) -> float:
    """Seconds from a scan to its voxels, the median of five."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        car.play("F0", (0,))
        times.append(time.monotonic() - began)
    return float(np.median(times))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds for itself; segments that it shares with senders do not count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def test_every_fault_has_its_row() -> None:
    assert_rows("Faults", FAULTS)

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the rolling map costs the live node: `python -m benchmark.mapping.live_node`.

The node gets the next scan as soon as one comes out, so that the network is never idle. Viewers of the map, its costmap and its
distances come and go in turn; compared are the frames a second with and without them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmark.machine import machine
from benchmark.node.driven_node import driven_node, processor_ms
from benchmark.node.driver import MAP_VIEWS
from benchmark.page import add_write_option, publish


@dataclass
class Rates:
    """Frames a second of every turn, and what the map's viewers got.

    Args:
        without, with_map: Hz, one per turn.
        latency_without, latency_with: milliseconds from a scan to its voxels.
        cpu_without, cpu_with: milliseconds of processor time that the node takes for a frame, of all its threads.
        seen: messages by topic.
        frames: that came out while the map was looked at.
    """

    without: list[float]
    with_map: list[float]
    latency_without: list[float]
    latency_with: list[float]
    cpu_without: list[float]
    cpu_with: list[float]
    seen: dict[str, float]
    frames: int = 0

    @property
    def loss(self) -> float:
        """Share of the rate that the map costs, percent: the median over turns, each against the mean of its neighbours without."""
        pairs = zip(self.with_map, self.without[:-1], self.without[1:])
        return 100 * median(1 - rate / ((before + after) / 2) for rate, before, after in pairs)


def measure(turns: int, engine: str, data: Path | None, bundle: str = "") -> Rates:
    """Alternate `turns` turns with viewers of the map between turns without."""
    given = {"engine": engine} | ({"bundle": bundle} if bundle else {})
    with driven_node(data, given) as (node, driver, concurrent):
        driver.pace(concurrent)  # warm
        rates = Rates([], [], [], [], [], [], {})
        for turn in range(2 * turns + 1):
            driver.view(MAP_VIEWS if turn % 2 else {})
            driver.drive(1.0, 2.0, silent_camera=False)  # viewers are noticed
            driver.seen.clear()
            began, came = processor_ms(node.pid), driver.came
            seconds, hz = driver.pace(concurrent)
            node.check()
            used = (processor_ms(node.pid) - began) / (driver.came - came)
            (rates.cpu_with if turn % 2 else rates.cpu_without).append(used)
            (rates.with_map if turn % 2 else rates.without).append(hz)
            (rates.latency_with if turn % 2 else rates.latency_without).append(seconds * 1e3)
            if turn % 2:
                rates.frames += driver.came - came
                for topic, number in driver.seen.items():
                    rates.seen[topic] = rates.seen.get(topic, 0.0) + number
        return rates


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.mapping.live_node", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--data", type=Path, help="a data set; default: a simulated street")
    add_write_option(parser)
    given = parser.parse_args(arguments)
    rates = measure(given.turns, given.engine, given.data)
    load = os.getloadavg()[1]
    lines = [f"`python -m benchmark.mapping.live_node --turns {given.turns}` on {machine()}; load of the machine {load:.0f}", ""]
    lines += ["| | Hz, median (lowest to highest) | ms from a scan to its voxels | ms of processor time a frame |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for name, hz, latency, used in (
        ("nobody looks at the map", rates.without, rates.latency_without, rates.cpu_without),
        ("map, costmap, distance", rates.with_map, rates.latency_with, rates.cpu_with),
    ):
        lines += [f"| {name} | {median(hz):.2f} ({min(hz):.2f} to {max(hz):.2f}) | {median(latency):.0f} | {median(used):.0f} |"]
    seen = ", ".join(f"`{topic.removeprefix('/occupancy/')}` {number:.0f}" for topic, number in sorted(rates.seen.items()))
    lines += [
        "",
        f"The map costs {rates.loss:.1f} % of the rate (wanted: at most 15), the median over turns, each against the two beside it "
        f"without viewers. In {rates.frames} frames the viewers got: {seen}.",
    ]
    publish("\n".join(lines), "benchmark.mapping.live_node", given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())

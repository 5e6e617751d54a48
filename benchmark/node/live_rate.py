# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The live node at a sensor's rate for minutes: `python -m benchmark.node.live_rate --rig kitti --hz 10`.

Frames of a simulated street are sent in a loop, with stamps of now, to a node in a process of its own. Counted is what comes out,
how long after its stamp, and the node's memory and processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.machine import drive, machine
from benchmark.node.driven_node import FRAMES, driven_node, processor_ms
from benchmark.page import add_write_option, publish

ADDED = ("wait", "convert", "reorder_wait", "publish")
"""Stages of a frame that are the node's own."""
QUIET = 2.0
"""Seconds after the last frame for the voxels still on their way."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print a row of the table; 1 where a frame was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node.live_rate", description=__doc__)
    parser.add_argument("--rig", choices=("kitti", "nuscenes"), default="kitti")
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--at-once", type=int, default=1, help="frames at the same time")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of the simulated drives")
    add_write_option(parser)
    given = parser.parse_args(arguments)
    folder = given.out / f"drive_{given.rig}"
    drive(folder, given.rig, FRAMES)
    report = given.out.resolve() / f"live_rate_{given.rig}.json"
    parameters = {"engine": given.engine, "max_concurrent_frames": given.at_once, "report_file": str(report)}
    with driven_node(folder, parameters) as (node, driver, _):
        driver.pace(given.at_once)  # warm
        sent, came, used = driver.sent, driver.came, processor_ms(node.pid)
        latencies = driver.drive(given.minutes * 60, given.hz, silent_camera=False)
        latencies += driver.wait(QUIET)
        node.check()
        sent, came, used = driver.sent - sent, driver.came - came, processor_ms(node.pid) - used
        now, peak = _memory_mb(node.pid)
        node.stop(10)  # it writes its report
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99)) * 1e3
    minutes, load = given.minutes, os.getloadavg()[0]
    lines = [f"{machine()}; load of the machine {load:.1f}", ""]
    lines += [
        "| rig | sent, Hz | at once | minutes | sent | published | lost | p50 / p95 / p99, ms | CPU ms a frame | RSS / peak, MB |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---|---:|---:|"]
    lines += [
        f"| {given.rig} | {given.hz:g} | {given.at_once} | {minutes:g} | {sent} | {came} | {sent - came} | "
        f"{p50:.0f} / {p95:.0f} / {p99:.0f} | {used / max(came, 1):.0f} | {now:.0f} / {peak:.0f} |"
    ]
    found = json.loads(report.read_text("utf-8"))
    stages = {stage: float(np.median(found["stages_ms"][stage])) for stage in ADDED}
    of_it = ", ".join(f"{stage} {ms:.1f}" for stage, ms in stages.items())
    lines += ["", f"Beside preparing and predicting the node takes, medians: {of_it}, together {sum(stages.values()):.1f} ms."]
    lines += ["", f"The node's counts, first frames among them: {json.dumps(found['counts'])}."]
    publish("\n".join(lines), "benchmark.node.live_rate", given.write)
    return 1 if came < sent else 0


def _memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its most, the shared memory of the middleware among it."""
    values = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, peak = (int(values[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, peak


if __name__ == "__main__":
    sys.exit(main())

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The live node end to end: `python -m benchmark.node.end_to_end`.

Bag player, node and recorder are processes of their own, as in the demo. The share that is not the network's (waiting for images,
conversion, building and publishing messages) is what the node adds. Before that, what reading and building the messages of one
frame takes; `--rigs=` measures that alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from occle_train.data.truth import voxel_truth
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine
from benchmark.messages import messages_of
from occle_core.datasets import Dataset
from occle_core.geometry.grid import SEMANTICKITTI
from occle_core.occupancy import Occupancy
from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.images import image_from_message
from occle_ros.messages.clouds import cloud_from_occupancy
from occle_ros.messages.markers import marker_array
from occle_ros.tools.demo import run_demo

OURS = ("convert", "publish")
RUNS = 200


def main() -> int:
    """Replay a drive of each rig, print and write the reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node.end_to_end", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--frames", type=int, default=60, help="of each simulated drive")
    parser.add_argument("--rate", type=float, help="frames a second; default: what this machine sustains, at most 10")
    parser.add_argument("--rigs", default="kitti,nuscenes")
    given = parser.parse_args()
    console = Console()
    console.print(machine(), highlight=False)
    console.print(messages(drive(given.out / "drive_kitti", "kitti", 12)))
    if not given.rigs:
        return 0
    shown = Table(title="live node, milliseconds from a scan's stamp to its publication")
    for heading in ("rig", "played, Hz", "published", "Hz", "p50", "p95", "p99", "stages (median)", "convert + publish"):
        shown.add_column(heading)
    reports = {}
    for rig in given.rigs.split(","):
        dataset = given.out / f"replay_{rig}"
        drive(dataset, rig, given.frames)
        report = run_demo(dataset, given.out / f"node_{rig}", None, None, given.rate, given.frames, 1)
        reports[rig] = report
        frames, latency = report["frames"], report["latency_ms"]
        stages = {name: values["p50"] for name, values in report["stages_ms"].items()}
        shown.add_row(
            rig,
            f"{report['played_hz']:.1f}",
            f"{frames['published']} of {frames['sent']}",
            f"{report['rate_hz']:.1f}",
            *(f"{latency[p]:.0f}" for p in ("p50", "p95", "p99")),
            ", ".join(f"{name} {value:.0f}" for name, value in stages.items() if value >= 0.5),
            f"{sum(stages.get(name, 0.0) for name in OURS):.1f}",
        )
    console.print(shown)
    (given.out / "node.json").write_text(json.dumps(reports, indent=1), encoding="utf-8")
    return 0


def messages(dataset: Dataset) -> Table:
    """CPU milliseconds to read a frame's messages, and to build those of its true voxels on the shipped KITTI network's grid."""
    grid, classes = SEMANTICKITTI.coarser(2), dataset.taxonomy
    truth = voxel_truth(dataset, 0, grid)
    assert truth is not None
    labels = np.where(truth == classes.ignore, np.uint8(classes.free), truth)
    confidence = (labels != classes.free).astype(np.float16)
    occupancy = Occupancy.of_volumes(labels, confidence, grid, classes, stamp=dataset.stamps[0], frame_id=dataset.grid_frame)
    scan, (image, *_), _ = messages_of(dataset.frame(0), jpeg=False)
    steps: dict[str, Callable[[], object]] = {
        "scan, read": lambda: points_from_cloud(scan),
        "raw image, read": lambda: image_from_message(image),
        "cloud": lambda: cloud_from_occupancy(occupancy),
        "cloud, serialised": lambda: serialize_message(cloud_from_occupancy(occupancy)),
        "markers, serialised": lambda: marker_array(occupancy),
    }
    counts = f"{np.count_nonzero(occupancy.occupied)} voxels, {marker_array(occupancy).cubes} of them drawn"
    table = Table("message", "median, CPU ms", "quartiles", title=counts)
    for name, step in steps.items():
        taken = []
        for _ in range(RUNS):
            began = time.thread_time()  # of the processor: other work on the machine does not count
            step()
            taken.append((time.thread_time() - began) * 1e3)
        low, middle, high = np.percentile(taken, (25, 50, 75))
        table.add_row(name, f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())

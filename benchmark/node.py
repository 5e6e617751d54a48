"""The live node end to end: `python -m benchmark.node`. Bag player, node and recorder are processes of their own, as in the demo.

The share that is not the network's (waiting for images, conversion, building and publishing messages) is what the node adds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine
from occle_ros.demo import run_demo

OURS = ("convert", "publish")


def main() -> int:
    """Replay a drive of each rig, print and write the reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--frames", type=int, default=60, help="of each simulated drive")
    parser.add_argument("--rate", type=float, help="frames a second; default: what this machine sustains, at most 10")
    parser.add_argument("--rigs", default="kitti,nuscenes")
    given = parser.parse_args()
    console = Console()
    console.print(machine(), highlight=False)
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


if __name__ == "__main__":
    sys.exit(main())

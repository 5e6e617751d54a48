# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Report of a demo: numbers as JSON and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from occle_ros.pipeline.statistics import percentiles
from occle_ros.sync.lidar_led import dropped_scans

_LOSSES = {
    "points": "points dropped",
    "overflow": "cells beyond the network's capacity",
    "history": "frames without history",
}


def summarise(
    player: Mapping[str, Any], node: Mapping[str, Any], recorded: Mapping[str, int], lidar_topic: str, speed: float
) -> dict[str, Any]:
    """Combine the reports of the processes.

    Args:
        player: `PlaySummary` as a dict.
        node: the report of the node at shutdown.
        recorded: number of recorded messages per topic.
        lidar_topic: the topic of the scans.
        speed: of the replay; the node's clock follows /clock, so the time from a stamp to its arrival is divided by this.

    Returns:
        frames (sent, received, published, recorded, dropped by reason), masked (cameras), losses by group and reason
        (points, overflow, history), rate_hz, latency_ms and stages_ms with percentiles, all in real time.
    """
    counts = node["counts"]
    received = counts.get("received", {}).get("scans", 0)
    sent = player["sent"].get(lidar_topic, 0)
    published = counts.get("published", {}).get("voxels", 0)
    dropped = {"lost_in_transport": sent - received, **counts.get("dropped", {})}
    dropped |= dropped_scans(counts.get("synchronizer", {}))
    dropped["lost_before_recorder"] = published - recorded.get("/occupancy/voxels", 0)
    arrivals = node["stages_ms"].get("receive", [])
    # /clock may be a tick late, so that a scan arrives before its stamp.
    in_real_time = [max(0.0, arrival / speed) for arrival in arrivals]
    latency = [total - arrival + real for total, arrival, real in zip(node["latency_ms"], arrivals, in_real_time, strict=True)]
    stages = {stage: percentiles(samples, (50, 95)) for stage, samples in {**node["stages_ms"], "receive": in_real_time}.items()}
    return {
        "bundle": node["bundle"],
        "frames": {
            "sent": sent,
            "received": received,
            "published": published,
            "recorded": recorded.get("/occupancy/voxels", 0),
            "dropped": {reason: number for reason, number in dropped.items() if number},
        },
        "masked": counts.get("masked", {}),
        "losses": {group: counts[group] for group in ("points", "overflow", "history") if group in counts},
        "rate_hz": node["rate_hz"],
        "latency_ms": percentiles(latency),
        "stages_ms": stages,
        "last_error": node["last_error"],
    }


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print the report as tables."""
    frames = report["frames"]
    table = Table(title=f"occupancy node with {report['bundle']}", show_header=False, title_justify="left")
    for name in ("sent", "received", "published", "recorded"):
        table.add_row(f"frames {name}", str(frames[name]))
    table.add_row("frames dropped", _reasons(frames["dropped"]) or "0")
    if report["masked"]:
        table.add_row("masked cameras", _reasons(report["masked"]))
    for group, reasons in report["losses"].items():
        table.add_row(_LOSSES[group], _reasons(reasons))
    table.add_row("rate", f"{report['rate_hz']:.2f} Hz")
    latency = report["latency_ms"]
    if latency:
        table.add_row("stamp to publish", " / ".join(f"{latency[p]:.0f}" for p in ("p50", "p95", "p99")) + " ms (p50 / p95 / p99)")
    console.print(table)
    stages = Table("stage", "p50 ms", "p95 ms", title="timings of the stages", title_justify="left")
    for stage, times in report["stages_ms"].items():
        if times:
            stages.add_row(stage, f"{times['p50']:.1f}", f"{times['p95']:.1f}")
    console.print(stages)
    if report["last_error"]:
        console.print(f"last error: {report['last_error']}", markup=False, soft_wrap=True)


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in counts.items())

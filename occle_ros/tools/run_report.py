# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Text report of `occle run`."""

from __future__ import annotations

from collections.abc import Iterator

from occle_ros.sync.lidar_led import dropped_scans
from occle_ros.tools.offline_run import RunSummary


def report_lines(summary: RunSummary) -> Iterator[str]:
    """Lines with the number of frames, the losses by reason, and the timings of the stages."""
    yield f"{summary.out}: {summary.frames} frames with {summary.bundle}"
    synchronizer = summary.counts.get("synchronizer", {})
    if summary.failed:
        yield f"  frames that failed: {len(summary.failed)}"
    for reason, number in dropped_scans(synchronizer).items():
        yield f"  scans dropped: {number} {_words(reason.removeprefix('scan_'))}"
    for camera, number in summary.counts.get("masked", {}).items():
        name, _, reason = camera.partition(":")
        yield f"  frames with {name} masked: {number} {_words(reason)}"
    for reason, number in summary.counts.get("history", {}).items():
        if reason != "filling":  # the first frames of every run
            yield f"  frames without history: {number} {_words(reason)}"
    for reason, number in synchronizer.items():
        # Unused images are normal where a camera is faster than the LiDAR.
        sensor, _, rest = reason.partition("_")
        if sensor in ("image", "lidar") and not rest.startswith("unused"):
            kind, _, name = rest.partition(":")
            yield f"  {'images' if sensor == 'image' else 'scans'} of {name or 'further LiDARs'}: {number} {_words(kind)}"
    for reason, number in summary.counts.get("deskew", {}).items():
        yield f"  frames not compensated for motion: {number} {_words(reason)}"
    for reason, number in summary.counts.get("points", {}).items():
        yield f"  points dropped: {number} {_words(reason)}"
    for table, cells in summary.counts.get("overflow", {}).items():
        yield f"  cells beyond the network's capacity: {cells} {table}"
    mapped = summary.counts.get("map", {})
    if mapped.get("frames"):
        yield f"  map.occlemap: {mapped['frames']} frames"
    for reason, number in mapped.items():
        if reason != "frames":
            yield f"  map, {_words(reason)}: {number}"
    for stage, times in summary.stages_ms.items():
        yield f"  {stage:12s} p50 {times['p50']:7.1f} ms  p95 {times['p95']:7.1f} ms"


def _words(reason: str) -> str:
    return reason.replace("_", " ")

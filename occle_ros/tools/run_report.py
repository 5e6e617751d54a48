"""What `occle run` did, as lines for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from occle_ros.sync.lidar_led import scans_without_frame
from occle_ros.tools.offline_run import RunSummary


def report_lines(summary: RunSummary) -> Iterator[str]:
    """The frames, what was left out by reason, each in its line, and the times of the stages."""
    yield f"{summary.out}: {summary.frames} frames with {summary.bundle}"
    synchronizer = summary.counts.get("synchronizer", {})
    if summary.failed:
        yield f"  frames that failed: {len(summary.failed)}"
    for reason, number in scans_without_frame(synchronizer).items():
        yield f"  scans left out: {number} {_words(reason.removeprefix('scan_'))}"
    for camera, number in summary.counts.get("masked", {}).items():
        name, _, reason = camera.partition(":")
        yield f"  frames without {name}: {number} {_words(reason)}"
    for reason, number in summary.counts.get("history", {}).items():
        if reason != "filling":  # the first frames of every run
            yield f"  frames without past ones: {number} {_words(reason)}"
    for reason, number in synchronizer.items():
        # An image that no scan took is usual where a camera is faster than the LiDAR.
        if reason.startswith("image_") and not reason.startswith("image_unused"):
            kind, _, name = reason.removeprefix("image_").partition(":")
            yield f"  images of {name}: {number} {_words(kind)}"
    for reason, number in summary.counts.get("points", {}).items():
        yield f"  points left out: {number} {_words(reason)}"
    for table, cells in summary.counts.get("overflow", {}).items():
        yield f"  cells beyond the network's capacity: {cells} {table}"
    for stage, times in summary.stages_ms.items():
        yield f"  {stage:12s} p50 {times['p50']:7.1f} ms  p95 {times['p95']:7.1f} ms"


def _words(reason: str) -> str:
    return reason.replace("_", " ")

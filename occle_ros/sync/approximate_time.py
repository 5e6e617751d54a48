# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Synchronizer of `sync.policy: approximate_time`: ApproximateTimeSynchronizer of message_filters, with the LiDAR-led interface.

It returns a frame only when every topic has a message within the tolerance: one silent camera stops the output. The LiDAR-led
FrameSynchronizer masks that camera and continues. This policy is for systems whose other nodes use it as well.
"""

from __future__ import annotations

import importlib
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic

from std_msgs.msg import Header

from occle_core.sensors.messages import NANOSECONDS
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.common import header
from occle_ros.sync.lidar_led import MILLISECOND, Image, Scan, SyncedMessages

_SCANS = "scans"


@dataclass(frozen=True)
class _Stamped:
    """Input of the synchronizer, which reads header.stamp only."""

    header: Header
    stamp: int
    message: Any


class ApproximateTimeFrameSynchronizer(Generic[Scan, Image]):
    """Approximate-time synchronizer with the interface of `occle_ros.sync.lidar_led.FrameSynchronizer`.

    `counts`: scan_unmatched (not every camera had an image for it), clock_reset.
    Stamps that jump back by more than `jump`, or three times in a row by less, clear all queues: ApproximateTimeSynchronizer
    would drop every message until the stamps have caught up.

    Args:
        cameras: names, in the order of the images of a frame.
        tolerance: largest difference between any two stamps of a frame, offsets added, nanoseconds.
        offsets: added to each camera's stamps; default 0.
        queue: size of the queue per topic.
        jump: nanoseconds.
        lidars: names of further LiDARs -> what is added to their stamps.

    Raises:
        ConfigError: message_filters is not installed.
    """

    def __init__(self, cameras: Sequence[str], tolerance: int, offsets: Sequence[int] | None = None, queue: int = 10,
                 jump: int = 500 * MILLISECOND, lidars: Mapping[str, int] | None = None) -> None:  # fmt: skip
        self._filters = message_filters()
        self._names = (_SCANS, *cameras, *(lidars or {}))
        self._offsets = (0, *(offsets or [0] * len(cameras)), *(lidars or {}).values())
        self._cameras = len(cameras)
        self._tolerance, self._queue, self._jump = tolerance, queue, jump
        self._out: list[SyncedMessages[Scan, Image]] = []
        self.counts: Counter[str] = Counter()
        self._restart()

    def add_scan(self, stamp: int, scan: Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add a scan; returns the frames that are complete now."""
        return self._add(0, stamp, scan)

    def add_image(self, camera: int, stamp: int, image: Image, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add an image of the camera with this index; returns the frames that are complete now."""
        return self._add(camera + 1, stamp, image)

    def add_lidar(self, number: int, stamp: int, scan: Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add a scan of the further LiDAR with this index; returns the frames that are complete now."""
        return self._add(self._cameras + number + 1, stamp, scan)

    def poll(self, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Returns nothing: this policy has no deadline."""
        return []

    def next_deadline(self) -> None:
        """None: this policy has no deadline."""

    def flush(self) -> list[SyncedMessages[Scan, Image]]:
        """Discard incomplete frames; returns nothing."""
        self._drop_oldest(len(self._waiting))
        self._restart()
        return []

    def _add(self, number: int, stamp: int, message: Scan | Image) -> list[SyncedMessages[Scan, Image]]:
        name = self._names[number]
        stamp += self._offsets[number]
        if self._goes_back(name, stamp):
            self.counts["clock_reset"] += 1
            self.flush()
        self._newest[name] = max(stamp, self._newest.get(name, stamp))
        if name == _SCANS and stamp not in self._waiting:
            insort(self._waiting, stamp)
            self._drop_oldest(len(self._waiting) - self._queue)
        self._inputs[number].signalMessage(_Stamped(header(stamp, ""), stamp, message))
        out, self._out = self._out, []
        return out

    def _goes_back(self, name: str, stamp: int) -> bool:
        back = self._newest.get(name, stamp) - stamp
        self._older[name] = self._older[name] + 1 if back > 0 else 0
        return back > self._jump or self._older[name] >= 3

    def _restart(self) -> None:
        self._newest: dict[str, int] = {}
        self._older: Counter[str] = Counter()
        self._waiting: list[int] = []
        self._inputs = [self._filters.SimpleFilter() for _ in self._names]
        # It takes sets whose stamps differ by *less* than slop, in seconds.
        slop = (self._tolerance + 1) / NANOSECONDS
        self._synchronizer = self._filters.ApproximateTimeSynchronizer(self._inputs, self._queue, slop)
        self._synchronizer.registerCallback(self._matched)

    def _matched(self, *items: Any) -> None:
        scan, *others = items
        self._drop_oldest(bisect_left(self._waiting, scan.stamp))
        del self._waiting[: bisect_right(self._waiting, scan.stamp)]
        found = [other.message for other in others]
        images, lidars = tuple(found[: self._cameras]), tuple(found[self._cameras :])
        self._out.append(SyncedMessages(scan.stamp, scan.message, images, {}, lidars))

    def _drop_oldest(self, number: int) -> None:
        """Discard the oldest scans, which can no longer be matched."""
        if number > 0:
            self.counts["scan_unmatched"] += number
            del self._waiting[:number]


def message_filters() -> ModuleType:
    """Import the ROS package message_filters.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("message_filters")
    except ImportError as error:
        raise ConfigError(
            f"parameter sync.policy: approximate_time needs the ROS package message_filters ({error}); `sudo apt install "
            "ros-$ROS_DISTRO-message-filters` and source that installation, or leave sync.policy at its default"
        ) from error

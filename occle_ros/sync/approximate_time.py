"""Synchronizer of `sync.policy: approximate`: message_filters' ApproximateTimeSynchronizer behind the LiDAR-led one's interface.

It emits a frame only when every topic has a message within the tolerance: one silent camera stops everything. The LiDAR-led
FrameSynchronizer masks that camera and continues. This one is for teams whose other nodes are synchronised by it.
"""

from __future__ import annotations

import importlib
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from std_msgs.msg import Header

from occle_core.sensors.messages import NANOSECONDS
from occle_core.sensors.transforms import TransformError as TransformError
from occle_ros.config.groups import ConfigError
from occle_ros.messages.common import header
from occle_ros.messages.transforms import transform_from_matrix as transform_from_matrix
from occle_ros.sync.lidar_led import MILLISECOND, SyncedMessages

T = TypeVar("T")
_SCANS = "scans"


@dataclass(frozen=True)
class _Item(Generic[T]):
    """What the synchronizer is given: it reads header.stamp and nothing else."""

    header: Header
    stamp: int
    message: T


class ApproximateTimeFrameSynchronizer(Generic[T]):
    """Frames of one scan and one image of every camera; the same calls as `occle_ros.sync.lidar_led.FrameSynchronizer`.

    `counts`: scan_unmatched (the cameras had nothing for it), clock_reset.
    Stamps that jump back by more than `jump`, or three times in a row by less, empty all queues: the synchronizer itself
    would drop every message until the stamps are where they were.

    Args:
        cameras: names, in the order of the images of a frame.
        tolerance: the stamps of a frame, offsets added, differ by no more than this (nanoseconds); of *all* of them, cameras
            among each other too.
        offsets: added to each camera's stamps; default 0.
        queue: messages that are kept per topic.
        jump: nanoseconds.

    Raises:
        ConfigError: message_filters is not installed.
    """

    def __init__(self, cameras: Sequence[str], tolerance: int, offsets: Sequence[int] | None = None, queue: int = 10,
                 jump: int = 500 * MILLISECOND) -> None:  # fmt: skip
        self._filters = message_filters()
        self._names = (_SCANS, *cameras)
        self._offsets = (0, *(offsets or [0] * len(cameras)))
        self._tolerance, self._queue, self._jump = tolerance, queue, jump
        self._arrived: dict[str, int] = {}
        self._out: list[SyncedMessages[T]] = []
        self.counts: Counter[str] = Counter()
        self._restart()

    def add_scan(self, stamp: int, scan: T, now: int) -> list[SyncedMessages[T]]:
        """Take a scan; returns the frames that are complete now."""
        return self._add(0, stamp, scan, now)

    def add_image(self, camera: int, stamp: int, image: T, now: int) -> list[SyncedMessages[T]]:
        """Take an image of the camera with this number; returns the frames that are complete now."""
        return self._add(camera + 1, stamp, image, now)

    def silences(self, now: int) -> dict[str, int | None]:
        """Per camera how long ago its last image arrived; None where none ever came."""
        return {name: now - self._arrived[name] if name in self._arrived else None for name in self._names[1:]}

    def poll(self, now: int) -> list[SyncedMessages[T]]:
        """Nothing: this policy waits without a deadline."""
        return []

    def next_deadline(self) -> None:
        """There is none."""

    def flush(self) -> list[SyncedMessages[T]]:
        """Nothing: what is not complete is let go."""
        self._let_go(len(self._waiting))
        self._restart()
        return []

    def _add(self, number: int, stamp: int, message: T, now: int) -> list[SyncedMessages[T]]:
        name = self._names[number]
        self._arrived[name] = now
        stamp += self._offsets[number]
        if self._goes_back(name, stamp):
            self.counts["clock_reset"] += 1
            self.flush()
        self._newest[name] = max(stamp, self._newest.get(name, stamp))
        if name == _SCANS and stamp not in self._waiting:
            insort(self._waiting, stamp)
            self._let_go(len(self._waiting) - self._queue)
        self._inputs[number].signalMessage(_Item(header(stamp, ""), stamp, message))
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
        scan, *images = items
        self._let_go(bisect_left(self._waiting, scan.stamp))
        del self._waiting[: bisect_right(self._waiting, scan.stamp)]
        ages = tuple(image.stamp - scan.stamp for image in images)
        self._out.append(SyncedMessages(scan.stamp, scan.message, tuple(image.message for image in images), {}, ages))

    def _let_go(self, number: int) -> None:
        """The oldest scans will not be matched any more."""
        if number > 0:
            self.counts["scan_unmatched"] += number
            del self._waiting[:number]


def message_filters() -> ModuleType:
    """The ROS package message_filters.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("message_filters")
    except ImportError as error:
        raise ConfigError(
            f"parameter sync.policy: approximate needs the ROS package message_filters ({error}); `sudo apt install "
            "ros-$ROS_DISTRO-message-filters` and source that installation, or leave sync.policy at its default"
        ) from error

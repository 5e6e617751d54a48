# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""LiDAR-led synchronizer of scans and images. Pure Python: stamps and the current time are integers, nanoseconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from occle_ros.config.node_config import MAIN_LIDAR

Scan = TypeVar("Scan")
Image = TypeVar("Image")
MILLISECOND = 1_000_000
LEADER_SILENCE = 500 * MILLISECOND
LEADER_SCANS = 3
"""Silence of the main LiDAR, by the stamps, and the scans of a further one in that time, from which on the further one starts the
frames. The number of scans distinguishes a silent LiDAR from a pause of all of them."""


@dataclass(frozen=True)
class SyncedMessages(Generic[Scan, Image]):
    """Scan with its synchronised images and the scans of further LiDARs.

    Args:
        stamp: of the leading scan, nanoseconds.
        scan: the main LiDAR's, as given to `add_scan`; None where it is silent and a further LiDAR leads.
        images: as given to `add_image`, one per camera; None for masked cameras.
        masked: camera or LiDAR -> reason: "no_image" or "no_scan" (none received yet), "stale" (all are too old) or
            "out_of_tolerance".
        lidars: as given to `add_lidar`, one per further LiDAR; None for masked ones.
    """

    stamp: int
    scan: Scan | None
    images: tuple[Image | None, ...]
    masked: dict[str, str]
    lidars: tuple[Scan | None, ...] = ()

    @property
    def lead(self) -> Scan:
        """The main LiDAR's scan; without it the first that there is."""
        return next(scan for scan in (self.scan, *self.lidars) if scan is not None)


@dataclass
class _OpenFrame(Generic[Scan]):
    stamp: int
    scan: Scan | None
    deadline: int


@dataclass
class _Source:
    """A camera or a further LiDAR; `kind` is "image" or "lidar"."""

    name: str
    offset: int
    tolerance: int
    kind: str
    stamps: list[int] = field(default_factory=list)  # ascending, with the offset added
    messages: dict[int, Any] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    period: int | None = None
    has_arrived: bool = False
    since_main: int = 0  # messages since the main LiDAR's last scan


def dropped_scans(counts: Mapping[str, int]) -> dict[str, int]:
    """Scans that opened no frame, by reason, of a synchronizer's `counts`."""
    return {reason: number for reason, number in counts.items() if reason.startswith("scan_") and reason != "scan_overflow"}


class FrameSynchronizer(Generic[Scan, Image]):
    """LiDAR-led synchronizer: a scan opens a frame, every camera adds its nearest image within the tolerance.

    So does every further LiDAR with its nearest scan. Where the main LiDAR is silent, the scans of a further one open the frames.
    A frame closes when no better message can be expected of any sensor, or at its deadline; sensors without one are masked.
    Frames are returned in the order of their stamps. All times are nanoseconds; `now` is a monotonic clock, stamps may go back.
    Unused messages are counted in `counts`:

    - scan_duplicate, scan_out_of_order, scan_without_stamp (zero again and again): the scan opened no frame;
    - scan_overflow: a frame was closed early because too many were open; clock_reset: all open frames were closed;
    - per camera ("image_late:cam2") image_duplicate: the image was not taken; image_late: its frame was closed
      already; image_unused: it belongs to no scan (normal where a camera is faster than the LiDAR); image_clock_reset: its
      clock was set back and its buffer cleared. image_out_of_order counts images that are used.
    - per further LiDAR the same as lidar_duplicate, lidar_late, ...; lidar_led counts the frames that a further LiDAR opened.

    Args:
        cameras: names, in the order of the images of a frame.
        tolerance: largest difference between the stamps of an image and its scan.
        deadline: time that a frame waits after its scan has arrived.
        offsets: added to each camera's stamps before the comparison; default 0.
        max_open: largest number of open frames; one more closes the oldest.
        max_images: buffer size per camera.
        jump: a stamp older than the newest of its topic by more than this means that the clock was set back (a bag that
            restarts); a smaller difference means that it came out of order.
        lidars: names of further LiDARs -> what is added to their stamps.
        lidar_tolerance: `tolerance` of further LiDARs; None: the same.
    """

    def __init__(self, cameras: Sequence[str], tolerance: int, deadline: int, offsets: Sequence[int] | None = None,
                 max_open: int = 4, max_images: int = 16, jump: int = 500 * MILLISECOND,
                 lidars: Mapping[str, int] | None = None, lidar_tolerance: int | None = None) -> None:  # fmt: skip
        self._cameras = [
            _Source(name, offset, tolerance, "image") for name, offset in zip(cameras, offsets or [0] * len(cameras), strict=True)
        ]
        to_lidars = tolerance if lidar_tolerance is None else lidar_tolerance
        self._lidars = [_Source(name, offset, to_lidars, "lidar") for name, offset in (lidars or {}).items()]
        self._sources = [*self._cameras, *self._lidars]
        self._main: int | None = None  # the main LiDAR's newest stamp, or where the wait for its first began
        self._has_main = False
        self._deadline = deadline
        self._max_open, self._max_images, self._jump = max_open, max_images, jump
        self._open: list[_OpenFrame[Scan]] = []
        self._newest: int | None = None
        self._refused = 0
        self._incomplete: deque[tuple[int, dict[str, str]]] = deque(maxlen=8)
        self.counts: Counter[str] = Counter()

    def add_scan(self, stamp: int, scan: Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add a scan; returns the frames that are closed now."""
        self._main, self._has_main = stamp, True
        for source in self._lidars:
            source.since_main = 0
        return self._start(stamp, scan, now)

    def add_lidar(self, number: int, stamp: int, scan: Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add a scan of the further LiDAR with this index; returns the frames that are closed now."""
        source = self._lidars[number]
        closed = self._add(source, stamp, scan, now)
        stamp += source.offset
        if self._main is None or stamp < self._main - self._jump:
            self._main = stamp
        source.since_main += 1
        is_led = any(other.stamps and stamp - other.stamps[-1] <= LEADER_SILENCE for other in self._lidars[:number])
        if stamp - self._main > LEADER_SILENCE and source.since_main >= LEADER_SCANS and not is_led:
            self.counts["lidar_led"] += 1
            closed += self._start(stamp, None, now)
        return closed

    def add_image(self, camera: int, stamp: int, image: Image, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add an image of the camera with this index; returns the frames that are closed now."""
        return self._add(self._cameras[camera], stamp, image, now)

    def _start(self, stamp: int, scan: Scan | None, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Open a frame, unless its stamp goes back."""
        closed: list[SyncedMessages[Scan, Image]] = []
        if stamp == 0 == self._newest:  # a recording may begin at zero; a driver that never sets its stamps stays there
            self.counts["scan_without_stamp"] += 1
            return self.poll(now)
        if self._newest is not None and stamp <= self._newest:
            # Three refused scans in a row are no disorder of the network: a bag shorter than `jump` starts again.
            self._refused += 1
            if self._newest - stamp <= self._jump and self._refused < 3:
                self.counts["scan_duplicate" if stamp == self._newest else "scan_out_of_order"] += 1
                return self.poll(now)
            self.counts["clock_reset"] += 1
            closed += self.flush()
            self._incomplete.clear()
            self._forget_after(stamp + self._jump)
        self._refused = 0
        self._newest = stamp
        self._open.append(_OpenFrame(stamp, scan, now + self._deadline))
        closed += self.poll(now)
        while len(self._open) > self._max_open:
            self.counts["scan_overflow"] += 1
            closed.append(self._close(self._open.pop(0)))
        return closed

    def _add(self, source: _Source, stamp: int, message: Image | Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        source.has_arrived = True
        stamp += source.offset
        if stamp in source.messages:
            self.counts[f"{source.kind}_duplicate:{source.name}"] += 1
            return self.poll(now)
        if source.stamps and stamp < source.stamps[-1]:
            if source.stamps[-1] - stamp > self._jump:
                self.counts[f"{source.kind}_clock_reset:{source.name}"] += 1
                self._forget(source, 0, len(source.stamps))
            else:
                self.counts[f"{source.kind}_out_of_order:{source.name}"] += 1
        elif source.stamps:
            source.period = stamp - source.stamps[-1]
        insort(source.stamps, stamp)
        source.messages[stamp] = message
        if any(source.name in masked and abs(scan - stamp) <= source.tolerance for scan, masked in self._incomplete):
            self.counts[f"{source.kind}_late:{source.name}"] += 1
            source.used.add(stamp)
        if len(source.stamps) > self._max_images:
            self._forget(source, 0, 1)
        return self.poll(now)

    def poll(self, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Close the frames that are complete or whose deadline has passed; returns them, oldest first."""
        # A later frame that is ready closes the earlier ones too: their messages would have come before its own.
        ready = [i for i, frame in enumerate(self._open) if now >= frame.deadline or self._is_settled(frame)]
        count = ready[-1] + 1 if ready else 0
        closing, self._open = self._open[:count], self._open[count:]
        return [self._close(frame) for frame in closing]

    def next_deadline(self) -> int | None:
        """Time of the next necessary `poll`; None while no frame is open."""
        return min((frame.deadline for frame in self._open), default=None)

    def flush(self) -> list[SyncedMessages[Scan, Image]]:
        """Close all open frames (the input has ended)."""
        closing, self._open = self._open, []
        return [self._close(frame) for frame in closing]

    def _is_settled(self, frame: _OpenFrame[Scan]) -> bool:
        return all(self._is_final(source, frame.stamp) for source in self._sources)

    def _is_final(self, source: _Source, stamp: int) -> bool:
        """True if no later message can be nearer to the frame than the nearest one in the buffer."""
        if not source.stamps:
            return False
        newest = source.stamps[-1]
        if newest >= stamp:
            return True
        # The newest message is older than the frame; the next is expected a period after it, on the frame's other side.
        gap = stamp - newest
        return gap <= source.tolerance and source.period is not None and 2 * gap <= source.period

    def _close(self, frame: _OpenFrame[Scan]) -> SyncedMessages[Scan, Image]:
        found: list[Any] = []
        masked: dict[str, str] = {}
        if frame.scan is None:
            masked[MAIN_LIDAR] = "stale" if self._has_main else "no_scan"
        for source in self._sources:
            nearest = self._nearest(source, frame.stamp)
            if nearest is not None and abs(nearest - frame.stamp) <= source.tolerance:
                found.append(source.messages[nearest])
                source.used.add(nearest)
                continue
            found.append(None)
            if not source.has_arrived:
                masked[source.name] = "no_image" if source.kind == "image" else "no_scan"
            elif nearest is None or source.stamps[-1] < frame.stamp:
                masked[source.name] = "stale"
            else:
                masked[source.name] = "out_of_tolerance"
        self._forget_before(frame.stamp)
        if masked:
            self._incomplete.append((frame.stamp, masked))
        images, lidars = found[: len(self._cameras)], found[len(self._cameras) :]
        return SyncedMessages(frame.stamp, frame.scan, tuple(images), masked, tuple(lidars))

    def _nearest(self, source: _Source, stamp: int) -> int | None:
        at = bisect_left(source.stamps, stamp)
        return min(source.stamps[max(at - 1, 0) : at + 1], key=lambda s: abs(s - stamp), default=None)

    def _forget_before(self, scan: int) -> None:
        """Remove messages that no frame after this scan's can use.

        The newest stays, as its stamp separates stale from out_of_tolerance.
        """
        for source in self._sources:
            stamp = scan - source.tolerance
            # What is older by a whole jump belongs to the time after a clock was set back, whose scans are still to come.
            first, last = bisect_left(source.stamps, stamp - self._jump), bisect_left(source.stamps[:-1], stamp)
            self._forget(source, first, last)

    def _forget_after(self, stamp: int) -> None:
        for source in self._sources:
            self._forget(source, bisect_right(source.stamps, stamp), len(source.stamps))

    def _forget(self, source: _Source, first: int, last: int) -> None:
        for old in source.stamps[first:last]:
            del source.messages[old]
            if old in source.used:
                source.used.remove(old)
            else:
                self.counts[f"{source.kind}_unused:{source.name}"] += 1
        del source.stamps[first:last]

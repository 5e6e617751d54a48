"""LiDAR-led synchronizer of scans and images. Pure Python: stamps and the current time are integers, nanoseconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Scan = TypeVar("Scan")
Image = TypeVar("Image")
MILLISECOND = 1_000_000


@dataclass(frozen=True)
class SyncedMessages(Generic[Scan, Image]):
    """Scan with its synchronised images.

    Args:
        stamp: of the scan, nanoseconds.
        scan: as given to `add_scan`.
        images: as given to `add_image`, one per camera; None for masked cameras.
        masked: camera -> reason: "no_image" (none received yet), "stale" (all are too old) or "out_of_tolerance".
    """

    stamp: int
    scan: Scan
    images: tuple[Image | None, ...]
    masked: dict[str, str]


@dataclass
class _OpenFrame(Generic[Scan]):
    stamp: int
    scan: Scan
    deadline: int


@dataclass
class _Camera(Generic[Image]):
    name: str
    offset: int
    stamps: list[int] = field(default_factory=list)  # ascending, with the offset added
    images: dict[int, Image] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    period: int | None = None
    has_arrived: bool = False


def dropped_scans(counts: Mapping[str, int]) -> dict[str, int]:
    """Scans that opened no frame, by reason, of a synchronizer's `counts`."""
    return {reason: number for reason, number in counts.items() if reason.startswith("scan_") and reason != "scan_overflow"}


class FrameSynchronizer(Generic[Scan, Image]):
    """LiDAR-led synchronizer: a scan opens a frame, every camera adds its nearest image within the tolerance.

    A frame closes when no better image can be expected of any camera, or at its deadline; cameras without an image are masked.
    Frames are returned in the order of their stamps. All times are nanoseconds; `now` is a monotonic clock, stamps may go back.
    Unused messages are counted in `counts`:

    - scan_duplicate, scan_out_of_order, scan_without_stamp (zero again and again): the scan opened no frame;
    - scan_overflow: a frame was closed early because too many were open; clock_reset: all open frames were closed;
    - per camera ("image_late:cam2") image_duplicate: the image was not taken; image_late: its frame was closed
      already; image_unused: it belongs to no scan (normal where a camera is faster than the LiDAR); image_clock_reset: its
      clock was set back and its buffer cleared. image_out_of_order counts images that are used.

    Args:
        cameras: names, in the order of the images of a frame.
        tolerance: largest difference between the stamps of an image and its scan.
        deadline: time that a frame waits after its scan has arrived.
        offsets: added to each camera's stamps before the comparison; default 0.
        max_open: largest number of open frames; one more closes the oldest.
        max_images: buffer size per camera.
        jump: a stamp older than the newest of its topic by more than this means that the clock was set back (a bag that
            restarts); a smaller difference means that it came out of order.
    """

    def __init__(self, cameras: Sequence[str], tolerance: int, deadline: int, offsets: Sequence[int] | None = None,
                 max_open: int = 4, max_images: int = 16, jump: int = 500 * MILLISECOND) -> None:  # fmt: skip
        self._cameras = [_Camera[Image](name, offset) for name, offset in zip(cameras, offsets or [0] * len(cameras), strict=True)]
        self._tolerance, self._deadline = tolerance, deadline
        self._max_open, self._max_images, self._jump = max_open, max_images, jump
        self._open: list[_OpenFrame[Scan]] = []
        self._newest: int | None = None
        self._refused = 0
        self._incomplete: deque[tuple[int, dict[str, str]]] = deque(maxlen=8)
        self.counts: Counter[str] = Counter()

    def add_scan(self, stamp: int, scan: Scan, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add a scan; returns the frames that are closed now."""
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
            self._forget_images_after(stamp + self._jump)
        self._refused = 0
        self._newest = stamp
        self._open.append(_OpenFrame(stamp, scan, now + self._deadline))
        closed += self.poll(now)
        while len(self._open) > self._max_open:
            self.counts["scan_overflow"] += 1
            closed.append(self._close(self._open.pop(0)))
        return closed

    def add_image(self, camera: int, stamp: int, image: Image, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Add an image of the camera with this index; returns the frames that are closed now."""
        source = self._cameras[camera]
        source.has_arrived = True
        stamp += source.offset
        if stamp in source.images:
            self.counts[f"image_duplicate:{source.name}"] += 1
            return self.poll(now)
        if source.stamps and stamp < source.stamps[-1]:
            if source.stamps[-1] - stamp > self._jump:
                self.counts[f"image_clock_reset:{source.name}"] += 1
                self._forget(source, 0, len(source.stamps))
            else:
                self.counts[f"image_out_of_order:{source.name}"] += 1
        elif source.stamps:
            source.period = stamp - source.stamps[-1]
        insort(source.stamps, stamp)
        source.images[stamp] = image
        if any(source.name in masked and abs(scan - stamp) <= self._tolerance for scan, masked in self._incomplete):
            self.counts[f"image_late:{source.name}"] += 1
            source.used.add(stamp)
        if len(source.stamps) > self._max_images:
            self._forget(source, 0, 1)
        return self.poll(now)

    def poll(self, now: int) -> list[SyncedMessages[Scan, Image]]:
        """Close the frames that are complete or whose deadline has passed; returns them, oldest first."""
        # A later frame that is ready closes the earlier ones too: their images would have come before its own.
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
        return all(self._is_final(camera, frame.stamp) for camera in self._cameras)

    def _is_final(self, camera: _Camera[Image], stamp: int) -> bool:
        """True if no later image can be nearer to the scan than the nearest one in the buffer."""
        if not camera.stamps:
            return False
        newest = camera.stamps[-1]
        if newest >= stamp:
            return True
        # The newest image is older than the scan; the next is expected a period after it, on the scan's other side.
        gap = stamp - newest
        return gap <= self._tolerance and camera.period is not None and 2 * gap <= camera.period

    def _close(self, frame: _OpenFrame[Scan]) -> SyncedMessages[Scan, Image]:
        images: list[Image | None] = []
        masked: dict[str, str] = {}
        for camera in self._cameras:
            nearest = self._nearest(camera, frame.stamp)
            if nearest is not None and abs(nearest - frame.stamp) <= self._tolerance:
                images.append(camera.images[nearest])
                camera.used.add(nearest)
                continue
            images.append(None)
            if not camera.has_arrived:
                masked[camera.name] = "no_image"
            elif nearest is None or camera.stamps[-1] < frame.stamp:
                masked[camera.name] = "stale"
            else:
                masked[camera.name] = "out_of_tolerance"
        self._forget_images_before(frame.stamp - self._tolerance)
        if masked:
            self._incomplete.append((frame.stamp, masked))
        return SyncedMessages(frame.stamp, frame.scan, tuple(images), masked)

    def _nearest(self, camera: _Camera[Image], stamp: int) -> int | None:
        at = bisect_left(camera.stamps, stamp)
        return min(camera.stamps[max(at - 1, 0) : at + 1], key=lambda s: abs(s - stamp), default=None)

    def _forget_images_before(self, stamp: int) -> None:
        """Remove images that no later scan can use; the newest stays, as its stamp separates stale from out_of_tolerance."""
        for camera in self._cameras:
            # What is older by a whole jump belongs to the time after a clock was set back, whose scans are still to come.
            first, last = bisect_left(camera.stamps, stamp - self._jump), bisect_left(camera.stamps[:-1], stamp)
            self._forget(camera, first, last)

    def _forget_images_after(self, stamp: int) -> None:
        for camera in self._cameras:
            self._forget(camera, bisect_right(camera.stamps, stamp), len(camera.stamps))

    def _forget(self, camera: _Camera[Image], first: int, last: int) -> None:
        for old in camera.stamps[first:last]:
            del camera.images[old]
            if old in camera.used:
                camera.used.remove(old)
            else:
                self.counts[f"image_unused:{camera.name}"] += 1
        del camera.stamps[first:last]

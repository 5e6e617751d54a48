"""Which images belong to which scan. Pure Python: stamps and the present time come in as integers, frames go out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
MILLISECOND = 1_000_000


@dataclass(frozen=True)
class SyncedMessages(Generic[T]):
    """One scan and what its cameras contributed.

    Args:
        stamp: the scan's stamp, nanoseconds.
        scan: what `add_scan` was given.
        images: what `add_image` was given, one per camera; None where a camera contributed nothing.
        missing: for those cameras the reason, "no_image" (none ever came), "stale" (all are too old) or "out_of_tolerance".
        ages: per camera, image's stamp (its time offset added) minus scan's stamp, nanoseconds; None where it has no image.
    """

    stamp: int
    scan: T
    images: tuple[T | None, ...]
    missing: dict[str, str]
    ages: tuple[int | None, ...] = ()


@dataclass
class _Open(Generic[T]):
    stamp: int
    scan: T
    deadline: int


@dataclass
class _Camera(Generic[T]):
    name: str
    offset: int
    stamps: list[int] = field(default_factory=list)  # ascending, with the offset added
    images: dict[int, T] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    period: int | None = None
    arrived: int | None = None


def scans_without_frame(counts: Mapping[str, int]) -> dict[str, int]:
    """Of a synchronizer's `counts`, the reasons for which a scan opened no frame."""
    return {reason: number for reason, number in counts.items() if reason.startswith("scan_") and reason != "scan_overflow"}


class FrameSynchronizer(Generic[T]):
    """LiDAR-led collection: a scan opens a frame, every camera contributes its nearest image within the tolerance.

    A frame closes when no better image can be expected of any camera, or at its deadline with the cameras it has. Frames
    come out in the order of their stamps. All times are nanoseconds; `now` is a clock that never goes back, stamps may.
    What was not used is counted in `counts`:

    - scan_duplicate, scan_out_of_order, scan_without_stamp (zero again and again): the scan opened no frame;
    - scan_overflow: a frame was closed early because too many were open; clock_reset: everything open was closed;
    - per camera ("image_late:cam2") image_duplicate: the image was not taken; image_late: its scan's frame had gone out
      without it; image_unused: no scan took it (usual where a camera is faster than the LiDAR); image_clock_reset: its clock
      was set back, what was kept is forgotten. image_out_of_order counts images that are used.

    Args:
        cameras: names, in the order of the images of a frame.
        tolerance: largest difference between an image's and its scan's stamp.
        deadline: how long a frame waits after its scan arrived.
        offsets: added to each camera's stamps before they are compared; default 0.
        max_open: frames that may wait at once; one more closes the oldest.
        max_images: images that are kept per camera.
        jump: a stamp that is older than the newest of its topic by more than this is a clock that was set back (a bag that
            starts again); up to this it came out of order.
    """

    def __init__(self, cameras: Sequence[str], tolerance: int, deadline: int, offsets: Sequence[int] | None = None,
                 max_open: int = 4, max_images: int = 16, jump: int = 500 * MILLISECOND) -> None:  # fmt: skip
        self._cameras = [_Camera[T](name, offset) for name, offset in zip(cameras, offsets or [0] * len(cameras), strict=True)]
        self._tolerance, self._deadline = tolerance, deadline
        self._max_open, self._max_images, self._jump = max_open, max_images, jump
        self._open: list[_Open[T]] = []
        self._newest: int | None = None
        self._refused = 0
        self._incomplete: deque[tuple[int, dict[str, str]]] = deque(maxlen=8)
        self.counts: Counter[str] = Counter()

    def add_scan(self, stamp: int, scan: T, now: int) -> list[SyncedMessages[T]]:
        """Take a scan; returns the frames that are closed now."""
        closed: list[SyncedMessages[T]] = []
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
        self._open.append(_Open(stamp, scan, now + self._deadline))
        closed += self.poll(now)
        while len(self._open) > self._max_open:
            self.counts["scan_overflow"] += 1
            closed.append(self._close(self._open.pop(0)))
        return closed

    def add_image(self, camera: int, stamp: int, image: T, now: int) -> list[SyncedMessages[T]]:
        """Take an image of the camera with this number; returns the frames that are closed now."""
        source = self._cameras[camera]
        source.arrived = now
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
        if any(source.name in missing and abs(scan - stamp) <= self._tolerance for scan, missing in self._incomplete):
            self.counts[f"image_late:{source.name}"] += 1
            source.used.add(stamp)
        if len(source.stamps) > self._max_images:
            self._forget(source, 0, 1)
        return self.poll(now)

    def silences(self, now: int) -> dict[str, int | None]:
        """Per camera how long ago its last image arrived; None where none ever came."""
        return {camera.name: None if camera.arrived is None else now - camera.arrived for camera in self._cameras}

    def poll(self, now: int) -> list[SyncedMessages[T]]:
        """The frames that are complete or whose deadline has passed, oldest first."""
        # A later frame that is ready closes the earlier ones too: their images would have come before its own.
        ready = [i for i, frame in enumerate(self._open) if now >= frame.deadline or self._is_settled(frame)]
        count = ready[-1] + 1 if ready else 0
        closing, self._open = self._open[:count], self._open[count:]
        return [self._close(frame) for frame in closing]

    def next_deadline(self) -> int | None:
        """When `poll` has to be called at the latest; None while no frame waits."""
        return min((frame.deadline for frame in self._open), default=None)

    def flush(self) -> list[SyncedMessages[T]]:
        """Close all frames with what they have (the input has ended)."""
        closing, self._open = self._open, []
        return [self._close(frame) for frame in closing]

    def _is_settled(self, frame: _Open[T]) -> bool:
        return all(self._is_final(camera, frame.stamp) for camera in self._cameras)

    def _is_final(self, camera: _Camera[T], stamp: int) -> bool:
        """No image that is still to come can be nearer to the scan than the nearest that is here."""
        if not camera.stamps:
            return False
        newest = camera.stamps[-1]
        if newest >= stamp:
            return True
        # The newest image is older than the scan; the next is expected a period after it, on the scan's other side.
        gap = stamp - newest
        return gap <= self._tolerance and camera.period is not None and 2 * gap <= camera.period

    def _close(self, frame: _Open[T]) -> SyncedMessages[T]:
        images: list[T | None] = []
        ages: list[int | None] = []
        missing: dict[str, str] = {}
        for camera in self._cameras:
            nearest = self._nearest(camera, frame.stamp)
            if nearest is not None and abs(nearest - frame.stamp) <= self._tolerance:
                images.append(camera.images[nearest])
                ages.append(nearest - frame.stamp)
                camera.used.add(nearest)
                continue
            images.append(None)
            ages.append(None)
            if camera.arrived is None:
                missing[camera.name] = "no_image"
            elif nearest is None or camera.stamps[-1] < frame.stamp:
                missing[camera.name] = "stale"
            else:
                missing[camera.name] = "out_of_tolerance"
        self._forget_images_before(frame.stamp - self._tolerance)
        if missing:
            self._incomplete.append((frame.stamp, missing))
        return SyncedMessages(frame.stamp, frame.scan, tuple(images), missing, tuple(ages))

    def _nearest(self, camera: _Camera[T], stamp: int) -> int | None:
        at = bisect_left(camera.stamps, stamp)
        return min(camera.stamps[max(at - 1, 0) : at + 1], key=lambda s: abs(s - stamp), default=None)

    def _forget_images_before(self, stamp: int) -> None:
        """Images that no later scan can use; the newest stays, its stamp tells whether the camera is alive."""
        for camera in self._cameras:
            # What is older by a whole jump belongs to the time after a clock was set back, whose scans are still to come.
            first, last = bisect_left(camera.stamps, stamp - self._jump), bisect_left(camera.stamps[:-1], stamp)
            self._forget(camera, first, last)

    def _forget_images_after(self, stamp: int) -> None:
        for camera in self._cameras:
            self._forget(camera, bisect_right(camera.stamps, stamp), len(camera.stamps))

    def _forget(self, camera: _Camera[T], first: int, last: int) -> None:
        for old in camera.stamps[first:last]:
            del camera.images[old]
            if old in camera.used:
                camera.used.remove(old)
            else:
                self.counts[f"image_unused:{camera.name}"] += 1
        del camera.stamps[first:last]

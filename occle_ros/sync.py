"""Which images belong to which scan. Pure Python: stamps and the present time come in as integers, frames go out."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
MILLISECOND = 1_000_000


@dataclass(frozen=True)
class Collected(Generic[T]):
    """One scan and what its cameras contributed.

    Args:
        stamp: the scan's stamp, nanoseconds.
        scan: what `add_scan` was given.
        images: what `add_image` was given, one per camera; None where a camera contributed nothing.
        missing: for those cameras the reason, "no_image" (none ever came), "stale" (all are too old) or "out_of_tolerance".
    """

    stamp: int
    scan: T
    images: tuple[T | None, ...]
    missing: dict[str, str]


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
    period: int | None = None
    seen: bool = False


class Collector(Generic[T]):
    """LiDAR-led collection: a scan opens a frame, every camera contributes its nearest image within the tolerance.

    A frame closes when no better image can be expected of any camera, or at its deadline with the cameras it has. Frames
    come out in the order of their stamps. All times are nanoseconds; `now` is a clock that never goes back, stamps may.
    What was not used is counted in `counts`: scan_duplicate, scan_out_of_order, scan_overflow, clock_reset, and
    image_duplicate, image_out_of_order and image_clock_reset per camera ("image_duplicate:cam2").

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
        self.counts: Counter[str] = Counter()

    def add_scan(self, stamp: int, scan: T, now: int) -> list[Collected[T]]:
        """Take a scan; returns the frames that are closed now."""
        closed: list[Collected[T]] = []
        if self._newest is not None and stamp <= self._newest:
            # Three refused scans in a row are no disorder of the network: a bag shorter than `jump` starts again.
            self._refused += 1
            if self._newest - stamp <= self._jump and self._refused < 3:
                self.counts["scan_duplicate" if stamp == self._newest else "scan_out_of_order"] += 1
                return self.poll(now)
            self.counts["clock_reset"] += 1
            closed += self.flush()
            self._forget_images_after(stamp + self._jump)
        self._refused = 0
        self._newest = stamp
        self._open.append(_Open(stamp, scan, now + self._deadline))
        closed += self.poll(now)
        while len(self._open) > self._max_open:
            self.counts["scan_overflow"] += 1
            closed.append(self._close(self._open.pop(0)))
        return closed

    def add_image(self, camera: int, stamp: int, image: T, now: int) -> list[Collected[T]]:
        """Take an image of the camera with this number; returns the frames that are closed now."""
        source = self._cameras[camera]
        stamp += source.offset
        source.seen = True
        if stamp in source.images:
            self.counts[f"image_duplicate:{source.name}"] += 1
            return self.poll(now)
        if source.stamps and stamp < source.stamps[-1]:
            if source.stamps[-1] - stamp > self._jump:
                self.counts[f"image_clock_reset:{source.name}"] += 1
                source.stamps.clear()
                source.images.clear()
            else:
                self.counts[f"image_out_of_order:{source.name}"] += 1
        elif source.stamps:
            source.period = stamp - source.stamps[-1]
        insort(source.stamps, stamp)
        source.images[stamp] = image
        if len(source.stamps) > self._max_images:
            del source.images[source.stamps.pop(0)]
        return self.poll(now)

    def poll(self, now: int) -> list[Collected[T]]:
        """The frames that are complete or whose deadline has passed, oldest first."""
        # A later frame that is ready closes the earlier ones too: their images would have come before its own.
        ready = [i for i, frame in enumerate(self._open) if now >= frame.deadline or self._is_settled(frame)]
        count = ready[-1] + 1 if ready else 0
        closing, self._open = self._open[:count], self._open[count:]
        return [self._close(frame) for frame in closing]

    def next_deadline(self) -> int | None:
        """When `poll` has to be called at the latest; None while no frame waits."""
        return min((frame.deadline for frame in self._open), default=None)

    def flush(self) -> list[Collected[T]]:
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

    def _close(self, frame: _Open[T]) -> Collected[T]:
        images: list[T | None] = []
        missing: dict[str, str] = {}
        for camera in self._cameras:
            nearest = self._nearest(camera, frame.stamp)
            if nearest is not None and abs(nearest - frame.stamp) <= self._tolerance:
                images.append(camera.images[nearest])
                continue
            images.append(None)
            if not camera.seen:
                missing[camera.name] = "no_image"
            elif nearest is None or camera.stamps[-1] < frame.stamp:
                missing[camera.name] = "stale"
            else:
                missing[camera.name] = "out_of_tolerance"
        self._forget_images_before(frame.stamp - self._tolerance)
        return Collected(frame.stamp, frame.scan, tuple(images), missing)

    def _nearest(self, camera: _Camera[T], stamp: int) -> int | None:
        at = bisect_left(camera.stamps, stamp)
        return min(camera.stamps[max(at - 1, 0) : at + 1], key=lambda s: abs(s - stamp), default=None)

    def _forget_images_before(self, stamp: int) -> None:
        """Images that no later scan can use; the newest stays, its stamp tells whether the camera is alive."""
        for camera in self._cameras:
            # What is older by a whole jump belongs to the time after a clock was set back, whose scans are still to come.
            first, last = bisect_left(camera.stamps, stamp - self._jump), bisect_left(camera.stamps[:-1], stamp)
            for old in camera.stamps[first:last]:
                del camera.images[old]
            del camera.stamps[first:last]

    def _forget_images_after(self, stamp: int) -> None:
        for camera in self._cameras:
            while camera.stamps and camera.stamps[-1] > stamp:
                del camera.images[camera.stamps.pop()]

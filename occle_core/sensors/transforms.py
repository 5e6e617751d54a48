# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Transform buffer: transforms between frames over time from /tf_static and /tf, as tf2's buffer."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.sensors.messages import ConversionError, stamp_of

Matrix = NDArray[np.float64]
JUMP = 1_000_000_000
"""Nanoseconds that a transform is older than the newest between the same frames from which the clock was set back: a bag that
restarts, a simulation that is reset."""


class TransformError(LookupError):
    """Two frames that no chain of known transforms connects, or not at that time; the message says which are known."""


class _FrameLink:
    """A frame's transforms to its parent: (stamp, x y z qx qy qz qw), ascending.

    Args:
        parent: the frame above.
        is_fixed: from /tf_static: the last holds at all times.
    """

    def __init__(self, parent: str, is_fixed: bool) -> None:
        self.parent, self.is_fixed = parent, is_fixed
        self.known: list[tuple[int, NDArray[np.float64]]] = []
        self.moves = False

    def add(self, stamp: int, values: NDArray[np.float64], kept: int | None) -> bool:
        """Add a transform; True if results that were cached as constant are void."""
        changes = not self.known or not (self.moves or np.array_equal(self.known[-1][1], values))
        self.moves = self.moves or (bool(self.known) and changes and not self.is_fixed)
        if self.is_fixed:
            self.known.clear()
        bisect.insort_right(self.known, (stamp, values), key=_when)
        if kept:
            del self.known[:-kept]
        return changes

    def forget_after(self, stamp: int) -> bool:
        """Remove what is later; False if that is all. What has never changed stays, as of that time."""
        if self.is_fixed:
            return True
        latest = self.known[-1]
        del self.known[bisect.bisect_right(self.known, stamp, key=_when) :]
        if not self.known and not self.moves:
            self.known.append((stamp, latest[1]))
        return bool(self.known)

    def at(self, child: str, stamp: int | None, slack: int) -> tuple[Matrix, bool]:
        """T_parent_child at a time, and whether that lies outside the known times."""
        if stamp is None or self.is_fixed or (slack and not self.moves):
            return _matrix(self.known[-1][1]), False
        after = bisect.bisect_left(self.known, stamp, key=_when)
        if after < len(self.known) and self.known[after][0] == stamp:
            return _matrix(self.known[after][1]), False
        if 0 < after < len(self.known):
            (before, one), (behind, other) = self.known[after - 1 : after + 1]
            return _between(one, other, (stamp - before) / (behind - before)), False
        nearest, values = self.known[0 if after == 0 else -1]
        if abs(nearest - stamp) <= slack:
            return _matrix(values), True
        first, last = (self.known[end][0] / 1e9 for end in (0, -1))
        raise TransformError(
            f"the transform {self.parent} -> {child} is known from {first:.3f} to {last:.3f} s, not at {stamp / 1e9:.3f} s"
        )


class TransformBuffer:
    """Every frame's transforms to its parent, over time. Safe to use from several threads.

    Args:
        kept: how many, the latest, are kept of each frame, and none of the time before the clock was set back; None: all.
    """

    def __init__(self, kept: int | None = 1000) -> None:
        self._kept = kept
        self._links: dict[str, _FrameLink] = {}
        self._constant: dict[tuple[str, str], Matrix] = {}
        self._lock = threading.Lock()
        self.notes: set[str] = set()
        """Notes for the user on the transforms that were used."""

    def add(self, message: Any, fixed: bool = False) -> None:
        """Take every transform of a /tf message or, `fixed`, of a /tf_static one, which holds at all times.

        Raises:
            ConversionError: a transform is not finite or has no rotation; the others of the message were taken.
        """
        problems = []
        for transform in message.transforms:
            child, parent = frame_name(transform.child_frame_id), frame_name(transform.header.frame_id)
            try:
                values = _values(transform.transform)
            except ConversionError as error:
                problems.append(f"{parent} -> {child}: {error}")
                continue
            with self._lock:
                stamp, link = stamp_of(transform), self._links.get(child)
                if self._kept and link is not None and not fixed and link.known[-1][0] - stamp > JUMP:
                    self._links = {frame: other for frame, other in self._links.items() if other.forget_after(stamp)}
                    self._constant.clear()
                    link = self._links.get(child)
                if link is None or link.parent != parent or link.is_fixed != fixed:
                    link = self._links[child] = _FrameLink(parent, fixed)
                if link.add(stamp, values, self._kept):
                    self._constant.clear()
        if problems:
            raise ConversionError("; ".join(problems))

    def add_odometry(self, message: Any) -> None:
        """Take the pose of a nav_msgs Odometry as the transform from its child frame to its header's frame.

        Raises:
            ConversionError: the pose is not finite or has no rotation.
        """
        pose = message.pose.pose
        transform = SimpleNamespace(translation=pose.position, rotation=pose.orientation)
        self.add(
            SimpleNamespace(
                transforms=[SimpleNamespace(header=message.header, child_frame_id=message.child_frame_id, transform=transform)]
            )
        )

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0, wait: bool = True) -> Matrix:
        """T_target_source (4, 4): maps points from `source` to `target`.

        Args:
            target: frame that points are mapped to.
            source: frame that points are given in.
            stamp: nanoseconds; between the times that transforms are known for, they are interpolated. None: the latest.
            slack: nanoseconds; up to so far outside the known times, the nearest of them does. With a slack a transform that
                has never changed counts as constant: some drivers send fixed ones on /tf.
            wait: no difference here; tf2's buffer waits a moment for a transform that is not there yet.

        Raises:
            TransformError: no chain connects the frames, or not at that time.
        """
        target, source = frame_name(target), frame_name(source)
        may_be_constant = stamp is None or slack > 0
        with self._lock:
            if may_be_constant and (known := self._constant.get((target, source))) is not None:
                return known
            above_target = self._ancestors(target)
            common = next((frame for frame in self._ancestors(source) if frame in above_target), None)
            if common is None:
                raise TransformError(
                    f"no transform from {source!r} to {target!r}; the frames known from /tf_static and /tf are: {self}"
                )
            # As in tf2, transforms above the common frame do not matter, also where they are not known at that time.
            T = np.linalg.inv(self._climb(target, common, stamp, slack)) @ self._climb(source, common, stamp, slack)
            T.setflags(write=False)
            if may_be_constant and not (self._moves(target, common) or self._moves(source, common)):
                self._constant[target, source] = T
        return T

    def latest(self, target: str, source: str) -> int | None:
        """Newest stamp (nanoseconds) that T_target_source is known for; None where it is constant or not known at all."""
        target, source = frame_name(target), frame_name(source)
        with self._lock:
            up, down = self._ancestors(source), self._ancestors(target)
            common = next((frame for frame in up if frame in down), None)
            if common is None:
                return None
            links = [self._links[frame] for path in (up, down) for frame in path[: path.index(common)]]
            return min((link.known[-1][0] for link in links if not link.is_fixed), default=None)

    def times(self, target: str, source: str) -> list[int]:
        """Stamps of all transforms that move between two frames, ascending, nanoseconds; none where no chain connects them."""
        found: set[int] = set()
        with self._lock:
            chains = [self._ancestors(frame_name(frame)) for frame in (target, source)]
            for frame in set(chains[0]) ^ set(chains[1]):
                link = self._links.get(frame)
                if link is not None and not link.is_fixed:
                    found.update(stamp for stamp, _ in link.known)
        return sorted(found)

    def moves(self, target: str, source: str) -> bool:
        """True if a transform between two frames has ever changed; some drivers send fixed ones on /tf."""
        with self._lock:
            chains = [self._ancestors(frame_name(frame)) for frame in (target, source)]
            links = (self._links.get(frame) for frame in set(chains[0]) ^ set(chains[1]))
            return any(link.moves for link in links if link is not None)

    def __str__(self) -> str:
        return ", ".join(f"{link.parent} -> {child}" for child, link in sorted(self._links.items())) or "none"

    def _ancestors(self, frame: str) -> list[str]:
        """Every frame above `frame`, itself first."""
        found = [frame]
        while (link := self._links.get(frame)) is not None:
            frame = link.parent
            if frame in found:
                raise TransformError(f"the transforms form a loop at {frame!r}: {self}")
            found.append(frame)
        return found

    def _climb(self, frame: str, ancestor: str, stamp: int | None, slack: int) -> Matrix:
        """T_ancestor_frame at a time."""
        T: Matrix = np.eye(4)
        while frame != ancestor:
            link = self._links[frame]
            step, is_outside = link.at(frame, stamp, slack)
            if is_outside:
                self.notes.add(used_nearest(f"{link.parent} -> {frame}", slack))
            frame, T = link.parent, step @ T
        return T

    def _moves(self, frame: str, ancestor: str) -> bool:
        while frame != ancestor:
            link = self._links[frame]
            if link.moves:
                return True
            frame = link.parent
        return False


class LazyTransformBuffer:
    """Transforms that are read when the first is asked for: most runs over a bag need none of its /tf.

    Args:
        read: gives all of them.
    """

    def __init__(self, read: Callable[[], TransformBuffer]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._transforms: TransformBuffer | None = None

    @property
    def notes(self) -> set[str]:
        """As `TransformBuffer.notes`."""
        return self._transforms.notes if self._transforms else set()

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0, wait: bool = True) -> Matrix:
        """As `TransformBuffer.lookup`."""
        with self._lock:
            self._transforms = self._transforms or self._read()
        return self._transforms.lookup(target, source, stamp, slack)


def used_nearest(transform: str, slack: int) -> str:
    """The note on a transform that was not known at a scan's time."""
    return f"the transform {transform} was not known at a scan's time: the nearest within {slack / 1e9:g} s was used"


def frame_name(name: str) -> str:
    """tf2 knows no leading slash; drivers from ROS 1 times still send one."""
    return name.lstrip("/")


def matrix_from_transform(message: Any) -> Matrix:
    """geometry_msgs Transform -> (4, 4).

    Raises:
        ConversionError: the quaternion has no length or a number is not finite.
    """
    return _matrix(_values(message))


def _values(message: Any) -> NDArray[np.float64]:
    """(7,) x y z qx qy qz qw, the quaternion of length 1."""
    t, q = message.translation, message.rotation
    values = np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w], np.float64)
    length = float(np.linalg.norm(values[3:]))
    if not np.isfinite(values).all() or length < 1e-6:
        raise ConversionError(f"not a transform: translation {values[:3].tolist()}, quaternion {values[3:].tolist()}")
    values[3:] /= length
    return values


def _matrix(values: NDArray[np.float64]) -> Matrix:
    x, y, z, w = values[3:].tolist()
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = values[:3]
    return T


def _between(one: NDArray[np.float64], other: NDArray[np.float64], share: float) -> Matrix:
    """The rigid transform at a share 0..1 of the way from one to the other; for the small rotations between two messages."""
    mixed = (1 - share) * one + share * other
    if one[3:] @ other[3:] < 0:  # the same rotation has two quaternions
        mixed[3:] = (1 - share) * one[3:] - share * other[3:]
    mixed[3:] /= np.linalg.norm(mixed[3:])
    return _matrix(mixed)


def _when(entry: tuple[int, NDArray[np.float64]]) -> int:
    return entry[0]

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frame history for networks that look at several frames."""

from __future__ import annotations

from occle_core.datasets.base import Dataset, HasSweeps
from occle_core.frame import Frame

MAX_GAP = 1_000_000_000
"""Nanoseconds between two frames of one drive; what lies farther apart does not belong together."""


class FrameHistory:
    """The last frames that have a pose. They are forgotten when time jumps, back or by more than a second.

    Args:
        frames: how many frames the network sees, the present one included.
        stride: it sees each n-th of the frames before the present one.
    """

    def __init__(self, frames: int, stride: int = 1) -> None:
        self._wanted, self._stride = frames, stride
        self._past: list[Frame] = []

    def with_past(self, frame: Frame) -> tuple[list[Frame], str]:
        """A frame and those before it.

        Returns:
            At most as many frames as are wanted, newest first, and why they are fewer: "no_pose" (the frame has no
            T_world_lidar), "time_jump" (the frame does not follow the one before) or "filling" (few frames came so far); else "".
        """
        if self._wanted == 1:
            return [frame], ""
        if frame.T_world_lidar is None:
            return [frame], "no_pose"
        if not self._continues(frame):
            return [frame], "time_jump"
        frames = [frame, *self._past[self._stride - 1 :: self._stride]]
        return frames, "" if len(frames) == self._wanted else "filling"

    def keep(self, frame: Frame) -> None:
        """Add a frame; one without a pose is missing in the history of those that follow."""
        if frame.T_world_lidar is not None:
            past = self._past if self._continues(frame) else []
            self._past = [frame, *past][: (self._wanted - 1) * self._stride]

    def clear(self) -> None:
        """Forget all frames: another drive begins."""
        self._past = []

    def _continues(self, frame: Frame) -> bool:
        return not self._past or 0 < frame.stamp - self._past[0].stamp <= MAX_GAP


def past_frames(dataset: Dataset, i: int, frames: int, stride: int = 1) -> list[int]:
    """The frames that a `FrameHistory` gives for frame `i` of a recording after all before it: numbers, newest first, `i` included.

    Args:
        dataset: the recording.
        i: the present frame.
        frames, stride: as `FrameHistory` takes them.
    """
    past: list[int] = []
    newest = i
    for k in range(i - 1, -1, -1) if frames > 1 and dataset.pose(i) is not None else ():
        if len(past) == (frames - 1) * stride:
            break
        if dataset.pose(k) is not None:
            if not 0 < dataset.stamps[newest] - dataset.stamps[k] <= MAX_GAP:
                break
            past.append(k)
            newest = k
    return [i, *past[stride - 1 :: stride]]


def history_begin(dataset: Dataset, i: int, frames: int, stride: int = 1) -> int:
    """The frame of a recording from which on the history of frame `i` is complete: as many frames with a pose lie between.

    Args:
        dataset: the recording.
        i: the present frame.
        frames, stride: as `FrameHistory` takes them.
    """
    wanted = (frames - 1) * stride
    begin = i
    while begin and wanted:
        begin -= 1
        wanted -= dataset.pose(begin) is not None
    return begin


def scans_before(dataset: Dataset, i: int, frames: int) -> list[Frame]:
    """Frame `i` and the scans before it for a network that reads sweeps, newest first: those between frames where there are some.

    Args:
        dataset: the recording.
        i: the present frame.
        frames: how many scans, the present one included.
    """
    present = dataset.frame(i)
    if isinstance(dataset, HasSweeps):
        return [present, *(past for past in dataset.sweeps(i, frames - 1) if 0 < present.stamp - past.stamp <= frames * MAX_GAP)]
    past = past_frames(dataset, i, frames)[1:]
    scans = [Frame(dataset.stamps[k], dataset.points(k), T_world_lidar=dataset.pose(k)) for k in past]
    return [present, *scans]

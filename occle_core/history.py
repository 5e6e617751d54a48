"""The frames before the present one, for networks that look at several."""

from __future__ import annotations

from occle_core.frame import Frame

MAX_GAP = 1_000_000_000
"""Nanoseconds between two frames of one drive; what lies farther apart does not belong together."""


class History:
    """What was seen last. It is forgotten when time jumps, back or by more than a second, and where a pose is not known.

    Args:
        frames: how many frames the network sees, the present one included.
    """

    def __init__(self, frames: int) -> None:
        self._wanted = frames
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
        if self._past and not 0 < frame.stamp - self._past[0].stamp <= MAX_GAP:
            return [frame], "time_jump"
        frames = [frame, *self._past]
        return frames, "" if len(frames) == self._wanted else "filling"

    def keep(self, frames: list[Frame]) -> None:
        """Remember what `with_past` gave; of a frame without a pose nothing is remembered."""
        self._past = frames[: self._wanted - 1] if frames[0].T_world_lidar is not None else []

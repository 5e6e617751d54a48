# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses over time: interpolation in SE(3), at constant velocity between two poses and a little beyond the known ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrices = NDArray[np.float64]


class PoseGapError(LookupError):
    """A time for which no pose is known; the message says which times are."""


class Trajectory:
    """Poses of a body in a world that stands still.

    Args:
        stamps: (K,) integer nanoseconds, ascending, K >= 1.
        poses: (K, 4, 4) T_world_body. From one to the next the body turns by less than half a turn.

    Raises:
        ValueError: the stamps do not ascend, or there are not as many poses.
    """

    def __init__(self, stamps: Sequence[int] | NDArray[np.int64], poses: ArrayLike) -> None:
        self.stamps = np.asarray(stamps, np.int64)
        self.poses = np.asarray(poses, np.float64)
        if len(self.stamps) < 1 or self.poses.shape != (len(self.stamps), 4, 4) or (np.diff(self.stamps) <= 0).any():
            raise ValueError(f"a trajectory needs ascending stamps and as many poses, not {self.stamps} and {self.poses.shape}")
        self._seconds = np.diff(self.stamps) / 1e9
        self._twists = log_se3(np.linalg.inv(self.poses[:-1]) @ self.poses[1:])

    def at(self, stamps: ArrayLike, slack: int = 0) -> Matrices:
        """(M, 4, 4) T_world_body at the given times (M,), nanoseconds.

        Args:
            stamps: any order.
            slack: nanoseconds before the first and after the last pose to which the motion is extrapolated.

        Raises:
            PoseGapError: a time lies outside by more than the slack, or there is one pose only and another time is asked for.
        """
        wanted = np.asarray(stamps, np.int64)
        first, last = int(self.stamps[0]), int(self.stamps[-1])
        if len(wanted) and (wanted.min() < first - slack or wanted.max() > last + slack):
            span = f"{wanted.min() / 1e9:.3f} to {wanted.max() / 1e9:.3f} s"
            raise PoseGapError(f"poses are known from {first / 1e9:.3f} to {last / 1e9:.3f} s, not from {span}")
        if len(self.stamps) == 1:
            if (wanted != first).any():
                raise PoseGapError(f"one pose only is known, of {first / 1e9:.3f} s")
            return np.broadcast_to(self.poses[0], (len(wanted), 4, 4)).copy()
        before = np.clip(np.searchsorted(self.stamps, wanted, "right") - 1, 0, len(self.stamps) - 2)
        share = (wanted - self.stamps[before]) / 1e9 / self._seconds[before]
        return self.poses[before] @ exp_se3(self._twists[before] * share[:, None])


def exp_se3(twists: NDArray[np.float64]) -> Matrices:
    """(N, 6) twists, translation part before rotation vector (radians) -> (N, 4, 4) rigid transforms."""
    v, w = twists[:, :3], twists[:, 3:]
    theta2 = (w * w).sum(axis=1)
    theta = np.sqrt(theta2)
    small = theta < 1e-4
    safe = np.where(small, 1.0, theta)
    a = np.where(small, 1 - theta2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - theta2 / 24, (1 - np.cos(safe)) / safe**2)
    c = np.where(small, 1 / 6 - theta2 / 120, (safe - np.sin(safe)) / safe**3)
    W, W2 = _skew(w)
    out = np.zeros((len(twists), 4, 4))
    out[:, :3, :3] = np.eye(3) + a[:, None, None] * W + b[:, None, None] * W2
    V = np.eye(3) + b[:, None, None] * W + c[:, None, None] * W2
    out[:, :3, 3] = np.einsum("nij,nj->ni", V, v)
    out[:, 3, 3] = 1
    return out


def log_se3(T: Matrices) -> NDArray[np.float64]:
    """Inverse of `exp_se3` for rotations by less than half a turn."""
    R, t = T[:, :3, :3], T[:, :3, 3]
    axis = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=1) / 2
    sine, cosine = np.linalg.norm(axis, axis=1), (np.trace(R, axis1=1, axis2=2) - 1) / 2
    theta = np.arctan2(sine, cosine)
    small = theta < 1e-4
    w = axis * np.where(small, 1 + theta**2 / 6, theta / np.where(small, 1.0, sine))[:, None]
    half = np.where(small, 1.0, theta / 2)
    c = np.where(small, 1 / 12 + theta**2 / 720, (1 - half / np.tan(half)) / np.where(small, 1.0, theta) ** 2)
    W, W2 = _skew(w)
    return np.concatenate([np.einsum("nij,nj->ni", np.eye(3) - W / 2 + c[:, None, None] * W2, t), w], axis=1)


def _skew(w: NDArray[np.float64]) -> tuple[Matrices, Matrices]:
    """Cross-product matrices of (N, 3) vectors, and their squares."""
    W = np.zeros((len(w), 3, 3))
    W[:, 2, 1], W[:, 0, 2], W[:, 1, 0] = w.T
    W -= W.transpose(0, 2, 1)
    return W, W @ W

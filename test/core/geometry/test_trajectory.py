# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SE(3): exponential and logarithm against scipy, interpolation against motion in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_core.geometry.trajectory import PoseGapError, Trajectory, exp_se3, log_se3

SECOND = 1_000_000_000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([0.0, 1e-9, 1e-5, 1e-3, 0.3, 2.0, 3.1]))
def test_exponential_is_the_matrix_exponential_and_the_logarithm_its_inverse(seed, angle):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    twist = np.concatenate([rng.normal(0, 5, 3), axis / np.linalg.norm(axis) * angle])
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = [[0, -twist[5], twist[4]], [twist[5], 0, -twist[3]], [-twist[4], twist[3], 0]]
    matrix[:3, 3] = twist[:3]
    T = exp_se3(twist[None])
    np.testing.assert_allclose(T[0], scipy.linalg.expm(matrix), atol=1e-9)
    np.testing.assert_allclose(exp_se3(log_se3(T)), T, atol=1e-8)
    np.testing.assert_allclose(log_se3(T)[0], twist, atol=1e-6)


def circle(seconds: np.ndarray, speed: float = 10.0, turn: float = np.radians(30)) -> np.ndarray:
    """Poses of a car that drives a circle, x ahead, in closed form."""
    yaw, radius = turn * seconds, speed / turn
    T = np.tile(np.eye(4), (len(seconds), 1, 1))
    T[:, 0, 0] = T[:, 1, 1] = np.cos(yaw)
    T[:, 1, 0], T[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    T[:, 0, 3], T[:, 1, 3] = radius * np.sin(yaw), radius * (1 - np.cos(yaw))
    return T


def test_a_circle_is_interpolated_and_continued_exactly():
    known = np.arange(6) * 0.5
    trajectory = Trajectory((known * SECOND).astype(np.int64), circle(known))
    asked = np.array([0.0, 0.1, 0.5, 1.234, 2.5, -0.1, 2.6])
    stamps = np.round(asked * SECOND).astype(np.int64)
    np.testing.assert_allclose(trajectory.at(stamps, slack=SECOND // 5), circle(asked), atol=1e-9)
    with pytest.raises(PoseGapError, match=r"known from 0\.000 to 2\.500 s, not from -0\.100 to 2\.600 s"):
        trajectory.at(stamps, slack=SECOND // 20)


def test_one_pose_serves_its_own_time_alone():
    alone = Trajectory([5], circle(np.array([0.3])))
    np.testing.assert_array_equal(alone.at([5, 5]), circle(np.array([0.3, 0.3])))
    with pytest.raises(PoseGapError, match="one pose only"):
        alone.at([6], slack=10)


@pytest.mark.parametrize("stamps", [[], [1, 1], [2, 1]])
def test_stamps_ascend(stamps):
    with pytest.raises(ValueError, match="ascending stamps"):
        Trajectory(stamps, np.tile(np.eye(4), (len(stamps), 1, 1)))

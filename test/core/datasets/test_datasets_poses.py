# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Quaternions and boxes of data sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occle_core.datasets.poses import inside_oriented_box, transform_from_row


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_rotate_like_their_product(q):
    """R v equals q v q* by the quaternion product, for any length of q."""
    w, u = q[0] / np.linalg.norm(q), np.array(q[1:]) / np.linalg.norm(q)
    matrix = transform_from_row({"rotation": q, "translation": [1, 2, 3]})
    for v in np.eye(3):
        expected = 2 * u.dot(v) * u + (w * w - u.dot(u)) * v + 2 * w * np.cross(u, v)
        np.testing.assert_allclose(matrix[:3, :3] @ v, expected, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert matrix[:, 3].tolist() == [1, 2, 3, 1]


def test_boxes_are_closed_by_their_margin():
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    points = np.array([[1, 2, 3], [3.05, 2, 3], [3.2, 2, 3], [1, 3.05, 3], [1, 2, 4.2]])
    assert inside_oriented_box(points, T, (4, 2, 2)).tolist() == [True, True, False, True, False]

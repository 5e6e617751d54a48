# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_core.sensors.returns import inside_box, no_return

NUMBERS = st.sampled_from([0.0, -0.0, 1e-30, -1.0, 2.5, float("nan"), float("inf")])


@settings(max_examples=100)
@given(st.lists(st.tuples(*[NUMBERS] * 4), max_size=12), st.integers(3, 4), st.sampled_from([np.float32, np.float64]))
def test_rows_at_exactly_zero_have_no_return(rows, columns, dtype):
    points = np.array(rows, dtype).reshape(-1, 4)[:, :columns]
    expected = [bool(x == 0 and y == 0 and z == 0) for x, y, z in points[:, :3].tolist()]
    assert no_return(points).tolist() == expected
    assert no_return(np.asfortranarray(points)).tolist() == expected


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(0.1, 4)] * 3))
def test_points_inside_a_box_of_another_frame(seed, lowest, size):
    rng = np.random.default_rng(seed)
    T, (Q, _) = np.eye(4), np.linalg.qr(rng.normal(size=(3, 3)))
    T[:3, :3], T[:3, 3] = Q * np.sign(np.linalg.det(Q)), rng.normal(size=3)
    points = rng.normal(0, 4, (200, 4)).astype(np.float32)
    box = (*lowest, *(low + extent for low, extent in zip(lowest, size)))
    found = inside_box(points, T, box)
    for point, is_inside in zip(points.astype(np.float64), found):
        x, y, z = T[:3, :3] @ point[:3] + T[:3, 3]
        margins = (x - box[0], y - box[1], z - box[2], box[3] - x, box[4] - y, box[5] - z)
        if min(abs(margin) for margin in margins) > 1e-4:  # single precision decides on the border
            assert is_inside == (min(margins) > 0)


def test_borders_belong_to_the_box():
    points = np.array([[1, 1, 1], [2, 2, 2], [2.001, 2, 2], [0.999, 1, 1]], np.float32)
    assert inside_box(points, np.eye(4), (1, 1, 1, 2, 2, 2)).tolist() == [True, True, False, False]

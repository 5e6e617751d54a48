# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""geometry_msgs Transform of a matrix."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Transform

from occle_core.sensors.transforms import Matrix


def transform_from_matrix(T: Matrix) -> Transform:
    """geometry_msgs Transform of a rigid transform (4, 4)."""
    R = np.asarray(T, np.float64)[:3, :3]
    # The largest eigenvector of this symmetric matrix is the quaternion closest to R, also when R is only nearly orthonormal.
    (a, b, c), (d, e, f), (g, h, i) = R
    N = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(N)[1][:, -1]
    message = Transform()
    message.translation.x, message.translation.y, message.translation.z = (float(v) for v in T[:3, 3])
    sign = 1.0 if w >= 0 else -1.0
    message.rotation.x, message.rotation.y, message.rotation.z, message.rotation.w = (float(sign * v) for v in (x, y, z, w))
    return message

# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TF messages (tf2_msgs has no wheel)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from geometry_msgs.msg import TransformStamped

from occle_ros.messages.common import time_from
from occle_ros.messages.transforms import transform_from_matrix


def tf_message(parent: str, child: str, T: np.ndarray, stamp: int = 0) -> SimpleNamespace:
    """The content of a tf2_msgs/TFMessage with one transform."""
    one = TransformStamped(child_frame_id=child, transform=transform_from_matrix(T))
    one.header.frame_id, one.header.stamp = parent, time_from(stamp)
    return SimpleNamespace(transforms=[one])

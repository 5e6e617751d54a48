# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Stamps, headers, byte arrays and classes of ROS messages."""

from __future__ import annotations

import importlib
from array import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Header

from occle_core.sensors.messages import NANOSECONDS, ConversionError


def time_from(stamp: int) -> Time:
    """builtin_interfaces Time of integer nanoseconds.

    Raises:
        ConversionError: the seconds do not fit in the message's int32.
    """
    sec, nanosec = divmod(int(stamp), NANOSECONDS)
    if not -(2**31) <= sec < 2**31:
        raise ConversionError(f"{stamp} ns does not fit in a ROS time; are the stamps in nanoseconds?")
    return Time(sec=sec, nanosec=nanosec)


def header(stamp: int, frame_id: str) -> Header:
    """Message header; the stamp is in nanoseconds."""
    return Header(stamp=time_from(stamp), frame_id=frame_id)


def bytes_of(values: NDArray[Any]) -> array[int]:
    """Bytes of an array for a message's `data`; rclpy would copy an ndarray element by element (200 ms per cloud)."""
    data = array("B")
    if values.size:
        data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


def message_class(name: str) -> type | None:
    """Class of a message type such as "sensor_msgs/msg/Image"; None if its package is not installed."""
    package, _, short = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), short, None)
    except (ImportError, TypeError, ValueError):  # also names that cannot be a package
        return None

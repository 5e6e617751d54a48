# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""PointCloud2 as public drivers lay it out, without ROS: plain objects with the message's attributes."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

NUMBER = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


@dataclass(frozen=True)
class Driver:
    """Fields (name, type, offset), bytes per point, and what the time field holds.

    Args:
        unit: seconds per unit of the time field. absolute: since 1970, else since the scan's first point or the stamp.
        stamp: the scan's start, middle or end. since_stamp: relative times count from the stamp, not from the first point.
    """

    fields: tuple[tuple[str, str, int], ...]
    step: int
    time: str
    unit: float
    absolute: bool
    stamp: str
    since_stamp: bool = False


XYZI = (("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8), ("intensity", "f4", 12))
DRIVERS = {
    # ros-drivers/velodyne: velodyne_pcl/point_types.hpp; stamped by the last packet unless timestamp_first_packet is set, and
    # the times are those since the stamp: negative.
    "velodyne": Driver((*XYZI, ("ring", "u2", 16), ("time", "f4", 18)), 22, "time", 1.0, False, "end", True),
    "velodyne, first packet": Driver((*XYZI, ("ring", "u2", 16), ("time", "f4", 18)), 22, "time", 1.0, False, "start"),
    # ouster-lidar/ouster-ros: os_point.h, nanoseconds since the scan's stamp, PCL's padding after z.
    "ouster": Driver(
        (*XYZI[:3], ("intensity", "f4", 16), ("t", "u4", 20), ("reflectivity", "u2", 24), ("ring", "u2", 26),
         ("ambient", "u2", 28), ("range", "u4", 32)), 48, "t", 1e-9, False, "start"),
    # HesaiTechnology/HesaiLidar_ROS_2.0: source_driver_ros2.hpp, ToRosMsg.
    "hesai": Driver((*XYZI, ("ring", "u2", 16), ("timestamp", "f8", 18)), 26, "timestamp", 1.0, True, "start"),
    # Livox-SDK/livox_ros_driver2: lddc.cpp, InitPointcloud2MsgHeader: a double of nanoseconds.
    "livox": Driver(
        (*XYZI, ("tag", "u1", 16), ("line", "u1", 17), ("timestamp", "f8", 18)), 26, "timestamp", 1e-9, True, "start"),
    # The points of livox_ros_driver2/CustomMsg as the converters to PointCloud2 pack them.
    "livox custom": Driver(
        (*XYZI[:3], ("reflectivity", "u1", 12), ("tag", "u1", 13), ("line", "u1", 14), ("offset_time", "u4", 15)), 19,
        "offset_time", 1e-9, False, "start"),
    # RoboSense-LiDAR/rslidar_sdk: source_pointcloud_ros.hpp; the stamp is the last point's unless ts_first_point is set.
    "robosense": Driver((*XYZI, ("ring", "u2", 16), ("timestamp", "f8", 18)), 26, "timestamp", 1.0, True, "end"),
    # Milliseconds and microseconds, as smaller sensors send them, and a stamp in the middle.
    "microseconds": Driver((*XYZI, ("ts", "u4", 16)), 20, "ts", 1e-6, False, "start"),
    "milliseconds": Driver((*XYZI, ("time", "f4", 16)), 20, "time", 1e-3, False, "middle", True),
    # Autoware's PointXYZIRCAEDT: nanoseconds since the stamp.
    "autoware": Driver((*XYZI[:3], ("intensity", "u1", 12), ("return_type", "u1", 13), ("channel", "u2", 14),
                        ("azimuth", "f4", 16), ("elevation", "f4", 20), ("distance", "f4", 24), ("time_stamp", "u4", 28)), 32,
                       "time_stamp", 1e-9, False, "start"),
}  # fmt: skip


def cloud(driver: Driver, seconds: np.ndarray, points: np.ndarray, start_ns: int, big: bool = False) -> SimpleNamespace:
    """A scan of points (N, 3) that were measured `seconds` (N,) after `start_ns`."""
    order = ">" if big else "<"
    names, codes, offsets = zip(*driver.fields)
    dtype = np.dtype({"names": names, "formats": [order + code for code in codes], "offsets": offsets, "itemsize": driver.step})
    rows = np.zeros(len(seconds), dtype)
    rows["x"], rows["y"], rows["z"] = points.T
    shift = {"start": 0.0, "middle": (seconds.min() + seconds.max()) / 2, "end": seconds.max()}[driver.stamp]
    stamp = start_ns + round(shift * 1e9)
    values = seconds - shift if driver.since_stamp else seconds
    if driver.absolute:  # whole nanoseconds first: a double cannot hold 1970 and nanoseconds in seconds
        values = (start_ns + np.round(seconds * 1e9).astype(np.int64)).astype(np.float64) * (1e-9 / driver.unit)
        rows[driver.time] = values
    else:
        rows[driver.time] = np.round(values / driver.unit) if driver.unit == 1e-9 else values / driver.unit
    fields = [SimpleNamespace(name=n, datatype=NUMBER[c], offset=o, count=1) for n, c, o in driver.fields]
    sec, nanosec = divmod(stamp, 1_000_000_000)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="lidar"), height=1, width=len(rows),
        fields=fields, point_step=driver.step, row_step=driver.step * len(rows), is_bigendian=big, data=rows.tobytes(),
    )  # fmt: skip

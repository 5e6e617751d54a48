# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parameters of the LiDARs: the main one, further ones, and motion compensation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from occle_core.rig.description import Box, Offset, StampMeaning
from occle_ros.config.parameter_group import Matrix, ParameterGroup


class PointCloudConfig(ParameterGroup):
    """One PointCloud2 topic."""

    topic: str = Field(
        "lidar/points",
        min_length=1,
        description="PointCloud2 topic of the scans, each starts a frame; relative: in the namespace",
    )
    intensity_scale: float = Field(1.0, gt=0, le=1e6, description="factor that scales the sensor's intensity to 0..1")
    time_field: str = Field(
        "", description="field with the points' times; empty: t, time, timestamp, offset_time, ts or time_stamp, where there is one"
    )
    stamp: StampMeaning = Field(
        "auto", description="what the scans' stamp is; auto: as the points' times say. Others put that end of the scan at the stamp"
    )


class LidarConfig(PointCloudConfig):
    """The main LiDAR, whose scans start the frames."""

    exclude_box: Box = Field(
        (),
        description="box around the robot's own body, 6 numbers: x, y, z of the lowest corner, then of the highest, metres, grid "
        "frame; points inside are dropped; empty: no box",
    )
    deskew: Literal["auto", "off", "tf", "odometry", "kiss_icp"] = Field(
        "auto",
        description="source of the poses that scans are compensated for motion with, to the frame's stamp; auto: "
        "lidar.odometry_topic if set, else TF, for scans whose points have times; kiss_icp: registration of the scans, no topic",
    )
    odometry_topic: str = Field(
        "", description="nav_msgs/Odometry topic with the robot's poses, for lidar.deskew auto and odometry; empty: none"
    )


class FurtherLidarConfig(PointCloudConfig):
    """A further LiDAR, whose nearest scan is merged into each frame."""

    topic: str = Field(min_length=1, description="PointCloud2 topic of a further LiDAR")
    time_offset_ms: Offset = Field(0.0, description="offset added to this LiDAR's stamps")
    exclude_box: Box = Field(
        (), description="as lidar.exclude_box, which is applied to this LiDAR too; for what it alone sees; empty: no box of its own"
    )
    T_lidar: Matrix = Field(
        (), description="this LiDAR to the main LiDAR's frame, 16 numbers in row-major order, metres; empty: from TF"
    )
